"""Encodings of blocks of several families in the same columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import blsm
from blsm._types import Array
from blsm.features import Features
from blsm.surrogates import Regressor
from blsm.transfer.block_encoder import _WORK, BlockEncoder, _columns, work

CONFIGS = {name: blsm.block_family(name).sample(40, seed=0) for name in ("mbconv", "res_v1", "conv", "head", "rescale")}


class Parameters(Regressor):
    """Predicts a part of the number of parameters, milliseconds."""

    name = "parameters"

    def __init__(self, part: float) -> None:
        self.part = part

    def predict(self, configs: Sequence[blsm.BlockConfig]) -> Array:
        return np.array([1 + self.part * config.params for config in configs])

    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None: ...

    def _predict(self, features: Features) -> Array:
        raise NotImplementedError

    def to_files(self) -> dict[str, bytes]:
        raise NotImplementedError

    @classmethod
    def from_files(cls, files: object) -> Parameters:
        raise NotImplementedError


ENCODER = BlockEncoder.of(CONFIGS, {family: (Parameters(0.1), Parameters(2.0)) for family in CONFIGS})


@pytest.mark.parametrize("name", list(_WORK))
def test_every_kind_of_work_occurs(name: str) -> None:
    # A pattern that no term matches any more would silently count nothing.
    found = set()
    for configs in CONFIGS.values():
        features = Features.of(configs)
        matched = dict(zip(_WORK, _columns(features.term_names), strict=True))[name]
        found |= {features.term_names[column] for column in matched}
    assert found, f"no cost term matches {_WORK[name]}"


def test_work_is_the_sum_over_operators() -> None:
    features = Features.of(CONFIGS["res_v1"])
    found = dict(zip(_WORK, work(features).T, strict=False))
    assert (found["constant"] == 1).all()
    terms = dict(zip(features.term_names, features.terms.T, strict=True))
    spatial = sum(terms[name] for name in terms if name.endswith(".kxk.macs_1x16"))
    np.testing.assert_allclose(found["other convolutions"], spatial)


def test_families_have_columns_of_their_own_and_work_in_common() -> None:
    mixed = [configs[0] for configs in CONFIGS.values()]
    encodings = ENCODER.encode(mixed)
    np.testing.assert_array_equal(encodings.values[:, encodings.groups["family"]], np.eye(len(CONFIGS)))
    shapes = encodings.values[:, encodings.groups["vec"]]
    assert not (shapes[0] * shapes[1]).any()
    np.testing.assert_allclose(
        encodings.values[:, encodings.groups["known"]],
        [[1 + part * config.params for part in (0.1, 2.0)] for config in mixed],
    )
    alone = ENCODER.of_family("conv").encode(CONFIGS["conv"][:1])
    np.testing.assert_array_equal(alone.values[0], encodings.values[2])
    assert alone.groups == encodings.groups


def test_shapes_of_a_family_have_length_one_on_average() -> None:
    for configs in CONFIGS.values():
        encodings = ENCODER.encode(configs)
        lengths = np.square(encodings.values[:, encodings.groups["vec"]]).sum(axis=1)
        assert lengths.mean() == pytest.approx(1)
