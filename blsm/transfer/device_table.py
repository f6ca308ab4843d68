"""Multi-Predict's network: an architecture, a table of device embeddings, and layers that join the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError, FitError
from blsm.transfer.networks import (
    Encoder,
    Shapes,
    dense,
    dense_shapes,
    encoder_from_data,
    encoder_of,
    encoder_to_data,
    join_pairs,
    random_weights,
)
from blsm.transfer.pool import DevicePool

#: What an architecture can be known by.
ENCODINGS = ("vec", "zcp", "hwl")
#: Of the ridge regression behind `hwl`, in units of standardised columns.
_PENALTY = 1.0


@dataclass(frozen=True)
class MultiPredictSettings:
    """Encodings and hyperparameters (Section 3 and Table 15 of Akhauri and Abdelfattah 2023).

    The paper trains on batches of single latencies; here a batch holds the latencies of its architectures on all
    devices, so that an architecture is encoded once for all of them.

    Attributes:
        encodings: what the network sees of an architecture, of `ENCODINGS`: `vec` is its vector or graph, `zcp` its
            zero-cost proxies, `hwl` its latencies on the known devices, as linear regression on the rest predicts them.
            Those that the pool lacks are left out.
        units: of each layer.
        architecture_size, device_size: lengths of the embeddings.
        layers: that join the embeddings.
        steps: of training.
        batch: architectures in a step.
        rate: of AdamW at the first step; it falls to 0 along a cosine.
        decay: of the weights.
        tuning_steps, tuning_rate: of fine-tuning, on all samples at once.
        frozen_encoder: whether fine-tuning leaves the architecture encoder as it is.
    """

    encodings: tuple[str, ...] = ("vec", "zcp")
    units: int = 100
    architecture_size: int = 20
    device_size: int = 20
    layers: int = 5
    steps: int = 2000
    batch: int = 64
    rate: float = 1e-3
    decay: float = 5e-4
    tuning_steps: int = 50
    tuning_rate: float = 1e-3
    frozen_encoder: bool = True

    def __post_init__(self) -> None:
        if not self.encodings or not set(self.encodings) <= set(ENCODINGS):
            raise DomainError(f"encodings must be some of {', '.join(ENCODINGS)}, got {', '.join(self.encodings)}")

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """From JSON data."""
        return cls(**{**data, "encodings": tuple(data["encodings"])})


@dataclass(frozen=True)
class LinearMap:
    """Encodings to other numbers: columns squashed, standardised, multiplied.

    Attributes:
        columns: which of the encoding.
        center, spread: of the columns over the pool; what lies many spreads off is squashed (proxies have long tails).
        kernel: float64, shape (len(columns) + 1, outputs), the last row for a constant.
    """

    columns: Array
    center: Array
    spread: Array
    kernel: Array

    @classmethod
    def identity(cls, pool: DevicePool, columns: Array) -> LinearMap:
        """The columns themselves, standardised."""
        values = pool.encodings[:, columns]
        center = np.median(values, axis=0)
        spread = values.std(axis=0)
        quartiles = np.subtract(*np.percentile(values, [75, 25], axis=0))
        spread = np.where(quartiles > 0, quartiles, np.where(spread > 0, spread, np.inf))
        return cls(columns, center, spread, np.vstack([np.eye(len(columns)), np.zeros(len(columns))]))

    @classmethod
    def to_latencies(cls, pool: DevicePool, columns: Array) -> LinearMap:
        """Ridge regressions of each device's latency, standardised, on the columns."""
        base = cls.identity(pool, columns)
        x = base.run(pool.encodings)
        x = np.column_stack([x, np.ones(len(x))])
        penalty = np.diag([*[_PENALTY] * len(columns), 0.0])
        weights = []
        for latencies_ms in pool.latencies_ms.values():
            known = ~np.isnan(latencies_ms)
            y = latencies_ms[known]
            y = (y - y.mean()) / (y.std() or 1.0)
            weights.append(np.linalg.solve(x[known].T @ x[known] + penalty, x[known].T @ y))
        return cls(columns, base.center, base.spread, np.column_stack(weights))

    def run(self, encodings: Array) -> Array:
        """Shape (n, outputs)."""
        squashed = np.arcsinh((encodings[:, self.columns] - self.center) / self.spread)
        mapped: Array = squashed @ self.kernel[:-1] + self.kernel[-1]
        return mapped

    def to_data(self) -> dict[str, Any]:
        """As JSON data."""
        spread = [None if np.isinf(value) else float(value) for value in self.spread]
        arrays = {name: getattr(self, name).tolist() for name in ("columns", "center", "kernel")}
        return {**arrays, "spread": spread}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> LinearMap:
        """Inverse of `to_data`."""
        spread = [np.inf if value is None else value for value in data["spread"]]
        columns, center, kernel = (np.array(data[name]) for name in ("columns", "center", "kernel"))
        return cls(columns.astype(int), center.astype(float), np.array(spread, float), kernel.astype(float))


@dataclass(frozen=True)
class DeviceTable:
    """The network; its weights are one list: encoder, table (devices, device_size), joining layers.

    Attributes:
        settings: its sizes.
        encoder: of `vec`, if it is used.
        extra: what else the joining layers see of an architecture.
        devices: rows of the table.
    """

    settings: MultiPredictSettings
    encoder: Encoder | None
    extra: tuple[LinearMap, ...]
    devices: int

    @classmethod
    def of(cls, pool: DevicePool, settings: MultiPredictSettings) -> Self:
        """The network for a pool.

        Raises:
            FitError: the pool has none of the encodings.
        """
        wanted, zcp = settings.encodings, pool.columns("zcp")
        vec = pool.columns("vec")
        encoder = encoder_of(pool, settings.units) if "vec" in wanted and len(vec) else None
        extra = []
        if "zcp" in wanted and len(zcp):
            extra.append(LinearMap.identity(pool, zcp))
        if "hwl" in wanted:
            extra.append(LinearMap.to_latencies(pool, np.concatenate([vec, pool.columns("physical", "zcp")])))
        if encoder is None and not extra:
            has = ", ".join(pool.groups)
            raise FitError(f"multi_predict needs one of the encodings {', '.join(wanted)}, the pool has {has}")
        return cls(settings, encoder, tuple(extra), len(pool.devices))

    @property
    def _encoder_shapes(self) -> Shapes:
        if self.encoder is None:
            return []
        units = self.settings.units
        return [*self.encoder.shapes(), *dense_shapes(units, units, self.settings.architecture_size)]

    @property
    def encoder_weights(self) -> int:
        """How many of the weights are the encoder's."""
        return len(self._encoder_shapes)

    @property
    def _extra_width(self) -> int:
        return sum(part.kernel.shape[1] for part in self.extra)

    def random_weights(self, random: np.random.Generator) -> list[Array]:
        """Weights to train from; the table's are standard normal."""
        settings = self.settings
        width = self._extra_width + settings.device_size + (settings.architecture_size if self.encoder else 0)
        table = random.standard_normal((self.devices, settings.device_size)).astype(np.float32)
        joining = dense_shapes(width, *[settings.units] * (settings.layers - 1), 1)
        return [*random_weights(self._encoder_shapes, random), table, *random_weights(joining, random)]

    def of_one_device(self, weights: Sequence[Array], device: int) -> list[Array]:
        """Weights with a table of one device alone."""
        number = self.encoder_weights
        return [*weights[:number], weights[number][device : device + 1], *weights[number + 1 :]]

    def inputs(self, encodings: Array) -> Array:
        """What `run` reads of encodings: float32, shape (n, features)."""
        parts = [part.run(encodings).astype(np.float32) for part in self.extra]
        if self.encoder is not None:
            parts.append(self.encoder.inputs(encodings))
        return np.hstack(parts)

    def run(self, xp: Any, weights: Sequence[Any], x: Any) -> Any:
        """Scaled latencies on each device of the table, shape (n, devices), of inputs (n, features)."""
        number, extra = self.encoder_weights, self._extra_width
        table, joining = weights[number], weights[number + 1 :]
        parts = [x[:, :extra]]
        if self.encoder is not None:
            own = len(self.encoder.shapes())
            parts.append(dense(xp, weights[own:number], self.encoder.run(xp, weights[:own], x[:, extra:])))
        return _sigmoid(xp, join_pairs(xp, joining, table, xp.concatenate(parts, -1)))

    def to_data(self) -> dict[str, Any]:
        """As JSON data, settings aside."""
        encoder = None if self.encoder is None else encoder_to_data(self.encoder)
        return {"encoder": encoder, "extra": [part.to_data() for part in self.extra], "devices": self.devices}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], settings: MultiPredictSettings) -> Self:
        """Inverse of `to_data`."""
        encoder = None if data["encoder"] is None else encoder_from_data(data["encoder"])
        return cls(settings, encoder, tuple(map(LinearMap.from_data, data["extra"])), int(data["devices"]))


def _sigmoid(xp: Any, x: Any) -> Any:
    return 0.5 * (1 + xp.tanh(0.5 * x))
