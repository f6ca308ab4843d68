"""What every transfer method of ours keeps: the contract, on a pool whose devices are formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import blsm.transfer
from blsm.errors import DomainError, FileError, FitError, UnknownMethodError
from blsm.transfer import BlockPrior, DevicePool, FromScratch, KnownDevices, Median, NearestDevice, transfer_method
from blsm.transfer.base import Method, arrays_from_bytes
from blsm.transfer.baselines import LinearPredictor
from blsm.transfer.encodings import Encodings, join, one_hot

NAMES = ("block_prior", "from_scratch", "known_devices", "median", "nearest_device")
every_method = pytest.mark.parametrize("name", NAMES)
LAYERS, OPERATIONS = 8, 4


def _architectures(count: int, seed: int = 0) -> Encodings:
    """Networks of 8 layers with 4 operations, each of which costs something by kind."""
    codes = np.random.default_rng(seed).integers(0, OPERATIONS, (count, LAYERS))
    vectors = one_hot(codes, OPERATIONS)
    costs = np.array([[0, 0], [1, 1], [4, 1], [9, 2]])[codes].sum(axis=1)
    return Encodings(*join(vec=vectors, physical=costs))


def _latency_ms(encodings: Encodings, speed: float, overhead: float, taste: int = 0) -> np.ndarray:
    """A device: its work at a speed, an overhead for each kernel, and a little that is its own for each operation."""
    values = encodings.values
    own = np.random.default_rng(taste).normal(size=LAYERS * OPERATIONS)
    work, kernels = values[:, encodings.groups["physical"]].T
    return 2 + work / speed + overhead * kernels + 0.05 * values[:, encodings.groups["vec"]] @ own


def _pool() -> tuple[DevicePool, Encodings]:
    encodings = _architectures(300)
    devices = {"big": (20.0, 0.5, 1), "small": (2.0, 0.2, 2), "middle": (8.0, 0.3, 3)}
    return DevicePool.of(
        encodings, {name: _latency_ms(encodings, *device) for name, device in devices.items()}
    ), encodings


POOL, ARCHITECTURES = _pool()
NEW_MS = _latency_ms(ARCHITECTURES, 3.0, 0.9, 4)
QUERIES = _architectures(200, seed=9)
QUERIES_MS = _latency_ms(QUERIES, 3.0, 0.9, 4)


def _adapted(method: Method, count: int = 10) -> np.ndarray:
    rows = method.references(POOL, count)
    return method.adapt(POOL.encodings[rows], NEW_MS[rows]).predict(QUERIES.values)


@every_method
def test_methods_are_known_by_name(name: str) -> None:
    assert name in blsm.transfer.transfer_methods()
    assert transfer_method(name).name == name


def test_an_unknown_method_names_the_closest() -> None:
    with pytest.raises(UnknownMethodError, match="did you mean 'block_prior'"):
        transfer_method("blockprior")


def test_your_own_method_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blsm.transfer, "_registered", {})

    @blsm.transfer.register_transfer_method
    class Mine(Median):
        name = "mine"

    assert transfer_method("mine") is Mine
    assert "mine" in blsm.transfer.transfer_methods()


@every_method
def test_predictions_are_positive_milliseconds_of_the_right_size(name: str) -> None:
    predicted_ms = _adapted(transfer_method(name)(seed=0).fit(POOL))
    assert predicted_ms.shape == QUERIES_MS.shape
    assert (predicted_ms > 0).all()
    assert np.median(predicted_ms) == pytest.approx(np.median(QUERIES_MS), rel=0.3)


@every_method
def test_the_same_seed_gives_the_same_predictions(name: str) -> None:
    first, second = (_adapted(transfer_method(name)(seed=3).fit(POOL)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@every_method
def test_references_are_distinct_rows(name: str) -> None:
    method = transfer_method(name)(seed=0).fit(POOL)
    rows = method.references(POOL, 20)
    assert len(set(rows.tolist())) == 20
    assert rows.min() >= 0
    assert rows.max() < len(POOL)
    for count in (0, len(POOL) + 1):
        with pytest.raises(DomainError, match=f"from 1 to 300.*got {count}"):
            method.references(POOL, count)


@every_method
def test_methods_and_predictors_survive_files(name: str, tmp_path: Path) -> None:
    method = transfer_method(name)(seed=1).fit(POOL)
    method.save(tmp_path / "method")
    again = transfer_method(name).load(tmp_path / "method")
    np.testing.assert_array_equal(_adapted(again), _adapted(method))
    predictor = method.adapt(POOL.encodings[:10], NEW_MS[:10])
    predictor.save(tmp_path / "predictor")
    loaded = type(predictor).load(tmp_path / "predictor")
    np.testing.assert_array_equal(loaded.predict(QUERIES.values), predictor.predict(QUERIES.values))
    with pytest.raises(FileError, match="holds the predictor"):
        transfer_method(name).load(tmp_path / "predictor")


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(b"nothing")
    with pytest.raises(FileError, match="damaged"):
        BlockPrior.load(tmp_path / "damaged")
    with pytest.raises(FileError, match="No such file"):
        LinearPredictor.load(tmp_path / "missing")
    with pytest.raises(ValueError):
        arrays_from_bytes(b"nothing")


@every_method
@pytest.mark.parametrize(
    ("encodings", "latencies_ms", "error", "match"),
    [
        (POOL.encodings[:8, 1:], NEW_MS[:8], DomainError, "must have 34 columns .* got 33"),
        (POOL.encodings[:8], NEW_MS[:7], DomainError, "must have 8 latencies"),
        (
            POOL.encodings[:8],
            np.where(np.arange(8) == 3, 0, NEW_MS[:8]),
            DomainError,
            "positive milliseconds, got 0.0 in row 3",
        ),
        (POOL.encodings[:8], np.where(np.arange(8) == 3, np.nan, NEW_MS[:8]), DomainError, "got nan in row 3"),
        (POOL.encodings[:0], NEW_MS[:0], DomainError, "not empty"),
    ],
)
def test_bad_samples_are_refused(
    name: str, encodings: np.ndarray, latencies_ms: np.ndarray, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        transfer_method(name)(seed=0).fit(POOL).adapt(encodings, latencies_ms)


@pytest.mark.parametrize("make", [BlockPrior, FromScratch, KnownDevices, NearestDevice])
def test_fewer_samples_than_it_needs_are_refused(make: type[Method]) -> None:
    few = make.least_samples - 1
    with pytest.raises(FitError, match=f"at least {few + 1} measurements.*got {few}"):
        make(seed=0).fit(POOL).adapt(POOL.encodings[:few], NEW_MS[:few])
    make(seed=0).fit(POOL).adapt(POOL.encodings[: few + 1], NEW_MS[: few + 1])


def test_a_method_must_be_fitted_first() -> None:
    with pytest.raises(FitError, match="must be fitted"):
        BlockPrior(seed=0).adapt(POOL.encodings[:5], NEW_MS[:5])


def test_encodings_of_another_length_are_refused_in_predicting() -> None:
    predictor = BlockPrior(seed=0).fit(POOL).adapt(POOL.encodings[:5], NEW_MS[:5])
    with pytest.raises(DomainError, match="must have 34 columns"):
        predictor.predict(QUERIES.values[:, 1:])


def test_gaps_in_the_pool_and_near_zero_latencies_are_no_problem() -> None:
    table = {device: values.copy() for device, values in POOL.latencies_ms.items()}
    table["big"][:50] = np.nan
    table["small"][60:70] = 1e-6
    pool = DevicePool(POOL.encodings, table, POOL.groups)
    for name in NAMES:
        assert np.isfinite(_adapted(transfer_method(name)(seed=0).fit(pool))).all()


def _error(make: type[Method], new_ms: np.ndarray, queries_ms: np.ndarray) -> float:
    """Median relative error after ten samples."""
    method = make(seed=0).fit(POOL)
    rows = method.references(POOL, 10)
    predicted_ms = method.adapt(POOL.encodings[rows], new_ms[rows]).predict(QUERIES.values)
    return float(np.median(np.abs(predicted_ms / queries_ms - 1)))


def test_block_prior_learns_a_device_that_is_a_mix_of_known_ones() -> None:
    big, small = POOL.latencies_ms["big"], POOL.latencies_ms["small"]
    queries_ms = 0.7 * _latency_ms(QUERIES, 20.0, 0.5, 1) + 0.6 * _latency_ms(QUERIES, 2.0, 0.2, 2)
    assert _error(BlockPrior, 0.7 * big + 0.6 * small, queries_ms) < 0.01


def test_block_prior_learns_a_device_unlike_all_known_ones_by_its_costs() -> None:
    # It pays for kernels alone, which the known devices hardly do.
    new_ms, queries_ms = (_latency_ms(e, 1e6, 5.0, 7) for e in (ARCHITECTURES, QUERIES))
    assert _error(BlockPrior, new_ms, queries_ms) < 0.5 * _error(NearestDevice, new_ms, queries_ms)


def test_one_wild_sample_does_not_spoil_block_prior() -> None:
    method = BlockPrior(seed=0).fit(POOL)
    rows = method.references(POOL, 20)
    wild_ms = NEW_MS[rows].copy()
    wild_ms[7] *= 4
    predicted_ms = method.adapt(POOL.encodings[rows], wild_ms).predict(QUERIES.values)
    assert np.median(np.abs(predicted_ms / QUERIES_MS - 1)) < 0.05


def test_intervals_hold_what_is_measured_and_shrink_with_samples() -> None:
    method = BlockPrior(seed=0).fit(POOL)
    widths = []
    for count in (5, 40):
        rows = method.references(POOL, count)
        low_ms, high_ms = method.adapt(POOL.encodings[rows], NEW_MS[rows]).intervals(QUERIES.values)
        assert ((low_ms <= QUERIES_MS) & (high_ms >= QUERIES_MS)).mean() > 0.8
        widths.append(np.mean(high_ms - low_ms))
    assert widths[1] < widths[0]


@pytest.mark.parametrize("make", [KnownDevices, BlockPrior])
def test_of_a_pool_of_families_so_many_of_each_are_measured(make: type[Method]) -> None:
    families = np.eye(2)[np.repeat([0, 1], [len(POOL) - 3, 3])]
    values, groups = join(family=families, vec=POOL.encodings)
    rows = make(seed=0).fit(DevicePool(values, POOL.latencies_ms, groups)).references
    pool = DevicePool(values, POOL.latencies_ms, groups)
    assert np.bincount(families[rows(pool, 5)].argmax(axis=1)).tolist() == [5, 3]


def test_deviations_are_half_the_interval_and_never_nothing() -> None:
    method = BlockPrior(seed=0).fit(POOL)
    rows = method.references(POOL, 20)
    predictor = method.adapt(POOL.encodings[rows], NEW_MS[rows])
    deviations, (_, high_ms) = predictor.log_deviations(QUERIES.values), predictor.intervals(QUERIES.values)
    assert deviations is not None
    assert (deviations > 0).all()
    wide = deviations > 0.002
    np.testing.assert_allclose(
        (predictor.predict(QUERIES.values) * np.exp(1.645 * deviations))[wide], high_ms[wide], rtol=1e-3
    )
    baseline = NearestDevice(seed=0).fit(POOL).adapt(POOL.encodings[rows], NEW_MS[rows])
    assert baseline.log_deviations(QUERIES.values) is None


def test_samples_are_spread_over_what_is_uncertain() -> None:
    # Ninety of a kind and ten that differ from them, each in its own way: few of the kind say all there is.
    vectors = np.vstack([np.tile([1.0] + 10 * [0.0], (90, 1)), np.eye(11)[1:]])
    devices = {name: 5 + vectors @ np.linspace(1, 3, 11) * factor for name, factor in (("a", 1.0), ("b", 2.0))}
    pool = DevicePool(vectors, devices)
    rows = BlockPrior(seed=0).fit(pool).references(pool, 11)
    assert (rows >= 90).sum() >= 9


def test_a_wide_pool_is_learned_relatively() -> None:
    # Latencies over four orders of magnitude, as of blocks: small ones count as much as large ones.
    def scale(values: np.ndarray) -> np.ndarray:
        return 10.0 ** (values[:, :OPERATIONS].argmax(axis=1) - 2)

    def latencies(encodings: Encodings, *device: float) -> np.ndarray:
        return scale(encodings.values) * _latency_ms(encodings, *device)  # type: ignore[arg-type]

    devices = {"big": (20.0, 0.5, 1), "small": (2.0, 0.2, 2)}
    known = join(known=np.column_stack([latencies(ARCHITECTURES, *device) for device in devices.values()]))
    pool = DevicePool(known[0], {name: latencies(ARCHITECTURES, *device) for name, device in devices.items()}, known[1])
    method = BlockPrior(seed=0).fit(pool)
    rows = method.references(pool, 10)
    predictor = method.adapt(pool.encodings[rows], latencies(ARCHITECTURES, 3.0, 0.4, 4)[rows])
    queries = np.column_stack([latencies(QUERIES, *device) for device in devices.values()])
    assert np.median(np.abs(predictor.predict(queries) / latencies(QUERIES, 3.0, 0.4, 4) - 1)) < 0.1
