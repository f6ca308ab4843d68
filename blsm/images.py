"""Labelled images to search on: CIFAR-10, scikit-learn's digits, or arrays of one's own."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blsm._types import Array
from blsm.errors import FileError

_VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Images:
    """Images and integer labels, for training and for validation.

    Attributes:
        x_train: shape (n, height, width, channels), values 0 to 255.
        y_train: shape (n,), 0 to classes - 1.
        x_validation: as x_train.
        y_validation: as y_train.
    """

    x_train: Array
    y_train: Array
    x_validation: Array
    y_validation: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return tuple(self.x_train.shape[1:])

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return 1 + int(max(self.y_train.max(), self.y_validation.max()))


def load_images(name: str, *, limit: int | None = None, seed: int = 0) -> Images:
    """Images by name.

    Args:
        name: `cifar10`, downloaded once through `keras.datasets`; `digits`, the 1,797 handwritten digits that come with
            scikit-learn, enlarged to 32x32x3; or the path of an `.npz` file with the arrays x_train and y_train, and,
            if these are not to be split, x_validation and y_validation.
        limit: take so many images at most for training, and in proportion for validation.
        seed: of the split into training and validation, which takes a fifth, and of the choice of `limit`.

    Raises:
        FileError: no such data, or a file that is damaged or lacks what is needed.
    """
    if name == "cifar10":
        arrays = _cifar10()
    elif name == "digits":
        arrays = _digits()
    elif Path(name).suffix == ".npz":
        arrays = _file(Path(name))
    else:
        raise FileError(f"no data called {name!r}: it must be cifar10, digits, or the path of an .npz file")
    rng = np.random.default_rng(seed)
    x, y = arrays[:2]
    order = rng.permutation(len(x))
    if len(arrays) == 4:
        x_validation, y_validation = arrays[2:]
    else:
        held_out, order = np.split(order, [max(1, round(_VALIDATION_SHARE * len(x)))])
        x_validation, y_validation = x[held_out], y[held_out]
    if limit is not None and limit < len(order):
        x_validation, y_validation = (
            part[: max(1, len(part) * limit // len(order))] for part in (x_validation, y_validation)
        )
        order = order[:limit]
    return Images(x[order], y[order], x_validation, y_validation)


def _cifar10() -> list[Array]:
    import keras

    try:
        (x, y), _ = keras.datasets.cifar10.load_data()
    except Exception as error:  # noqa: BLE001  # Keras raises a bare Exception for a failed download
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(
            f"CIFAR-10 could not be loaded ({reason}): use digits or an .npz file where there is no network"
        ) from None
    return [x, y[:, 0]]


def _digits() -> list[Array]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # 8x8 pixels of 0 to 16.
    enlarged = np.kron(images.reshape(-1, 8, 8), np.ones((4, 4)))
    grey = np.rint(enlarged * (255 / 16)).astype(np.uint8)
    return [np.repeat(grey[..., np.newaxis], 3, axis=-1), labels]


def _file(path: Path) -> list[Array]:
    try:
        with np.load(path, allow_pickle=False) as found:
            names = ["x_train", "y_train"]
            if "x_validation" in found or "y_validation" in found:
                names += ["x_validation", "y_validation"]
            if missing := [name for name in names if name not in found]:
                held = ", ".join(found) or "nothing"
                raise FileError(f"{path} has no array {', '.join(missing)}; it holds {held}")
            arrays = [found[name] for name in names]
    except FileNotFoundError:
        raise FileError(f"no file {path}") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} is no readable .npz file: {error}") from None
    return [part for x, y in zip(arrays[::2], arrays[1::2], strict=True) for part in _checked(path, x, y)]


def _checked(path: Path, x: Array, y: Array) -> tuple[Array, Array]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.ndim != 4 or y.ndim != 1 or len(x) != len(y) or len(x) < 2:
        raise FileError(
            f"{path}: images must have shape (n, height, width, channels) and labels (n,), got {x.shape} and {y.shape}"
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise FileError(f"{path}: labels must be integers from 0, got {y.dtype} from {y.min()}")
    return x, y
