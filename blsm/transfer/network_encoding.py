"""Networks of blocks as rows of numbers that mean the same in every search space, whatever its block families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig, block_family
from blsm.errors import CoverageError
from blsm.features import Features
from blsm.operators.costs import TOTALS
from blsm.profiles import Chain
from blsm.transfer.ridge import Ridge, Standard
from blsm.transfer.zero_cost import zero_cost_table

#: Blocks are told apart by how often resolution was halved before their output: from never to this often or more.
_HALVINGS = 5
_LEVELS = _HALVINGS + 1
#: A block's place decides these parameters, and its costs tell them.
_PLACED = ("height", "width", "in_channels", "strides")
#: Networks whose proxies are computed, to estimate those of all others.
_PROXY_NETWORKS = 64


class NetworkEncoder:
    """Encodes networks relative to the search space that they are of.

    Three groups of columns: `costs` of the network and at each resolution, `blocks` (mean parameters and shares of the
    families at each resolution), and `proxies` if there are any. All are standardised by random networks of the space:
    what is large in one space is small in another, but what it means to be larger than most carries over.

    Zero-cost proxies take far longer than all else: they are computed for a few of the random networks, and estimated
    from the other columns everywhere.

    Attributes:
        groups: name of the group -> names of its columns, in the order of the columns.

    Args:
        networks: random ones of the space.
        proxies: names of zero-cost proxies, see `blsm.transfer.zero_cost.PROXIES`.
        seed: of the proxies' weights and images.

    Raises:
        CoverageError: no networks.
        UnknownNameError: no such proxy.
    """

    groups: Mapping[str, tuple[str, ...]]

    def __init__(self, networks: Sequence[Chain], proxies: Sequence[str] = (), seed: int = 0) -> None:
        if not networks:
            raise CoverageError("a search space is known by random networks of it, got none: name their blocks")
        self._rows: dict[BlockConfig, Array] = {}
        blocks = dict.fromkeys(config for chain in networks for config in chain)
        self._parameters = tuple(dict.fromkeys(name for config in blocks for name in _parameters(config)))
        self._proxies: list[Ridge] = []
        values, groups = self._raw(networks)
        self._standard = Standard.of(values)
        if proxies:
            judged = networks[:_PROXY_NETWORKS]
            table = zero_cost_table(judged, proxies, seed=seed)
            # They span orders of magnitude and both signs: only their order counts.
            self._proxies = Ridge.fits(self._standard(values[: len(judged)]), list(map(normal_scores, table.T)))
        self.groups = {**groups, "proxies": tuple(proxies)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(name for columns in self.groups.values() for name in columns)

    def encode(self, networks: Sequence[Chain]) -> Array:
        """The networks as rows, float64, shape (len(networks), len(names))."""
        standard = self._standard(self._raw(networks)[0])
        return np.column_stack([standard, *(proxy.predict(standard) for proxy in self._proxies)])

    def _raw(self, networks: Sequence[Chain]) -> tuple[Array, dict[str, tuple[str, ...]]]:
        """Columns as they are, and their names by group."""
        self._learn(config for chain in networks for config in chain)
        table = np.array(list(self._rows.values()))
        number_of = {config: number for number, config in enumerate(self._rows)}
        members = np.array([number_of[config] for chain in networks for config in chain])
        network = np.repeat(np.arange(len(networks)), [len(chain) for chain in networks])
        rows = table[members]
        entry = np.array([chain[0].input_shape[0] for chain in networks])[network]
        halvings = np.log2(entry / rows[:, TOTALS.index("output_height")])
        cell = network * _LEVELS + np.clip(np.rint(halvings), 0, _HALVINGS).astype(int)

        def totals(values: Array) -> Array:
            """Sums over the blocks of each network at each resolution, shape (len(networks), _LEVELS)."""
            return np.bincount(cell, values, len(networks) * _LEVELS).reshape(-1, _LEVELS)

        count = totals(np.ones(len(rows)))
        means = {
            name: totals(column) / np.maximum(count, 1)
            for name, column in zip((*TOTALS, *self._parameters), rows.T, strict=True)
        }
        sums = {name: means[name] * count for name in ("macs", "params", "bytes")}
        costs = {name: np.log1p(values.sum(axis=1, keepdims=True)) for name, values in sums.items()}
        costs |= {"depth": count.sum(axis=1, keepdims=True), "blocks": count}
        costs |= {f"{name} at": np.log1p(values) for name, values in sums.items()}
        costs["channels"] = np.log1p(means["output_channels"])
        groups = {"costs": costs, "blocks": {f"mean {name}": means[name] for name in self._parameters}}
        named = {group: tuple(_names(columns)) for group, columns in groups.items()}
        return np.column_stack([column for columns in groups.values() for column in columns.values()]), named

    def _learn(self, configs: Iterable[BlockConfig]) -> None:
        """Keeps totals and parameters of blocks that are new."""
        families: dict[str, list[BlockConfig]] = {}
        for config in dict.fromkeys(configs):
            if config not in self._rows:
                families.setdefault(config.family, []).append(config)
        for family, members in families.items():
            features = Features.of(members, (), ())
            known = dict(zip(block_family(family).parameters, features.vectors.T, strict=True))
            known[family] = np.ones(len(members))
            nothing = np.zeros(len(members))
            parameters = [known.get(name, nothing) for name in self._parameters]
            self._rows.update(zip(members, np.column_stack([features.totals, *parameters]), strict=True))


def normal_scores(values: Array) -> Array:
    """Values replaced by the standard normal deviates of their ranks, shape of `values` (Blom 1958)."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Array = ndtri((rankdata(values) - 0.375) / (len(values) + 0.25))
    return scores


def _parameters(config: BlockConfig) -> list[str]:
    """What is averaged over blocks: the share of a family, and its parameters but for those of its place."""
    return [config.family, *(name for name in config.to_dict() if name not in _PLACED)]


def _names(columns: Mapping[str, Array]) -> Iterable[str]:
    """`macs`, or `blocks 0` to `blocks 5` where there is a column for each resolution."""
    for name, values in columns.items():
        yield from [name] if values.shape[1] == 1 else [f"{name} {level}" for level in range(_LEVELS)]
