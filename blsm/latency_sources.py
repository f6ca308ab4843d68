"""Where a search may take latency from: the surrogate, the device itself, or each where it is best."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import DomainError
from blsm.evaluation import check_device
from blsm.latency_model import LatencyEstimate, LatencyModel
from blsm.network import Network, parse
from blsm.profiles import digest
from blsm.profiling import Device, device, measure_model
from blsm.profiling import Protocol as TimingProtocol

if TYPE_CHECKING:
    import keras

#: A Keras model, a parsed network, or block configs in order.
AnyNetwork = Any


class LatencySource(Protocol):
    """Anything that tells the latency of networks on one device: a `LatencyModel`, or a class of this module.

    A source that also has `latencies(networks)`, as a `LatencyModel` has, is asked for hundreds of candidates at once.
    """

    @property
    def device(self) -> str:
        """Name of the device."""

    def latency(self, network: AnyNetwork, /) -> LatencyEstimate:
        """The latency of a network, with its interval.

        Raises:
            BlsmError: this source can't tell.
        """


class HardwareInTheLoop:
    """Measures each network on the device: builds it, compiles it, times it.

    The interval of an estimate spans the minima of the visits: from the smallest, which is the latency, to the largest.

    Attributes:
        measured: how many networks were measured so far.

    Args:
        device: the device, or its name.
        protocol: how to time; `Protocol.of_networks()` if None.

    Raises:
        UnknownDeviceError: no device of this name.
    """

    def __init__(self, device: str | Device, protocol: TimingProtocol | None = None) -> None:
        self.hardware = _device(device)
        self.protocol = protocol
        self.measured = 0

    @property
    def device(self) -> str:
        """Name of the device."""
        return self.hardware.name

    def latency(self, network: keras.Model | Network | Sequence[BlockConfig]) -> LatencyEstimate:
        """Measures a network.

        A Keras model is measured with random weights, and then has its own again: an untrained batch normalisation is
        folded away, so that a network would be measured as faster than it will be once it is trained.

        Raises:
            DeviceError: the device is not usable here, or the network can't be compiled or run on it.
            DomainError: the blocks are no chain, or were parsed from a network that holds more than them.
        """
        if isinstance(network, Network):
            if network.unmatched:
                raise DomainError(f"only whole networks can be measured: {network.unmatched[0]} is in no block")
            network = network.blocks
        if isinstance(network, Sequence):
            visits = measure_model(tuple(network), self.hardware, self.protocol)
        else:
            with _random_weights(network):
                visits = measure_model(network, self.hardware, self.protocol)
        self.measured += 1
        minima_ms = [visit.minimum_ns / 1e6 for visit in visits]
        return LatencyEstimate(min(minima_ms), min(minima_ms), max(minima_ms), 1.0, ())


class Hybrid:
    """The surrogate where it is sure, the device where it is not.

    A network is measured if its interval is wide or its coverage incomplete; the result is remembered.

    Attributes:
        lm: the surrogate.
        hil: measures.
        max_relative_width: a wider interval, relative to the latency, is too wide.

    Raises:
        FingerprintError: surrogate and hardware are of different devices or machines.
    """

    def __init__(self, lm: LatencyModel, hil: HardwareInTheLoop, max_relative_width: float = 0.2) -> None:
        check_device(lm, hil.hardware, f"the hardware is {hil.device}: take both of one device")
        if not max_relative_width > 0:
            raise DomainError(f"max_relative_width must be above 0, got {max_relative_width!r}")
        self.lm = lm
        self.hil = hil
        self.max_relative_width = max_relative_width
        self._measured: dict[str, LatencyEstimate] = {}

    @property
    def device(self) -> str:
        """Name of the device."""
        return self.lm.device

    def latency(self, network: keras.Model | Network | Sequence[BlockConfig]) -> LatencyEstimate:
        """The surrogate's estimate, or what was measured.

        Raises:
            DeviceError: the network needs to be measured and can't be.
        """
        parsed = _parsed(network)
        estimate = self.lm.latency(parsed, allow_partial=True)
        width_ms = estimate.high_ms - estimate.low_ms
        if estimate.coverage == 1 and width_ms <= self.max_relative_width * estimate.latency_ms:
            return estimate
        name = digest(parsed.blocks) if not parsed.unmatched else _model_digest(network)
        if name not in self._measured:
            self._measured[name] = self.hil.latency(network)
        return self._measured[name]

    def latencies(self, networks: Sequence[Sequence[BlockConfig]]) -> Array:
        """The surrogate's estimates of many networks, to choose among them; none is measured.

        Blocks without a surrogate count nothing here.

        Returns:
            Milliseconds, float64, shape (len(networks),).
        """
        if all(config.family in self.lm.surrogates for network in networks for config in network):
            return self.lm.latencies(networks)
        return np.array([self.lm.latency(network, allow_partial=True).latency_ms for network in networks])


def surrogate_of(source: LatencySource) -> LatencyModel | None:
    """The latency model that alone answers for this source; None where hardware steps in."""
    return source if isinstance(source, LatencyModel) else None


def _device(wanted: str | Device) -> Device:
    return device(wanted) if isinstance(wanted, str) else wanted


def _parsed(network: keras.Model | Network | Sequence[BlockConfig]) -> Network:
    if isinstance(network, Network):
        return network
    return Network(tuple(network)) if isinstance(network, Sequence) else parse(network)


def _model_digest(model: keras.Model) -> str:
    """A name of a model that other models of the same layers share, whatever these are called."""
    text = json.dumps(model.get_config(), sort_keys=True, default=str)
    for number, layer in enumerate(model.layers):
        text = text.replace(f'"{layer.name}"', f'"layer {number}"')
    return re.sub(r'"shared_object_id": \d+|' + f'"{re.escape(model.name)}"', "", text)


@contextmanager
def _random_weights(model: keras.Model) -> Iterator[None]:
    """Gives a model seeded random weights for a while."""
    weights = model.get_weights()
    random = np.random.default_rng(0)
    try:
        model.set_weights(
            [
                random.uniform(0.05, 0.15, weight.shape) if np.issubdtype(weight.dtype, np.floating) else weight
                for weight in weights
            ]
        )
        yield
    finally:
        model.set_weights(weights)
