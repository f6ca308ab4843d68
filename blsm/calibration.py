"""Correcting a latency model by a handful of networks that were measured whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import FitError
from blsm.profiles import Chain, digest
from blsm.shrinkage import is_clear, kept_share

if TYPE_CHECKING:
    from blsm.latency_model import LatencyModel

#: Fewer networks than this would fit their own noise.
LEAST_NETWORKS = 5
#: Standard deviations that are expected beforehand: of the factor that all families share, of a family's own around it,
#: and of what each block adds beyond, as a share of a network's latency over its number of blocks.
_SHARED, _OWN, _EACH = 0.3, 0.1, 0.1
#: The same of how much cold caches make of networks that last: as a share of what blocks take longer when they are
#: timed with cold caches, or of all that blocks take where they were not.
_COLD, _COLD_UNTIMED = 0.3, 0.1
#: Where cold caches come among what calibration learns, after the shared factor.
_COLD_COLUMN = 1
#: Candidates for the relative deviation of networks around the corrected sum: the larger, the more is shrunk. With less
#: than 2 %, the factors of small families fit what twenty networks have by chance.
_NOISES = (0.02, 0.05, 0.1, 0.2)
#: More than the shared factor counts where it predicts networks left out better by so many standard errors: a small
#: gain of a few networks is chance. Cold caches are one number only, and expected on most devices.
_MUST_GAIN, _MUST_GAIN_COLD = 2.0, 0.5
#: Networks beyond this many standard deviations, estimated by the median, count less.
_HUBER, _REWEIGHTINGS = 1.5, 10


@dataclass(frozen=True)
class Calibration:
    """What networks told of a model.

    tau = c0 + sum(factor of the family * what the block adds + each_ms) + cold * what `blsm.caches.cooled` says

    Attributes:
        factors: block family -> factor.
        shared: the factor of families that no network had.
        each_ms: what every block adds beyond; below 0 where joining blocks saves time.
        cold: what a network adds that lasts so long that its blocks find nothing in the caches, as a share of what they
            take longer with cold caches, or of all they take where the model does not know that; 0 or more.
        networks: `blsm.profiles.digest` of each network that it was fitted on.
        mape: mean absolute percentage error of these networks, each predicted from the others, percent.
    """

    factors: Mapping[str, float]
    shared: float
    each_ms: float
    cold: float
    networks: frozenset[str]
    mape: float

    def apply(self, configs: Sequence[BlockConfig], added_ms: Array) -> Array:
        """What blocks add to a network, corrected; milliseconds, never below 0, shape (len(configs),)."""
        factors = np.array([self.factors.get(config.family, self.shared) for config in configs])
        corrected: Array = np.maximum(factors * added_ms + self.each_ms, 0.0)
        return corrected

    def to_json(self) -> dict[str, Any]:
        """The calibration as JSON data."""
        return {**asdict(self), "networks": sorted(self.networks)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        factors = {str(name): float(factor) for name, factor in data["factors"].items()}
        networks = frozenset(map(str, data["networks"]))
        shared, each_ms, cold, mape = (float(data[name]) for name in ("shared", "each_ms", "cold", "mape"))
        return cls(factors, shared, each_ms, cold, networks, mape)


def calibrate(model: LatencyModel, measured_ms: Mapping[Chain, float]) -> LatencyModel:
    """The model with a calibration, and with conformal scores, from networks measured whole.

    One factor for all blocks, shrunk towards `LatencyModel.sums_factor` as far as its standard error says that it may
    be chance. Where networks left out are predicted better for it, how much cold caches make of networks that last;
    where clearly better, factors of each family and something for each block as well. Ridge regression on relative
    errors, its strength chosen by leaving out one network at a time (Allen 1974, PRESS). Networks that stray far count
    less (Huber 1964), iteratively reweighted: one that a runtime treats in another way than its likes must not bend the
    correction of all. The conformal scores come from the networks left out as well, so that intervals know what
    calibration can't mend (the jackknife; Barber et al. 2021, Section 1), and grow with what so few networks had to
    tell.

    Args:
        model: the model; an earlier calibration of it is replaced.
        measured_ms: network -> latency, milliseconds.

    Raises:
        FitError: fewer than `LEAST_NETWORKS` networks.
        CoverageError: the model lacks a family of theirs.
    """
    networks = list(measured_ms)
    if len(networks) < LEAST_NETWORKS:
        raise FitError(f"{len(networks)} measured networks are too few to calibrate, {LEAST_NETWORKS} are the least")
    plain = replace(model, calibration=None, network_scores=())
    families = sorted({config.family for network in networks for config in network})
    target_ms = np.array([measured_ms[network] for network in networks])
    added_ms, cold_ms = np.zeros((len(networks), len(families))), np.zeros(len(networks))
    for row, network in enumerate(networks):
        for family, block_ms, block_cold_ms in plain.contributions(network):
            added_ms[row, families.index(family)] += block_ms
            cold_ms[row] += block_cold_ms
    whole_ms = plain.sums_factor * added_ms.sum(axis=1) + plain.cold_share * cold_ms
    counts = np.array([len(network) for network in networks], float)
    unit_ms = float(np.median(target_ms / counts))
    # Columns: all families together, cold caches, each family on its own, the number of blocks; rows relative to the
    # measured latency.
    columns = np.column_stack([whole_ms, cold_ms, added_ms, counts * unit_ms])
    relative = columns / target_ms[:, None]
    missing = 1 - (model.dispatch_ms + whole_ms) / target_ms
    prior = np.array([_SHARED, _COLD if model.cold else _COLD_UNTIMED, *[_OWN] * len(families), _EACH])
    solution = np.zeros(len(prior))
    solution[:1], errors = _factor_alone(relative[:, 0], missing)
    everything = np.arange(len(prior))
    for chosen, must_gain in (
        (everything, _MUST_GAIN),
        (np.delete(everything, _COLD_COLUMN), _MUST_GAIN),
        (everything[: _COLD_COLUMN + 1], _MUST_GAIN_COLD),
    ):
        if len(chosen) >= len(networks):
            continue
        more = np.zeros(len(prior))
        more[chosen], errors_of_more = _robust_ridge(relative[:, chosen], missing, prior[chosen])
        shows = is_clear(np.abs(errors) - np.abs(errors_of_more), must_gain)
        # Caches get no warmer than they are in profiling.
        if shows and plain.cold_share * (1 + more[0]) + more[_COLD_COLUMN] >= 0:
            solution, errors = more, errors_of_more
            break
    shared, cold, *own, each = solution.tolist()
    factor = plain.sums_factor * (1 + shared)
    calibration = Calibration(
        {family: factor + more for family, more in zip(families, own, strict=True)},
        factor,
        each * unit_ms,
        plain.cold_share * (1 + shared) + cold,
        frozenset(map(digest, networks)),
        100 * float(np.abs(errors).mean()),
    )
    calibrated = replace(plain, calibration=calibration)
    # Errors left out do not know that they chose what is used, more freely the more that is.
    log_ratios = -np.log(np.maximum(1 - errors, math.exp(-10)))
    log_ratios *= len(networks) / (len(networks) - max(0, np.count_nonzero(solution) - 1))
    scores = (
        abs(log_ratio) / calibrated.deviation(network)
        for network, log_ratio in zip(networks, log_ratios.tolist(), strict=True)
    )
    return replace(calibrated, network_scores=tuple(sorted(scores)))


def _robust_ridge(relative: Array, missing: Array, prior: Array) -> tuple[Array, Array]:
    """The coefficients, and the error of each network as predicted from the others, 1 - predicted / measured."""
    weights = np.ones(len(missing))
    for _ in range(_REWEIGHTINGS):
        inputs, target = relative * prior * weights[:, None], missing * weights
        squares = [np.square(_left_out(inputs, target, candidate)).mean() for candidate in _NOISES]
        noise = _NOISES[int(np.argmin(squares))]
        solution = prior * _ridge(inputs, target, noise)
        errors = _left_out(inputs, target, noise) / weights
        stray = np.abs(missing - relative @ solution)
        limit = _HUBER * 1.4826 * max(float(np.median(stray)), 1e-6)
        weights = np.sqrt(limit / np.maximum(stray, limit))
    return solution, errors


def _factor_alone(inputs: Array, missing: Array) -> tuple[Array, Array]:
    """The coefficient of one input, as far as it is no chance, and the errors as of `_robust_ridge`."""
    solution, errors = _robust_ridge(inputs[:, None], missing, np.array([_SHARED]))
    factor = float(solution[0])
    variance = float(np.square(errors).mean() / np.square(inputs).sum())
    kept = kept_share(factor, variance)
    return kept * solution, missing - kept * (missing - errors)


def _ridge(inputs: Array, target: Array, noise: float) -> Array:
    """Coefficients of the ridge regression whose coefficients are expected to be around 1, errors around `noise`."""
    solution: Array = np.linalg.solve(inputs.T @ inputs + noise**2 * np.eye(inputs.shape[1]), inputs.T @ target)
    return solution


def _left_out(inputs: Array, target: Array, noise: float) -> Array:
    """The error of each row when predicted from the others, in closed form."""
    gram = inputs.T @ inputs + noise**2 * np.eye(inputs.shape[1])
    leverage = np.einsum("ij,ji->i", inputs, np.linalg.solve(gram, inputs.T))
    errors: Array = (target - inputs @ _ridge(inputs, target, noise)) / (1 - leverage)
    return errors
