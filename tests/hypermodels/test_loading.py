from __future__ import annotations

from pathlib import Path

import keras_tuner
import pytest

from blsm.errors import SearchError
from blsm.hypermodels import Cifar10
from blsm.hypermodels.loading import load_hypermodel

MINE = """
import keras_tuner
from blsm.hypermodels import Cifar10

small = Cifar10(families=("res_v1",))
number = 3

class Mine(keras_tuner.HyperModel):
    pass

def factory(families=("mbconv",)):
    return Cifar10(families)

def build(hp):
    raise RuntimeError

def broken():
    raise RuntimeError("no luck")

def greedy(one, two):
    pass

def nothing():
    return 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "my_hypermodels.py"
    path.write_text(MINE)
    return str(path)


def test_a_class_a_factory_an_instance_and_a_build_function(mine: str) -> None:
    assert isinstance(load_hypermodel("blsm.hypermodels:Cifar10"), Cifar10)
    assert type(load_hypermodel(f"{mine}:Mine")).__name__ == "Mine"
    assert load_hypermodel(f"{mine}:small").stack.families == ("res_v1",)
    assert load_hypermodel(f"{mine}:factory").stack.families == ("mbconv",)
    assert isinstance(load_hypermodel(f"{mine}:build"), keras_tuner.HyperModel)


def test_modules_of_the_working_directory_are_found(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(mine).parent)
    assert load_hypermodel("my_hypermodels:small").stack.families == ("res_v1",)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Cifar10", "package.module:name or file.py:name"),
        ("blsm.hypermodels:", "got 'blsm.hypermodels:'"),
        ("blsm.hypermodel:Cifar10", "cannot import blsm.hypermodel: ModuleNotFoundError"),
        ("blsm.hypermodels:Cifar", "has no 'Cifar'; did you mean 'Cifar10'"),
        ("nowhere.py:build", "no file nowhere.py"),
        ("{mine}:bild", "did you mean 'build'"),
        ("{mine}:number", "is or gives a int, not a keras_tuner.HyperModel"),
        ("{mine}:nothing", "is or gives a int"),
        ("{mine}:broken", "failed: RuntimeError: no luck"),
        ("{mine}:greedy", "needs arguments \\(one, two\\)"),
        ("blsm.hypermodels:SequentialBlocks", "needs arguments \\(stack\\)"),
    ],
)
def test_each_wrong_name_has_its_message(name: str, said: str, mine: str) -> None:
    with pytest.raises(SearchError, match=said):
        load_hypermodel(name.format(mine=mine))


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def (")
    with pytest.raises(SearchError, match="cannot import .*bad.py: SyntaxError"):
        load_hypermodel(f"{tmp_path / 'bad.py'}:build")
