"""What the README shows is true."""

from __future__ import annotations

import re
from pathlib import Path

from blsm.cli.main import parser

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_example_runs(fake_bundle: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(code.replace("demo/edge_cpu.blsm", str(fake_bundle)), {})


def test_every_command_of_the_readme_parses() -> None:
    commands = re.findall(r"^\| `(blsm [^`]*)`", README, flags=re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        for alternative in command.replace("[", "").replace("]", "").split(", blsm "):
            parser().parse_args(alternative.removeprefix("blsm ").split())


def test_every_option_of_the_readme_exists() -> None:
    texts = parser().format_help() + "".join(
        sub.format_help()
        for action in parser()._subparsers._group_actions  # type: ignore[union-attr]
        for sub in action.choices.values()  # type: ignore[union-attr]
    )
    for option in set(re.findall(r"`?(--[a-z][a-z-]+)", README)):
        assert option in texts, option
