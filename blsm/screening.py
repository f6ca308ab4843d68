"""What is known of a setting before it is trained: its latency, and the limits that it breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import CoverageError, DeviceError, DomainError
from blsm.hypermodels.settings import list_blocks
from blsm.latency_model import LatencyEstimate
from blsm.latency_sources import HardwareInTheLoop, LatencySource
from blsm.profiles import Chain


@dataclass(frozen=True)
class Limits:
    """What a candidate may cost at most; None for no limit.

    Attributes:
        max_latency_ms: milliseconds.
        max_params: parameters, as Keras counts them.
        max_macs: multiply-accumulates of one inference.

    Raises:
        DomainError: a limit is not above 0.
    """

    max_latency_ms: float | None = None
    max_params: int | None = None
    max_macs: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise DomainError(f"{name} must be above 0, got {value!r}")

    def broken(self, latency_ms: float, params: int, macs: int) -> str:
        """Name of the first limit that is broken; empty if none is."""
        for (name, limit), value in zip(vars(self).items(), (latency_ms, params, macs), strict=True):
            if limit is not None and value > limit:
                return name
        return ""


@dataclass(frozen=True)
class Candidate:
    """A setting before training.

    Attributes:
        values: the setting, hyperparameters included that came up when it was built.
        estimate: its latency; None where it can't be built or measured.
        refused: name of the limit that it breaks, `unbuildable` or `unmeasurable`; empty if none.
        reason: why it can't be built or measured.
        space: KerasTuner's `HyperParameters` after building, with what came up then; None if nothing was built.
    """

    values: dict[str, Any]
    estimate: LatencyEstimate | None
    refused: str = ""
    reason: str = ""
    space: Any = None


class Screening:
    """Judges settings of a hypermodel before they are trained.

    Where the hypermodel offers `blocks(hp)`, the block configs of a setting, or is an AutoKeras graph of known nodes,
    nothing is built.

    Attributes:
        source: tells latency.
        hypermodel: KerasTuner's, or a function that builds a model.
        limits: what is refused.

    Args:
        source: see above.
        hypermodel: see above.
        limits: see above.
    """

    def __init__(self, source: LatencySource, hypermodel: Any, limits: Limits) -> None:
        self.source = source
        self.hypermodel = hypermodel
        self.limits = limits
        self._costs: dict[BlockConfig, tuple[int, int]] = {}
        self._cheap: bool | None = None

    def cheap(self, space: Any) -> bool:
        """Whether thousands of settings can be judged at once.

        Args:
            space: KerasTuner's `HyperParameters`, the whole space.
        """
        if self._cheap is None:
            listed = hasattr(self.source, "latencies") and list_blocks(self.hypermodel, space.copy()) is not None
            self._cheap = listed
        return self._cheap

    def chains(self, settings: Sequence[Mapping[str, Any]], space: Any) -> list[Chain | None]:
        """The blocks of settings; None where these fit together to no network.

        Args:
            settings: active hyperparameters by name.
            space: KerasTuner's `HyperParameters`, the whole space.
        """
        # Copying hyperparameters takes longer than listing blocks: one copy serves all settings.
        hp = space.copy()
        found: list[Chain | None] = []
        for values in settings:
            hp.values = dict(values)
            try:
                found.append(list_blocks(self.hypermodel, hp))
            except DomainError:
                found.append(None)
        return found

    def latencies(self, settings: Sequence[Mapping[str, Any]], space: Any) -> Array:
        """Latencies of many settings, where this is cheap.

        Args:
            settings: active hyperparameters by name.
            space: KerasTuner's `HyperParameters`, the whole space.

        Returns:
            Milliseconds, float64, shape (len(settings),); NaN where a limit is broken or no network comes out.

        Raises:
            CoverageError: a block family has no latency.
        """
        chains = self.chains(settings, space)
        latency_ms = np.full(len(settings), np.nan)
        built = [index for index, chain in enumerate(chains) if chain]
        predicted = self.source.latencies([chain for chain in chains if chain])  # type: ignore[attr-defined]
        for index, value in zip(built, predicted.tolist(), strict=True):
            if not self._broken(value, chains[index] or ()):
                latency_ms[index] = value
        return latency_ms

    def candidate(self, values: Mapping[str, Any], space: Any) -> Candidate:
        """One setting in full.

        Args:
            values: active hyperparameters by name.
            space: KerasTuner's `HyperParameters`, the whole space.

        Raises:
            CoverageError: the source can't tell the latency of what was built.
            ModelFileError: the model is of a kind that can't be parsed.
            DeviceError: the device is not usable here.
        """
        hp = space.copy()
        hp.values = dict(values)
        try:
            chain = list_blocks(self.hypermodel, hp)
            network: Any = self._build(hp) if chain is None else chain
        except Exception as error:  # noqa: BLE001  # whatever a hypermodel raises for a setting that it can't build
            return Candidate(dict(values), None, "unbuildable", f"{type(error).__name__}: {error}")
        try:
            estimate = self.source.latency(network)
        except DeviceError as error:
            hardware = getattr(self.source, "hil", self.source)
            if isinstance(hardware, HardwareInTheLoop) and hardware.hardware.missing() is not None:
                raise
            return Candidate(dict(values), None, "unmeasurable", str(error))
        except CoverageError as error:
            raise CoverageError(
                f"{error}; or measure networks that the surrogate does not cover: latency=Hybrid(lm, hil)"
            ) from None
        if chain is not None:
            return Candidate(dict(values), estimate, self._broken(estimate.latency_ms, chain))
        costs = network.count_params(), self._model_macs(network)
        return Candidate(hp.values, estimate, self.limits.broken(estimate.latency_ms, *costs), space=hp)

    def _build(self, hp: Any) -> Any:
        import keras

        keras.utils.clear_session(free_memory=False)
        return getattr(self.hypermodel, "build", self.hypermodel)(hp)

    def _model_macs(self, model: Any) -> int:
        if self.limits.max_macs is None:
            return 0
        from blsm.operators.costs import total_macs
        from blsm.operators.from_keras import graph_from_keras

        return int(total_macs(graph_from_keras(model)))

    def _broken(self, latency_ms: float, chain: Chain) -> str:
        if self.limits.max_params is None and self.limits.max_macs is None:
            return self.limits.broken(latency_ms, 0, 0)
        costs = [self._cost(config) for config in chain]
        return self.limits.broken(latency_ms, sum(cost[0] for cost in costs), sum(cost[1] for cost in costs))

    def _cost(self, config: BlockConfig) -> tuple[int, int]:
        known = self._costs.get(config)
        if known is None:
            known = self._costs[config] = (config.params, config.macs)
        return known
