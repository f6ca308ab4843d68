"""Regressors: built in, registered by the user, or installed with the entry point group `blsm.regressors`."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar

from blsm.errors import UnknownRegressorError
from blsm.surrogates.base import FEATURES, Regressor
from blsm.surrogates.boosted_trees import BoostedTrees, PlainBoostedTrees
from blsm.surrogates.decision_forests import RandomForest, TfdfBoostedTrees
from blsm.surrogates.dense_nas import DenseNas
from blsm.surrogates.linear import Linear
from blsm.surrogates.roofline import Roofline

__all__ = ["DEFAULT_REGRESSOR", "FEATURES", "Regressor", "register_regressor", "regressor_class", "regressors"]

DEFAULT_REGRESSOR = BoostedTrees.name

_regressors: dict[str, type[Regressor]] = {}
RegressorClass = TypeVar("RegressorClass", bound=type[Regressor])


def register_regressor(cls: RegressorClass) -> RegressorClass:
    """Class decorator that makes a regressor known under its `name`."""
    _regressors[cls.name] = cls
    return cls


for _builtin in (BoostedTrees, PlainBoostedTrees, TfdfBoostedTrees, RandomForest, Linear, DenseNas, Roofline):
    register_regressor(_builtin)


#: Regressors that are not fitted but made elsewhere, and where: a bundle that holds one imports it.
_ELSEWHERE = {"transferred": "blsm.transfer.blocks"}


@lru_cache(maxsize=1)
def _load_installed() -> None:
    for point in entry_points(group="blsm.regressors"):
        register_regressor(point.load())


def regressors() -> dict[str, type[Regressor]]:
    """All regressors by name."""
    _load_installed()
    return dict(_regressors)


def regressor_class(name: str) -> type[Regressor]:
    """The regressor of this name.

    Raises:
        UnknownRegressorError: there is none; it names the known ones and the closest.
    """
    if name in _ELSEWHERE:
        import_module(_ELSEWHERE[name])
    known = regressors()
    if name not in known:
        raise UnknownRegressorError(name, known)
    return known[name]
