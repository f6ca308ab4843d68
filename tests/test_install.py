"""`pip install .` and `pip install -e .` give a working blsm from any folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_SOURCES = ("blsm", "profiling", "hypermodels", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
_CODE = "import blsm, blsm.profiling, blsm.hypermodels; print(blsm.__version__, blsm.profiling.__file__)"


@pytest.mark.parametrize("options", [(), ("--editable",)], ids=["regular", "editable"])
def test_both_ways_to_install(options: tuple[str, ...], tmp_path: Path) -> None:
    # The new environment sees the packages of the running one, so that nothing is downloaded.
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    here = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (site / "borrowed.pth").write_text(f"import sys; sys.path.append({str(here)!r})\n")
    source = tmp_path / "source"
    source.mkdir()
    for name in _SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", *options, str(source)]
    subprocess.run(pip, check=True, timeout=300)
    for folder in (tmp_path, source):
        done = subprocess.run(
            [str(python), "-c", _CODE], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert str(source if options else site) in done.stdout
    script = subprocess.run(
        [tmp_path / "venv" / "bin" / "blsm", "--version"], capture_output=True, text=True, check=True
    )
    assert script.stdout.startswith("blsm ")
