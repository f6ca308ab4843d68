from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import blsm
from blsm.errors import DomainError
from blsm.features import Features, KnownRows, cycles_on, end_features, output_shapes, saved_cycles
from blsm.operators.ends import ENDS, ends

FAMILIES = ("mbconv", "res_v1", "res_v2", "conv", "head", "rescale", "output")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_config_has_the_same_features_alone_and_in_a_batch(name: str) -> None:
    configs = blsm.block_family(name).sample(100, seed=5)
    batch = Features.of(configs)
    for row, config in enumerate(configs):
        alone = Features.of([config], batch.term_names, batch.hint_names)
        for part in ("vectors", "totals", "terms", "hints"):
            np.testing.assert_array_equal(getattr(alone, part)[0], getattr(batch, part)[row])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kept", [10_000, 30])
def test_what_is_asked_for_again_is_the_same(name: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blsm.features._MOST_COSTS", kept)
    configs = blsm.block_family(name).sample(40, seed=7)
    expected = Features.of(configs)
    rows = {config: expected.table[row] for row, config in enumerate(configs)}
    names = expected.term_names, expected.hint_names
    # Some known, some new, some twice; more than are kept; what comes after more than are kept.
    for asked in (configs[:20], configs[30:] + configs[10:25][::-1] + configs[:5] * 2, configs, configs[::3]):
        np.testing.assert_array_equal(Features.of(asked, *names).table, [rows[config] for config in asked])


@pytest.mark.parametrize("array", ["u55_64", "u65_512", "u85_256"])
def test_a_fit_sees_the_cycles_of_the_array_that_makes_up_the_latencies(array: str) -> None:
    configs = blsm.block_family("res_v1").sample(300, seed=8)
    every = Features.of(configs)
    cycles = [n for n, name in enumerate(every.term_names) if cycles_on([name]) == (array,)]
    latency_ms = 0.1 + 2e-6 * every.terms[:, cycles].sum(axis=1)
    fitted = Features.to_fit(configs, latency_ms)
    assert cycles_on(fitted.term_names) == cycles_on(fitted.hint_names) == (array,)
    np.testing.assert_array_equal(fitted.table, Features.of(configs, *_names(fitted)).table)
    following = Features.to_fit(configs, latency_ms, follows=True)
    assert set(following.term_names) == set(fitted.term_names)
    assert (following.terms[:, _cycles(following)] <= fitted.terms[:, _cycles(fitted)]).mean() > 0.9
    np.testing.assert_array_equal(following.table, Features.of(configs, *_names(following), follows=True).table)


def _names(features: Features) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return features.term_names, features.hint_names


def _cycles(features: Features) -> list[int]:
    return [features.term_names.index(name) for name in sorted(features.term_names) if cycles_on([name])]


def test_blocks_of_any_families_save_cycles_where_another_one_follows() -> None:
    mixed = [config for name in FAMILIES for config in blsm.block_family(name).sample(5, seed=3)]
    cycles = saved_cycles(mixed, "u65_512")
    assert cycles.shape == (len(mixed),)
    assert (cycles > 50).sum() >= 10
    np.testing.assert_array_equal(cycles, np.concatenate([saved_cycles([config], "u65_512") for config in mixed]))


def test_vectors_and_totals_are_the_configs_own() -> None:
    configs = blsm.block_family("mbconv").sample(50, seed=6)
    features = Features.of(configs)
    np.testing.assert_array_equal(features.vectors, [config.to_vector() for config in configs])
    np.testing.assert_array_equal(features.totals[:, :2], [(config.macs, config.params) for config in configs])
    np.testing.assert_array_equal(features.totals[:, 3:], [config.output_shape for config in configs])


def test_single_pixels_and_images_in_one_batch() -> None:
    family = blsm.block_family("mbconv")
    common = {"in_channels": 8, "filters": 8, "kernel_size": 3, "strides": 2, "expand_ratio": 2}
    configs = [family.config(height=size, width=size, **common) for size in (1, 4)]
    features = Features.of(configs)
    vector_macs = features.terms[:, features.term_names.index("expand.vector.macs")]
    assert vector_macs.tolist() == [8 * 16, 0]


def test_configs_of_several_families_have_no_common_features() -> None:
    mixed = [blsm.block_family(name).sample(1)[0] for name in ("conv", "head")]
    for configs in (mixed, []):
        with pytest.raises(DomainError):
            Features.of(configs)


@pytest.mark.parametrize("name", FAMILIES)
def test_ends_are_the_same_alone_and_in_a_batch(name: str) -> None:
    configs = blsm.block_family(name).sample(50, seed=5)
    expected = [[float(ends(config.graph())[column]) for column in ENDS] for config in configs]
    np.testing.assert_array_equal(end_features(configs), expected)


def test_ends_of_several_families_keep_their_order() -> None:
    mixed = [config for name in FAMILIES for config in blsm.block_family(name).sample(2, seed=1)][::-1]
    np.testing.assert_array_equal(end_features(mixed), np.vstack([end_features([config]) for config in mixed]))


def test_output_shapes_are_the_configs_own() -> None:
    mixed = [config for name in FAMILIES for config in blsm.block_family(name).sample(20, seed=1)][::-1]
    assert output_shapes(mixed) == [config.output_shape for config in mixed]
    assert output_shapes([]) == []


def test_a_table_holds_all_features() -> None:
    features = Features.of(blsm.block_family("mbconv").sample(5, seed=1))
    again = Features.from_table(features.table, features.term_names, features.hint_names)
    for part in ("vectors", "totals", "terms", "hints", "term_names", "hint_names"):
        np.testing.assert_array_equal(getattr(again, part), getattr(features, part))


def test_known_rows_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blsm.features._MOST_ROWS", 12)
    asked: list[int] = []

    def compute(configs: Sequence[blsm.BlockConfig]) -> np.ndarray:
        asked.append(len(configs))
        return end_features(configs)

    configs = blsm.block_family("conv").sample(20, seed=1)
    rows = KnownRows(compute)
    for part in (configs[:5], configs[7:2:-1], configs[:5] * 2, configs, configs[:8]):
        np.testing.assert_array_equal(rows.of(part), end_features(part))
    assert asked == [5, 3, 20]
