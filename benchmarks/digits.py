"""Scikit-learn's digits, and networks of their size: small enough to train a thousand networks in a few hours.

The digits have 8x8 pixels, which `load_images` enlarges to CIFAR-10's 32x32; half of that shows as much. Networks have
two stages, at 8x8 and 4x4 pixels, and half the filters of the hypermodel for CIFAR-10.
"""

from __future__ import annotations

from dataclasses import replace

from blsm.domains import Integers
from blsm.hypermodels import SequentialBlocks, Stack, Stage
from blsm.hypermodels.random_networks import FAMILIES
from blsm.images import Images, load_images

_SIDE = 16
_DEPTH = Integers(1, 3)
_STAGES = (Stage(Integers(8, 32, step=8), depth=_DEPTH), Stage(Integers(16, 64, step=16), depth=_DEPTH))


def hypermodel() -> SequentialBlocks:
    """The search space: a stem and two stages, each of a family of its own, 15 hyperparameters."""
    return SequentialBlocks(Stack(FAMILIES, _STAGES), (_SIDE, _SIDE, 3))


def images(limit: int | None, seed: int) -> Images:
    """The digits; `limit` images of them for training at most."""
    found = load_images("digits", limit=limit, seed=seed)
    step = found.shape[0] // _SIDE
    return replace(found, x_train=found.x_train[:, ::step, ::step], x_validation=found.x_validation[:, ::step, ::step])
