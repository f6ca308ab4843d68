from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blsm.errors import FileError
from blsm.images import load_images


def test_digits_are_split_at_random_and_by_seed() -> None:
    images = load_images("digits")
    assert images.shape == (32, 32, 3)
    assert images.classes == 10
    assert (len(images.x_train), len(images.x_validation)) == (1438, 359)
    assert images.x_train.max() == 255
    assert images.x_train.dtype == np.uint8
    assert set(images.y_validation.tolist()) == set(range(10))
    again, other = load_images("digits"), load_images("digits", seed=1)
    assert np.array_equal(images.x_train, again.x_train)
    assert not np.array_equal(images.y_train, other.y_train)


def test_a_limit_holds_for_both_parts() -> None:
    whole, few = load_images("digits"), load_images("digits", limit=100)
    assert (len(few.x_train), len(few.x_validation)) == (100, 24)
    assert np.array_equal(few.x_train, whole.x_train[:100])
    assert len(load_images("digits", limit=10**6).x_train) == 1438


def _save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_a_file_with_or_without_its_own_split(tmp_path: Path) -> None:
    x, y = np.zeros((10, 8, 8)), np.arange(10).reshape(10, 1) % 3
    split = load_images(_save(tmp_path / "a.npz", x_train=x, y_train=y))
    assert (split.shape, split.classes) == ((8, 8, 1), 3)
    assert (len(split.x_train), len(split.y_validation)) == (8, 2)
    own = load_images(_save(tmp_path / "b.npz", x_train=x, y_train=y, x_validation=x[:3], y_validation=y[:3]))
    assert (len(own.x_train), own.y_validation.tolist()) == (10, [0, 1, 2])


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.zeros((4, 8, 8, 3)), np.arange(4)
    for arrays, said in (
        ({"x_train": x}, "has no array y_train; it holds x_train"),
        ({"x_train": x, "y_train": y, "x_validation": x}, "has no array y_validation"),
        ({"x_train": x, "y_train": y[:3]}, r"got \(4, 8, 8, 3\) and \(3,\)"),
        ({"x_train": x, "y_train": y / 2}, "labels must be integers from 0, got float64"),
        ({"x_train": x, "y_train": y - 1}, "integers from 0, got int64 from -1"),
        ({"x_train": x, "y_train": np.array([{}] * 4)}, "no readable .npz"),
    ):
        with pytest.raises(FileError, match=said):
            load_images(_save(tmp_path / "bad.npz", **arrays))
    with pytest.raises(FileError, match="no file"):
        load_images(str(tmp_path / "missing.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(FileError, match="no readable .npz file"):
        load_images(str(tmp_path / "text.npz"))
    with pytest.raises(FileError, match="must be cifar10, digits, or the path of an .npz file"):
        load_images("cifar100")


def test_without_a_network_cifar10_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    def offline() -> None:
        raise Exception("URL fetch failure on https://... : None -- unreachable\nmore")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", offline)
    with pytest.raises(FileError, match=r"CIFAR-10 could not be loaded \(URL fetch failure .* use digits"):
        load_images("cifar10")
