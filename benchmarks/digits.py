"""Scikit-learn's digits, and networks of their size: small enough to train a thousand networks in a few hours.

The digits have 8x8 pixels, which `load_images` enlarges to CIFAR-10's 32x32; half of that shows as much. Networks have
two stages, at 8x8 and 4x4 pixels, and half the filters of the hypermodel for CIFAR-10.
"""

from __future__ import annotations

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


def images(limit: int | None, seed: int, batch_size: int) -> Images:
    """The digits; `limit` images of them for training at most, and whole batches only.

    For a smaller last batch TensorFlow traces training and validation once more, which takes as long as 3 epochs.
    """
    found = load_images("digits", limit=limit, seed=seed)
    step = found.shape[0] // _SIDE
    train, validation = (count // batch_size * batch_size for count in (len(found.x_train), len(found.x_validation)))
    return Images(
        found.x_train[:train, ::step, ::step],
        found.y_train[:train],
        found.x_validation[:validation, ::step, ::step],
        found.y_validation[:validation],
    )
