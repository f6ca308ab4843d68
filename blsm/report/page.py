"""The report as one self-contained HTML page: sections of figures and sortable tables, with all it needs inside."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

from blsm._version import __version__
from blsm.report.chart import COLOURS, Chart
from blsm.report.interactive import plotly_figure

Cell = str | int | float

#: Tables with more rows are folded up at first; longer texts in a cell are cut short, and whole in a tooltip.
_OPEN_ROWS, _LONG = 12, 40
_MISSING = "What is not here"


@dataclass(frozen=True)
class Table:
    """A table that a click on a header sorts.

    Attributes:
        headers: one a column, with units.
        rows: numbers as numbers: they are sorted as such.
        formats: format specification of each column, e.g. `.1%`; empty for text.
        caption: above it, and what folds it up.
    """

    headers: tuple[str, ...]
    rows: Sequence[Sequence[Cell | None]]
    formats: tuple[str, ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        text: a sentence under it; may be empty.
        facts: (what, value) shown large.
        charts: its figures.
        tables: its tables.
        badge: a word or two beside the heading that sum it up; may be empty.
        colour: of the badge, a role of `COLOURS`.
    """

    title: str
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    badge: str = ""
    colour: str = "muted"


def page(title: str, sections: Sequence[Section], missing: Sequence[str]) -> str:
    """The whole page as HTML.

    Args:
        title: its heading.
        sections: from top to bottom.
        missing: what could be in the report and is not, and the command that makes it; a sentence each.
    """
    from plotly.offline import get_plotlyjs

    figures = {
        f"{chart.key}-{number}": plotly_figure(panel)
        for section in sections
        for chart in section.charts
        for number, panel in enumerate(chart.panels)
    }
    body = "".join(_section(section, number) for number, section in enumerate(sections)) + _missing(missing)
    titles = [(f"section-{number}", section.title) for number, section in enumerate(sections)]
    titles += [("missing", _MISSING)] if missing else []
    links = "".join(f'<a href="#{name}">{_text(heading)}</a>' for name, heading in titles)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="blsm {__version__}">
<link rel="icon" href="data:,">
<title>{_text(title)}</title>
<style>{_colours()}{_asset("page.css")}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
<p>blsm {__version__}, {made}</p>
<button id="theme" type="button">Dark</button>
<nav>{links}</nav>
</header>
<main>
{body}</main>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="figures">{_script_json(figures)}</script>
<script>{_asset("page.js")}</script>
</body>
</html>
"""


def _section(section: Section, number: int) -> str:
    badge = f' <span class="badge {section.colour}">{_text(section.badge)}</span>' if section.badge else ""
    parts = [f'<section id="section-{number}">\n<h2>{_text(section.title)}{badge}</h2>\n']
    if section.text:
        parts.append(f"<p>{_text(section.text)}</p>\n")
    if section.facts:
        facts = "".join(f"<div><dt>{_text(what)}</dt><dd>{_text(value)}</dd></div>" for what, value in section.facts)
        parts.append(f"<dl>{facts}</dl>\n")
    parts += ['<div class="figures">\n', *map(_chart, section.charts), "</div>\n"] if section.charts else []
    parts += map(_table, section.tables)
    return "".join([*parts, "</section>\n"])


def _chart(chart: Chart) -> str:
    panels = "".join(
        f'<div class="panel"><div class="plot" id="{chart.key}-{number}" role="img" '
        f'aria-label="{_text(f"{chart.title} {panel.title}".strip())}"></div><p class="save">'
        f'<button type="button" data-figure="{chart.key}-{number}" data-format="png">PNG</button>'
        f'<button type="button" data-figure="{chart.key}-{number}" data-format="svg">SVG</button></p></div>\n'
        for number, panel in enumerate(chart.panels)
    )
    many = " many" if len(chart.panels) > 1 else ""
    narrow = ' class="narrow"' if chart.narrow else ""
    return (
        f'<figure id="{chart.key}"{narrow}>\n<h3>{_text(chart.title)}</h3>\n'
        f'<div class="panels{many}">\n{panels}</div>\n'
        f"<figcaption>{_text(chart.caption)}</figcaption>\n</figure>\n"
    )


def _table(table: Table) -> str:
    headers = "".join(
        f'<th scope="col"{_right(form)}><button type="button">{_text(header)}</button></th>'
        for header, form in zip(table.headers, table.formats, strict=True)
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row, table.formats))}</tr>\n" for row in table.rows)
    count = len(table.rows)
    summary = f"<summary>{_text(table.caption)} <small>{count} {'row' if count == 1 else 'rows'}</small></summary>"
    head, body = f"<thead><tr>{headers}</tr></thead>\n", f"<tbody>\n{rows}</tbody>"
    folded = "" if count > _OPEN_ROWS else " open"
    return f'<details{folded}>{summary}<div class="scroll"><table>{head}{body}</table></div></details>\n'


def _cell(value: Cell | None, form: str) -> str:
    if value is None:
        return f"<td{_right(form)}></td>"
    shown = format(value, form)
    if form:
        return f'<td class="number" data-value="{value!r}">{_text(shown)}</td>'
    long = f' class="long" title="{_text(shown)}"' if len(shown) > _LONG else ""
    return f"<td{long}>{_text(shown)}</td>"


def _right(form: str) -> str:
    """Numbers are aligned to the right."""
    return ' class="number"' if form else ""


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    items = "".join(f"<li>{_text(sentence)}</li>\n" for sentence in missing)
    return f'<section id="missing">\n<h2>{_MISSING}</h2>\n<ul>\n{items}</ul>\n</section>\n'


def _colours() -> str:
    """The roles of `COLOURS` as variables of the style sheet, for both themes."""
    light, dark = ("".join(f"--{role}:{pair[theme]};" for role, pair in COLOURS.items()) for theme in (0, 1))
    return (
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
    )


def _asset(name: str) -> str:
    return files("blsm.report").joinpath(name).read_text(encoding="utf-8")


def _script_json(data: object) -> str:
    """JSON that can't end the script element it stands in."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _text(text: str) -> str:
    return html.escape(text)
