"""blsm report"""

from __future__ import annotations

import argparse
from pathlib import Path

from blsm.cli import common

NAME = "report"
HELP = "draw what a folder holds (searches, profiles, latency models, evaluations) as one HTML page"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the folder and the outputs."""
    command.add_argument("folder", type=Path, metavar="DIR", help="of a search, a comparison, profiles, models")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html", help="page to write")
    command.add_argument("--title", help="heading of the page (default: the folder's name)")
    command.add_argument("--pictures", type=Path, metavar="DIR", help="also write each figure as a picture into DIR")
    command.add_argument("--format", choices=("png", "svg"), default="png", help="of the pictures (default: png)")


def run(options: argparse.Namespace) -> None:
    """Reads, draws, writes."""
    from blsm.files import write_atomically
    from blsm.report.contents import read_contents
    from blsm.report.page import page
    from blsm.report.picture import save_pictures
    from blsm.report.sections import sections

    contents = read_contents(options.folder)
    with common.quiet():
        found, missing = sections(contents)
    title = options.title or f"blsm report: {options.folder.resolve().name}"
    write_atomically(options.output, page(title, found, missing).encode())
    charts = [chart for section in found for chart in section.charts]
    print(f"{options.output}: {len(charts)} figures in {len(found)} sections")
    for sentence in missing:
        print(f"  {sentence}")
    if options.pictures is not None:
        paths = save_pictures(charts, options.pictures, options.format)
        print(f"{len(paths)} pictures in {options.pictures}")
