"""MAPLE's network: a stream for the architecture, one for the hardware descriptor, and layers that join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from blsm._types import Array
from blsm.transfer.networks import Encoder, Shapes, dense, dense_shapes, join_pairs, random_weights


@dataclass(frozen=True)
class DualStream:
    """The network; its weights are one list: architecture stream, hardware stream, joining layers.

    Attributes:
        encoder: first layers of the architecture stream.
        mean, scale: of the known devices' descriptors, as `asinh` makes them comparable, shape (k,).
        units: of each layer.
    """

    encoder: Encoder
    mean: Array
    scale: Array
    units: int

    @classmethod
    def of(cls, encoder: Encoder, descriptors: Array, units: int) -> Self:
        """The network for descriptors of known devices, shape (devices, k)."""
        squashed = _squash(descriptors)
        deviation = squashed.std(axis=0)
        return cls(encoder, squashed.mean(axis=0), np.where(deviation > 0, deviation, 1.0), units)

    def hardware_inputs(self, descriptors: Array) -> Array:
        """What the hardware stream reads of descriptors of shape (devices, k)."""
        values: Array = ((_squash(descriptors) - self.mean) / self.scale).astype(np.float32)
        return values

    @property
    def _parts(self) -> tuple[Shapes, Shapes, Shapes]:
        units = self.units
        joining = dense_shapes(2 * units, units, units, 1)
        return self.encoder.shapes(), dense_shapes(len(self.mean), units, units), joining

    def random_weights(self, random: np.random.Generator) -> list[Array]:
        """Weights to train from."""
        return [weight for part in self._parts for weight in random_weights(part, random)]

    def run(self, xp: Any, weights: Sequence[Any], x: Any, hardware: Any) -> Any:
        """Scaled log latencies, shape (n, devices), of encoder inputs (n, features) and hardware (devices, k)."""
        first, second = len(self._parts[0]), len(self._parts[0]) + len(self._parts[1])
        architectures = self.encoder.run(xp, weights[:first], x)
        devices = xp.maximum(dense(xp, weights[first:second], hardware), 0)
        return join_pairs(xp, weights[second:], devices, architectures)

    def scales(self) -> dict[str, Array]:
        """`mean` and `scale`, for a file."""
        return {"hardware_mean": self.mean, "hardware_scale": self.scale}

    @classmethod
    def from_data(cls, encoder: Encoder, arrays: Mapping[str, Array], units: int) -> Self:
        """From an encoder and the arrays of `scales`."""
        return cls(encoder, arrays["hardware_mean"], arrays["hardware_scale"], units)


def _squash(descriptors: Array) -> Array:
    """Counters differ by orders of magnitude; those of an operator's latency lie below 1."""
    squashed: Array = np.arcsinh(1e3 * descriptors)
    return squashed
