"""Encodings of blocks of several families in the same columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import blsm
from blsm._types import Array
from blsm.errors import FitError
from blsm.features import Features
from blsm.surrogates import Regressor
from blsm.transfer.block_encoder import _WORK, BlockEncoder, _columns, kind_of_work, work

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
    cycles = sum(terms[name] for name in terms if name.endswith(".array.npu_cycles_u65_512"))
    np.testing.assert_allclose(found["NPU cycles on u65_512"], cycles)
    np.testing.assert_allclose(found["work of functions"], terms["add.array.work"])


@pytest.mark.parametrize(
    ("term", "kind"),
    [
        ("expand.1x1.macs_6x16", "1x1.macs_6x16"),
        ("first.array.npu_cycles_u65_256", "array.npu_cycles_u65_256"),
        ("dense.array.npu_cycles_u65_256", "array.npu_cycles_u65_256"),
        ("add.array.npu_cycles_u85_512", "array.npu_cycles_u85_512"),
        ("hard_swish.array.work", "hard_swish.array.work"),
        ("batch_norm.array.wait_2", "batch_norm.array.wait_2"),
        ("second_3.direct.macs", "conv_3.direct.macs"),
        ("depthwise_conv_5s2.macs", "depthwise_conv_5.macs"),
        ("depthwise_conv_7.crowded_rows", "depthwise_conv.crowded_rows"),
        ("bytes_beyond_512k", "bytes_beyond_512k"),
    ],
)
def test_kinds_of_work_have_no_roles(term: str, kind: str) -> None:
    assert kind_of_work(term) == kind


def test_kinds_of_work_are_sums_over_roles_in_the_same_columns_for_all() -> None:
    for configs in CONFIGS.values():
        features = Features.of(configs)
        encodings = ENCODER.encode(configs)
        found = dict(zip(ENCODER.kinds, encodings.values[:, encodings.groups["terms"]].T, strict=False))
        for kind in ("1x1.macs_6x16", "array.npu_cycles_u55_64", "operators"):
            columns = [place for place, term in enumerate(features.term_names) if kind_of_work(term) == kind]
            np.testing.assert_allclose(found[kind], features.terms[:, columns].sum(axis=1))
        # One block says of itself what it says among others.
        np.testing.assert_array_equal(ENCODER.encode(configs[:1]).values[0], encodings.values[0])


def test_what_no_block_of_the_pool_does_is_not_encoded() -> None:
    configs = blsm.block_family("mbconv").sample(40, seed=0)
    plain = [config for config in configs if not config.se_ratio]
    encoder = BlockEncoder.of({"mbconv": plain}, {"mbconv": (Parameters(1.0),)})
    assert "global_pool.pixels" not in encoder.kinds
    assert encoder.encode(configs).values.shape[1] == encoder.encode(plain).values.shape[1]


def test_an_earlier_encoder_is_refused() -> None:
    empty = BlockEncoder(ENCODER.standards, {}, ENCODER.kinds).to_files()
    assert BlockEncoder.from_files(empty).kinds == ENCODER.kinds
    with pytest.raises(FitError, match="run `blsm transfer` again"):
        BlockEncoder.from_files({**empty, "encoder.json": b'{"families": [], "known": {}, "kinds": []}'})


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
