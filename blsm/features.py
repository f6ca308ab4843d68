"""The one feature function: config vector and analytic costs of block configs, for fitting and predicting alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig, BlockFamily, block_family
from blsm.domains import Choice
from blsm.errors import DomainError
from blsm.operators import OperatorGraph, trace
from blsm.operators.arrays import saved
from blsm.operators.costs import ARRAY_COSTS, CYCLES, DIRECT_COSTS, THREAD_COSTS, TOTALS, Columns, CostTable
from blsm.operators.ends import ENDS, ends
from blsm.operators.ethos import ARRAYS

Derived = TypeVar("Derived")

#: Terms that make up latencies besides the cycles of an array.
_BESIDES = re.compile(r"^(constant|operators|\w+\.bytes)$")
#: About so many configs tell which array a device is like: all arrays' cycles of all configs would take long.
_TRIED = 200
#: Groups of so few configs are taken one by one: numbers are computed with faster than short arrays.
_FEW = 3
#: Costs of so many configs are kept, some 20 MB.
_MOST_COSTS = 10_000
#: What `KnownRows` keeps at most: with some 200 columns, 30 MB.
_MOST_ROWS = 20_000


@dataclass(frozen=True)
class Features:
    """What a regressor may know of n configs of one family; see `blsm.operators.costs.CostTable`.

    Attributes:
        vectors: config vectors, float64, shape (n, parameters).
        totals: MACs, parameters, bytes moved, output shape of the block, shape (n, 6).
        terms: work by kind and role of operator, shape (n, len(term_names)).
        hints: what modifies its cost, shape (n, len(hint_names)).
        term_names: names of the terms.
        hint_names: names of the hints.
    """

    vectors: Array
    totals: Array
    terms: Array
    hints: Array
    term_names: tuple[str, ...]
    hint_names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        configs: Sequence[BlockConfig],
        term_names: Sequence[str] | None = None,
        hint_names: Sequence[str] | None = None,
        arrays: Iterable[str] = ARRAYS,
        follows: bool = False,
    ) -> Self:
        """The features of configs.

        Args:
            configs: all of one family.
            term_names: the terms wanted, in this order; all that occur if None. A term that a block lacks is 0.
            hint_names: likewise the hints.
            arrays: those whose cycles are wanted, where no names are.
            follows: whether each follows another block.

        Raises:
            DomainError: the configs are of different families, or there are none.
        """
        if len({config.family for config in configs}) != 1:
            raise DomainError("features need one or more configs, all of one family")
        batch = _Batch(block_family(configs[0].family), configs)
        wanted = None if term_names is None or hint_names is None else (*term_names, *hint_names)

        def want(costs: re.Pattern[str]) -> bool:
            return wanted is None or any(costs.search(name) for name in wanted)

        # Arrays take most of the time, and a fit may well do without them.
        names = tuple(arrays) if wanted is None else cycles_on(wanted)
        wants = names if want(ARRAY_COSTS) else None, want(DIRECT_COSTS), want(THREAD_COSTS), follows
        make = partial(CostTable, arrays=wants[0], direct=wants[1], threads=wants[2], follows=follows)
        # What a fit asks for, it asks for once; several surrogates of a search want the same blocks.
        parts = batch.derive(configs, make) if wanted is None else _recalled(_known_costs(*wants), batch, configs, make)
        terms = tuple(dict.fromkeys(n for p in parts for n in p.derived.terms) if term_names is None else term_names)
        hints = tuple(dict.fromkeys(n for p in parts for n in p.derived.hints) if hint_names is None else hint_names)
        count = len(configs)
        return cls(
            batch.vectors,
            _assemble([part.of(part.derived.totals) for part in parts], TOTALS, count),
            _assemble([part.of(part.derived.terms) for part in parts], terms, count),
            _assemble([part.of(part.derived.hints) for part in parts], hints, count),
            terms,
            hints,
        )

    @classmethod
    def to_fit(cls, configs: Sequence[BlockConfig], latency_ms: Array, follows: bool = False) -> Self:
        """The features of configs with the cycles of one array: of those that make up latencies best.

        Args:
            configs: all of one family.
            latency_ms: what they take alone, shape (n,).
            follows: whether each follows another block.
        """
        some = slice(None, None, max(1, len(configs) // _TRIED))
        array = cls.of(configs[some])._array_like(latency_ms[some])
        return cls.of(configs, arrays=(array,), follows=follows)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | Sequence[int]) -> Self:
        """The features of some of the configs."""
        parts = (self.vectors[rows], self.totals[rows], self.terms[rows], self.hints[rows])
        return type(self)(*parts, self.term_names, self.hint_names)

    @property
    def table(self) -> Array:
        """All columns side by side, shape (n, columns); `from_table` takes it apart again."""
        return np.hstack([self.vectors, self.totals, self.terms, self.hints])

    @classmethod
    def from_table(cls, table: Array, term_names: Sequence[str], hint_names: Sequence[str]) -> Self:
        """The features whose `table` this is."""
        sizes = (table.shape[1] - len(TOTALS) - len(term_names) - len(hint_names), len(TOTALS), len(term_names))
        vectors, totals, terms, hints = np.split(table, np.cumsum(sizes), axis=1)
        return cls(vectors, totals, terms, hints, tuple(term_names), tuple(hint_names))

    def with_more(self, terms: Columns, hints: Columns) -> Self:
        """The features with more terms and hints, columns of shape (n,)."""
        return replace(
            self,
            terms=np.column_stack([self.terms, *terms.values()]),
            hints=np.column_stack([self.hints, *hints.values()]),
            term_names=(*self.term_names, *terms),
            hint_names=(*self.hint_names, *hints),
        )

    def _array_like(self, latency_ms: Array) -> str:
        """The array whose cycles make up latencies best."""
        from scipy.optimize import nnls

        def error(array: str) -> float:
            wanted = [bool(_BESIDES.search(name)) or cycles_on([name]) == (array,) for name in self.term_names]
            relative = self.terms[:, wanted] / latency_ms[:, None]
            return float(nnls(relative, np.ones(len(latency_ms)), maxiter=100 * relative.shape[1])[1])

        return min(cycles_on(self.term_names), key=error, default=next(iter(ARRAYS)))

    def without(self, patterns: Sequence[re.Pattern[str]]) -> Self:
        """The features without the terms and hints in whose names one of the patterns occurs."""

        def kept(names: Sequence[str]) -> list[int]:
            return [n for n, name in enumerate(names) if not any(pattern.search(name) for pattern in patterns)]

        terms, hints = kept(self.term_names), kept(self.hint_names)
        return replace(
            self,
            terms=self.terms[:, terms],
            hints=self.hints[:, hints],
            term_names=tuple(self.term_names[index] for index in terms),
            hint_names=tuple(self.hint_names[index] for index in hints),
        )


class _Part(NamedTuple, Generic[Derived]):
    """What was derived from some of a batch's configs, which share one structure.

    Attributes:
        places: of the configs in the batch.
        derived: of them, and maybe of others; of numbers, or of arrays of one row for each config.
        rows: those of the configs.
    """

    places: Array
    derived: Derived
    rows: Array

    def of(self, columns: Columns) -> _Part[Columns]:
        """The same rows of some columns."""
        return _Part(self.places, columns, self.rows)


def cycles_on(names: Iterable[str]) -> tuple[str, ...]:
    """The arrays whose cycles are among these names of terms and hints."""
    return tuple(dict.fromkeys(found[1] for name in names if (found := CYCLES.search(name))))


@lru_cache(maxsize=8)
def _known_costs(
    arrays: tuple[str, ...] | None, direct: bool, threads: bool, follows: bool
) -> dict[BlockConfig, tuple[CostTable, int]]:
    """Configs whose costs were asked for lately -> the table that they are in, and the row."""
    return {}


def _recalled(
    known: dict[BlockConfig, tuple[CostTable, int]],
    batch: _Batch,
    configs: Sequence[BlockConfig],
    make: Callable[[OperatorGraph], CostTable],
) -> list[_Part[CostTable]]:
    """As `batch.derive`, but what is known is not made again."""
    # Looked up once: another thread may clear what is known at any time.
    found = {config: entry for config in configs if (entry := known.get(config)) is not None}
    new = [config for config in dict.fromkeys(configs) if config not in found]
    if len(new) > _MOST_COSTS:
        return batch.derive(configs, make)
    if new:
        fewer = batch if len(new) == len(configs) else _Batch(batch.family, new)
        made = {
            new[place]: (part.derived, row)
            for part in fewer.derive(new, make)
            for row, place in enumerate(part.places.tolist())
        }
        found |= made
        if len(known) + len(made) > _MOST_COSTS:
            known.clear()
        known.update(made)
    parts: dict[int, tuple[CostTable, list[int], list[int]]] = {}
    for place, config in enumerate(configs):
        table, row = found[config]
        _, places, rows = parts.setdefault(id(table), (table, [], []))
        places.append(place)
        rows.append(row)
    return [_Part(np.array(places), table, np.array(rows)) for table, places, rows in parts.values()]


def end_features(configs: Sequence[BlockConfig]) -> Array:
    """What the neighbours of blocks in a network see of them, float64, shape (len(configs), len(ENDS)).

    Args:
        configs: of any families.
    """
    table = np.empty((len(configs), len(ENDS)))
    for members, chosen, batch in _families(configs):
        table[members] = _assemble(batch.derive(chosen, ends), ENDS, len(chosen))
    return table


def saved_cycles(configs: Sequence[BlockConfig], array: str) -> Array:
    """Cycles on an array that each of many blocks takes less where another one follows, float64, shape (n,).

    Args:
        configs: of any families.
        array: its name.
    """
    cycles = np.empty(len(configs))
    for members, chosen, batch in _families(configs):
        parts = batch.derive(chosen, partial(saved, array=array))
        cycles[members] = _assemble(parts, ("saved",), len(chosen))[:, 0]
    return cycles


def output_shapes(configs: Sequence[BlockConfig]) -> list[tuple[int, ...]]:
    """The `output_shape` of each of many configs, which takes long one by one.

    Args:
        configs: of any families.
    """
    shapes: list[tuple[int, ...]] = [()] * len(configs)
    for members, chosen, batch in _families(configs):
        for places, shape, _ in batch.derive(chosen, attrgetter("output_shape")):
            sides = np.stack([np.broadcast_to(side, len(places)) for side in shape], axis=1)
            for index, found in zip(members[places].tolist(), sides.tolist(), strict=True):
                shapes[index] = tuple(found)
    return shapes


def _families(configs: Sequence[BlockConfig]) -> Iterator[tuple[Array, list[BlockConfig], _Batch]]:
    """The configs family by family: their indices, themselves, and the batch of them."""
    names = np.array([config.family for config in configs])
    for name in dict.fromkeys(names.tolist()):
        members = np.flatnonzero(names == name)
        chosen = [configs[index] for index in members]
        yield members, chosen, _Batch(block_family(name), chosen)


class KnownRows:
    """Rows of a table of blocks, each computed once: a search meets few blocks, in many networks.

    Args:
        compute: configs -> their rows, shape (len(configs), columns).
    """

    def __init__(self, compute: Callable[[Sequence[BlockConfig]], Array]) -> None:
        self._compute = compute
        self._places: dict[BlockConfig, int] = {}
        self._table: Array | None = None

    def of(self, configs: Sequence[BlockConfig]) -> Array:
        """Rows of blocks, shape (len(configs), columns)."""
        # Equal blocks are mostly one object, and an identity is found ten times faster than a block.
        objects = {id(config): config for config in configs}
        new = [config for config in dict.fromkeys(objects.values()) if config not in self._places]
        if len(self._places) + len(new) > _MOST_ROWS:
            return self._compute(configs)
        if new:
            rows = self._compute(new)
            self._places.update(zip(new, range(len(self._places), len(self._places) + len(new)), strict=True))
            self._table = rows if self._table is None else np.vstack([self._table, rows])
        assert self._table is not None
        places = {identity: self._places[config] for identity, config in objects.items()}
        return self._table[[places[id(config)] for config in configs]]


def _assemble(parts: Sequence[_Part[Columns]], names: Sequence[str], count: int) -> Array:
    """Columns of groups of rows, by name, as one float64 table of shape (count, len(names))."""
    # Column by column in memory: each is filled with few strided writes.
    table = np.zeros((count, len(names)), order="F")
    for places, columns, rows in parts:
        if len(places) == 1:
            table[places[0]] = [float(_rows_of(columns.get(name, 0.0), rows[0])) for name in names]
            continue
        for index, name in enumerate(names):
            if name in columns:
                table[places, index] = _rows_of(columns[name], rows)
    return table


def _rows_of(column: Any, rows: Any) -> Any:
    """Some rows of a column, which may be one number for all."""
    return column[rows] if isinstance(column, np.ndarray) and column.ndim else column


class _Diverges(Exception):  # noqa: N818  # control flow, not an error
    """A condition holds for some configs of a batch only."""

    def __init__(self, mask: Array) -> None:
        self.mask = mask


class _Lanes(np.ndarray[Any, np.dtype[Any]]):
    """One parameter of many configs; a condition on it must hold for all or none, else the batch is split."""

    def __bool__(self) -> bool:
        mask = self.view(np.ndarray)
        if mask.all():
            return True
        if not mask.any():
            return False
        raise _Diverges(mask.astype(bool))


class _Batch:
    """Configs of one family as columns.

    `operators` of a family runs once for a whole batch: parameters of integer domains are arrays, all others agree
    within a group, and where an `if` divides the batch, both parts are traced on their own.
    """

    def __init__(self, family: BlockFamily, configs: Sequence[BlockConfig]) -> None:
        self.family = family
        self.columns: dict[str, Array] = {}
        group = np.zeros(len(configs), np.int64)
        for name, domain in family.parameters.items():
            column = map(attrgetter(name), configs)
            if isinstance(domain, Choice):
                index = {value: number for number, value in enumerate(domain.values)}
                codes = np.fromiter(map(index.__getitem__, column), np.int64, len(configs))
                group = group * len(domain) + codes
                self.columns[name] = np.array([domain.encode(value) for value in domain.values])[codes]
            else:
                self.columns[name] = np.fromiter(column, np.int64, len(configs))
        self.group = group
        self.vectors = np.column_stack([column.astype(float) for column in self.columns.values()])

    def derive(self, configs: Sequence[BlockConfig], make: Callable[[OperatorGraph], Derived]) -> list[_Part[Derived]]:
        """What `make` derives from the configs' graphs, group by group of one structure.

        Args:
            configs: those of the batch.
            make: derives from a graph, of many configs or of one.
        """
        order = np.argsort(self.group, kind="stable")
        starts = np.flatnonzero(np.diff(self.group[order], prepend=-1))
        derived: list[_Part[Derived]] = []

        def one_by_one(members: Array) -> None:
            for index in members:
                derived.append(_Part(np.array([index]), make(configs[index].graph()), np.array([0])))

        for members in np.split(order, starts[1:]):
            if len(members) <= _FEW:
                one_by_one(members)
                continue
            parameters = {
                name: getattr(configs[members[0]], name)
                if isinstance(self.family.parameters[name], Choice)
                else column[members].view(_Lanes)
                for name, column in self.columns.items()
            }
            try:
                derived += self._trace(parameters, members, make)
            except TypeError:
                # A user's family that does with its parameters what arrays can't do, e.g. int().
                one_by_one(members)
        return derived

    def _trace(
        self, parameters: Mapping[str, Any], members: Array, make: Callable[[OperatorGraph], Derived]
    ) -> list[_Part[Derived]]:
        config = object.__new__(self.family.config_class)  # arrays are no values of the domains
        for name, value in parameters.items():
            object.__setattr__(config, name, value)
        try:
            return [_Part(members, make(trace(config.operators, config.input_shape)), np.arange(len(members)))]
        except _Diverges as split:
            parts = []
            for mask in (split.mask, ~split.mask):
                fewer = {k: v[mask] if isinstance(v, _Lanes) else v for k, v in parameters.items()}
                parts += self._trace(fewer, members[mask], make)
            return parts
