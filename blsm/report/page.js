"use strict";

// Figures carry roles in place of colours ("role:hil", "role:hil:0.3"): the style sheet says what they are by theme.
const figures = JSON.parse(document.getElementById("figures").textContent);
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function colour(role) {
  const [, name, opacity] = role.split(":");
  const hex = getComputedStyle(root).getPropertyValue("--" + name).trim();
  if (opacity === undefined) return hex;
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${parts.join(",")},${opacity})`;
}

function filled(value) {
  if (typeof value === "string") return value.startsWith("role:") ? colour(value) : value;
  if (Array.isArray(value)) return value.map(filled);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, filled(part)]));
}

function draw() {
  const config = {
    responsive: true,
    displaylogo: false,
    // A finger needs no bar of tools over the figure: it scrolls and taps.
    displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
    modeBarButtonsToRemove: ["toImage", "lasso2d", "select2d"],
  };
  for (const [id, figure] of Object.entries(figures)) {
    const { data, layout } = filled(figure);
    Plotly.react(id, data, layout, config);
  }
}

// What Plotly needs to make a picture of a figure as large as it is on the page, with the page's background.
function picture(id, format) {
  const { data, layout } = filled(figures[id]);
  const { width, height } = document.getElementById(id).getBoundingClientRect();
  const background = colour("role:paper");
  const shown = { ...layout, width, height, paper_bgcolor: background, plot_bgcolor: background };
  return [{ data, layout: shown }, { format, filename: id, width, height, scale: format === "png" ? 2 : 1 }];
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
}

function themed() {
  document.getElementById("theme").textContent = isDark() ? "Light" : "Dark";
  draw();
}

function sort(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const descending = header.ariaSort === "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  header.ariaSort = descending ? "descending" : "ascending";
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b)) * (descending ? -1 : 1));
  table.tBodies[0].append(...rows);
}

document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  themed();
});
systemDark.addEventListener("change", themed);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.format) Plotly.downloadImage(...picture(button.dataset.figure, button.dataset.format));
  else if (button.parentNode.tagName === "TH") sort(button.parentNode);
});
themed();
