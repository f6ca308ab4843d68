from __future__ import annotations

import numpy as np
import pytest

from blsm._types import Array
from blsm.surrogates.trees import ABSOLUTE, Trees


def _smooth(count: int, seed: int) -> tuple[Array, Array]:
    """Inputs of very different scale, and a target that is smooth in them."""
    inputs = np.random.default_rng(seed).uniform(0, 1, (count, 3)) * [1.0, 1e6, 10.0]
    return inputs, inputs[:, 0] + np.square(inputs[:, 1] / 1e6) - 0.05 * inputs[:, 2]


@pytest.mark.parametrize("lines", [False, True])
def test_trees_survive_files_exactly(lines: bool) -> None:
    inputs, target = _smooth(200, seed=0)
    trees = Trees.fit(inputs, target, seed=0, lines=lines)
    again = Trees.from_files(trees.to_files())
    unseen, _ = _smooth(50, seed=1)
    np.testing.assert_array_equal(again.predict(unseen), trees.predict(unseen))
    assert again.to_files() == trees.to_files()


def test_lines_follow_what_is_smooth_better_than_constants() -> None:
    inputs, target = _smooth(1000, seed=0)
    unseen, expected = _smooth(200, seed=1)
    errors = [
        np.abs(Trees.fit(inputs, target, seed=0, lines=lines).predict(unseen) - expected).mean()
        for lines in (False, True)
    ]
    assert errors[1] < 0.85 * errors[0]


def test_lines_end_where_their_targets_do() -> None:
    inputs, target = _smooth(200, seed=0)
    far = Trees.fit(inputs, target, seed=0, lines=True).predict(np.array([[1e3, 1e9, -1e4], [-1e3, 0.0, 1e4]]))
    np.testing.assert_allclose(far, [target.max(), target.min()])


def test_absolute_errors_mind_few_outliers_less() -> None:
    inputs, target = _smooth(400, seed=0)
    target[::20] += 5.0
    unseen, expected = _smooth(200, seed=1)
    squares, absolute = (
        np.abs(trees.predict(unseen) - expected).mean()
        for trees in (Trees.fit(inputs, target, seed=0), Trees.fit(inputs, target, seed=0, objective=ABSOLUTE))
    )
    assert absolute < squares


@pytest.mark.parametrize("damage", [{"trees.txt": b"no trees"}, {"lines.json": b"[]"}])
def test_damaged_files_are_refused(damage: dict[str, bytes]) -> None:
    inputs, target = _smooth(50, seed=0)
    files = Trees.fit(inputs, target, seed=0, lines=True).to_files()
    with pytest.raises((KeyError, ValueError, TypeError)):
        Trees.from_files({**files, **damage})
