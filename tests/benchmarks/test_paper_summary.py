"""The page of the paper's tables says what the benchmark found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_results_say(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    subprocess.run([sys.executable, ROOT / "benchmarks" / "paper_summary.py", "--output", page], check=True)
    assert page.read_text() == (ROOT / "docs" / "paper_tables.md").read_text()


def test_every_picture_of_the_page_exists() -> None:
    text = (ROOT / "docs" / "paper_tables.md").read_text()
    pictures = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert pictures
    assert all((ROOT / "docs" / picture).is_file() for picture in pictures)
