"""Scikit-learn's digits and networks for them, at 16x16 pixels: small enough to train a thousand networks in hours.

The digits have 8x8 pixels, which `load_images` enlarges to CIFAR-10's 32x32; half of that shows as much.
"""

from __future__ import annotations

from dataclasses import replace

from blsm.hypermodels import Cifar10
from blsm.images import Images, load_images

_SIDE = 16


def hypermodel() -> Cifar10:
    """The search space of CIFAR-10 for these images: 22 hyperparameters."""
    return Cifar10(input_shape=(_SIDE, _SIDE, 3))


def images(limit: int | None, seed: int) -> Images:
    """The digits; `limit` images of them for training at most."""
    found = load_images("digits", limit=limit, seed=seed)
    step = found.shape[0] // _SIDE
    return replace(found, x_train=found.x_train[:, ::step, ::step], x_validation=found.x_validation[:, ::step, ::step])
