from __future__ import annotations

import logging
import sys

import pytest

from blsm.profiling.devices.screen import off_the_screen


def test_nothing_is_shown_and_later_warnings_are(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # a program that has not set up logging
    with off_the_screen():
        sys.stdout.write("printed")
        sys.stderr.write("written")
        logging.warning("logged")  # makes a handler of its own
    logging.getLogger("blsm").warning("later")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "later\n")
