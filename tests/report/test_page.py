"""The page: what is in it, and how it behaves in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from blsm.report.chart import Axis, Chart, Panel, Series
from blsm.report.page import Section, Table, page

pytest.importorskip("plotly")

BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
#: What a reader does, written into the page's attributes: switches the theme, sorts a column up and down.
READER = """<script>
const seen = {};
const column = (at) => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[at].textContent);
const ground = () => getComputedStyle(document.body).backgroundColor;
const line = () => document.querySelector("#a-0 .scatterlayer path.js-line, #a-0 .point").style.cssText;
seen.themes = [[ground(), line()]];
document.getElementById("theme").click();
seen.themes.push([ground(), line()]);
seen.figures = [...document.querySelectorAll(".plot")].map((plot) => plot.querySelectorAll("svg.main-svg").length > 0);
seen.titles = [...document.querySelectorAll(".xtitle")].map((title) => title.textContent);
const header = document.querySelectorAll("th button")[1];
header.click();
seen.ascending = column(1);
header.click();
seen.descending = column(1);
seen.sorted = header.parentNode.ariaSort;
seen.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.dataset.seen = JSON.stringify(seen);
for (const format of ["png", "svg"]) {
  Plotly.toImage(...picture("b-0", format)).then((url) => { document.body.dataset[format] = url.slice(0, 40); });
}
</script></body>"""


def _sections() -> list[Section]:
    points = Series("HIL", [0.1, 1.0, 10.0], [0.5, 0.6, 0.7], colour="hil", hover=["a", "b", "c"])
    bars = Series("", [3.0, 1.0], ["mbconv", "conv"], "bars", "sm")
    log = Panel("left", Axis("latency, ms", log=True), Axis("accuracy", percent=True), (points,))
    charts = (
        Chart("a", "First", "How to read it.", (log,)),
        Chart("b", "Second", "", (Panel("", Axis("time, s"), Axis(""), (bars,)), log)),
    )
    table = Table(("name", "latency, ms"), [("x", 9.5), ("</script><b>", 10.25), ("y", None), ("z", 0.5)], ("", ".2f"))
    return [Section("One", "A sentence.", (("HNQ", "0.1"),), charts, (table,), "feasible", "good")]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page("Title <&>", _sections(), ["Nothing of this & that."]))
    return path


def test_it_needs_nothing_else(written: Path) -> None:
    text = written.read_text()
    own = re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.S)
    assert len(own) < 40_000, "what is left without Plotly's script is ours"
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"(?!data:)", text)
    assert "url(" not in own


def test_text_is_escaped_and_what_is_missing_is_said(written: Path) -> None:
    text = written.read_text()
    assert "<title>Title &lt;&amp;&gt;</title>" in text
    assert "&lt;/script&gt;&lt;b&gt;" in text
    assert "<li>Nothing of this &amp; that.</li>" in text
    assert "What is not here" not in page("t", _sections(), [])


def test_every_section_can_be_reached_and_says_its_verdict(written: Path) -> None:
    text = written.read_text()
    targets = re.findall(r'<a href="#(.*?)">', text)
    assert targets == ["section-0", "missing"]
    assert all(f'id="{target}"' in text for target in targets)
    assert '<span class="badge good">feasible</span></h2>' in text


def test_long_tables_are_folded_up_and_long_texts_cut_short() -> None:
    few, many = (Table(("name",), [("n" * 41,)] * count, ("",), "Trials") for count in (12, 13))
    text = page("t", [Section("One", tables=(few, many))], [])
    assert "<details open><summary>Trials <small>12 rows</small></summary>" in text
    assert "<details><summary>Trials <small>13 rows</small></summary>" in text
    assert f'<td class="long" title="{"n" * 41}">' in text


def test_figures_are_data_that_cannot_end_their_script(written: Path) -> None:
    series = Series("</script>", [1.0], [1.0], hover=["</script>"])
    section = Section("", charts=(Chart("a", "", "", (Panel("", Axis("x"), Axis("y"), (series,)),)),))
    found = re.search(r'id="figures">(.*?)</script>', page("t", [section], []), re.S)
    assert found
    assert json.loads(found.group(1))["a-0"]["data"][0]["name"] == "</script>"


def _browse(path: Path, *options: str) -> tuple[str, str]:
    """What the page becomes in a browser, and what the browser says."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *options]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=240, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium-headless-shell")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(written: Path, tmp_path: Path, width: int) -> None:
    read = tmp_path / "read.html"
    read.write_text(written.read_text().replace("</body>", READER))
    dom, console = _browse(read, "--virtual-time-budget=5000", f"--window-size={width},2000", "--dump-dom")
    assert console == ""
    found = re.search(r'data-seen="(.*?)"', dom)
    assert found
    seen: dict[str, Any] = json.loads(found.group(1).replace("&quot;", '"'))
    assert seen["figures"] == [True, True, True]
    assert seen["titles"] == ["latency, ms", "time, s", "latency, ms"]
    (light, light_line), (dark, dark_line) = seen["themes"]
    assert light != dark
    assert light_line != dark_line
    assert not seen["wide"], "the page must not scroll sideways"
    numbers = [[cell for cell in seen[order] if cell] for order in ("ascending", "descending")]
    assert numbers == [["0.50", "9.50", "10.25"], ["10.25", "9.50", "0.50"]]
    assert seen["sorted"] == "descending"
    assert 'data-png="data:image/png;base64,iVBOR' in dom
    assert 'data-svg="data:image/svg+xml,%3Csvg' in dom


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium-headless-shell")
def test_an_error_on_the_page_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "broken.html"
    path.write_text("<!doctype html><script>nothing.here()</script>")
    assert "nothing is not defined" in _browse(path, "--dump-dom")[1]
