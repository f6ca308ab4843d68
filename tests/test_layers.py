"""The structure: imports run downward, and TensorFlow stays out of import time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import blsm
import blsm.hypermodels
import blsm.profiling

ROOT = Path(__file__).parent.parent

#: A module may import from its own layer and the ones above it in this list; the package `blsm` itself is not a layer.
LAYERS = (
    ("blsm._version", "blsm._types", "blsm.errors", "blsm.domains", "blsm.files"),
    ("blsm.operators",),
    ("blsm.blocks",),
    (
        *("blsm.network", "blsm.profiles", "blsm.features", "blsm.spaces"),
        *("blsm.metrics", "blsm.intervals", "blsm.shrinkage", "blsm.caches"),
    ),
    ("blsm.profiling", "blsm.surrogates", "blsm.export", "blsm.images", "blsm.sampling"),
    ("blsm.additivity", "blsm.calibration", "blsm.latency_model", "blsm.estimates"),
    ("blsm.bundle", "blsm.fitting", "blsm.evaluation", "blsm.checking", "blsm.active"),
    (
        "blsm.latency_sources",
        "blsm.transfer",
        "blsm.score",
        "blsm.pareto",
        "blsm.searches",
        "blsm.feasibility",
        "blsm.remeasured",
    ),
    (
        "blsm.strategies",
        "blsm.screening",
        "blsm.survey",
        "blsm.trials",
        "blsm.accuracy_prior",
        "blsm.oracle",
        "blsm.tuner",
        "blsm.hypermodels",
    ),
    ("blsm.accuracies", "blsm.comparison"),
    ("blsm.testing", "blsm.report"),
    ("blsm.cli",),
)


def _modules() -> Iterator[tuple[str, Path]]:
    for folder, package in (("blsm", "blsm"), ("profiling", "blsm.profiling"), ("hypermodels", "blsm.hypermodels")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


def _layer(module: str) -> int:
    for number, layer in enumerate(LAYERS):
        if any(module == name or module.startswith(name + ".") for name in layer):
            return number
    raise AssertionError(f"{module} is in no layer: say where it belongs")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blsm"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_downward() -> None:
    for module, path in _modules():
        if module == "blsm":
            continue
        for imported in _imports(path):
            assert _layer(imported) <= _layer(module), f"{module} imports {imported}"


@pytest.mark.parametrize("package", [blsm, blsm.blocks, blsm.profiling, blsm.hypermodels])
def test_what_is_exported_exists_and_is_sorted(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert sorted(names) == names
    assert all(hasattr(package, name) for name in names)


def test_importing_everything_imports_neither_keras_nor_tensorflow() -> None:
    code = (
        "import sys, blsm, blsm.profiling, blsm.hypermodels, blsm.testing, blsm.cli.main\n"
        "assert not {'keras', 'tensorflow', 'lightgbm', 'scipy', 'matplotlib'} & set(sys.modules), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
