"""A stack of stages of blocks, described once: its hyperparameters, a setting's blocks, every block within reach."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from blsm.blocks import BlockConfig, BlockFamily, block_family
from blsm.domains import Choice, Domain, Integers, SameAs, Space, Value
from blsm.errors import DomainError
from blsm.profiles import Chain

#: What every family of a stack must have, and what its place in the stack decides.
_SHAPED = ("height", "width", "in_channels", "filters", "strides")
_PLACED = (*_SHAPED, "activation")

Shape = tuple[int, ...]

#: Filters of the stem, and blocks of a stage, where nothing else is said.
STEM = Integers(8, 32, step=8)
DEPTH = Integers(1, 4)


class Hyperparameter(NamedTuple):
    """One hyperparameter of a stack.

    Attributes:
        name: as KerasTuner sees it, without scopes.
        domain: its values; the first is the default, so that the default setting is the smallest network.
        parent: the hyperparameter that decides whether this one is active; None if it always is.
        parent_values: values of the parent that make it active.
    """

    name: str
    domain: Domain
    parent: str | None = None
    parent_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """Blocks of one family one after the other, with equal parameters; only the first has the strides.

    Attributes:
        filters: of its blocks.
        strides: of its first block, 1 or 2.
        depth: number of blocks.
    """

    filters: Domain
    strides: int = 2
    depth: Domain = DEPTH


#: At 32x32, 16x16 and 8x8 pixels. With them every block of every setting lies in its family's default space, also
#: where a bottleneck makes the channels four times as many.
CIFAR10_STAGES = (
    Stage(Integers(8, 32, step=8), strides=1),
    Stage(Integers(16, 64, step=16)),
    Stage(Integers(32, 128, step=32)),
)


@dataclass(frozen=True)
class Stack:
    """A stem, then stages, each of one block family of its own choice.

    Attributes:
        families: the block families to choose from; with a single one there is no choice.
        stages: one after the other.
        stem: filters of the 3x3 convolution in front; None for no stem.
        activation: of the stem, and of the blocks whose family has this parameter.
        parameters: domains in place of the default space's, for parameters such as `kernel_size`.

    Raises:
        DomainError: no family, no stage, a family whose blocks can't be stacked, or a parameter that no family has.
        UnknownBlockError: no such family.
    """

    families: tuple[str, ...]
    stages: tuple[Stage, ...] = CIFAR10_STAGES
    stem: Domain | None = STEM
    activation: str = "relu6"
    parameters: Mapping[str, Domain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.families or not self.stages:
            raise DomainError("a stack needs one or more block families and one or more stages")
        families = [block_family(name) for name in self.families]
        for family in families:
            if lacking := [name for name in _SHAPED if name not in family.parameters]:
                raise DomainError(f"blocks of {family.name} can't be stacked: they have no {', '.join(lacking)}")
        known = {name for family in families for name in family.parameters if name not in _PLACED}
        if unknown := sorted(self.parameters.keys() - known):
            raise DomainError(
                f"blocks of {', '.join(self.families)} have no parameter {', '.join(unknown)} to choose; "
                f"they have {', '.join(sorted(known))}"
            )

    @cached_property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """All hyperparameters, parents before children."""
        found = [] if self.stem is None else [Hyperparameter("stem_filters", self.stem)]
        for prefix, stage in self._numbered:
            found += [Hyperparameter(prefix + "depth", stage.depth), Hyperparameter(prefix + "filters", stage.filters)]
            if len(self.families) > 1:
                found.append(Hyperparameter(prefix + "family", Choice(*self.families)))
            having: dict[tuple[str, Domain], tuple[str, ...]] = {}
            for family, domains in self._chosen.items():
                for choice in domains.items():
                    having[choice] = (*having.get(choice, ()), family)
            for (name, domain), families in having.items():
                condition = () if families == self.families else (prefix + "family", families)
                found.append(Hyperparameter(prefix + name, domain, *condition))
        return tuple(found)

    def blocks(self, values: Mapping[str, Any], input_shape: Shape) -> Chain:
        """The blocks of a setting, in order.

        Args:
            values: hyperparameter name -> value; one that is missing has its default.
            input_shape: (height, width, channels).

        Raises:
            DomainError: a value that no block takes.
        """
        blocks: list[BlockConfig] = []
        shape = tuple(input_shape)
        if self.stem is not None:
            config, shape = self._stem(shape, values.get("stem_filters", _first(self.stem)))
            blocks.append(config)
        for prefix, stage in self._numbered:
            family = values.get(prefix + "family", self.families[0])
            if family not in self._chosen:
                raise DomainError(f"{prefix}family must be one of {', '.join(self.families)}, got {family!r}")
            parameters = tuple(
                (name, values.get(prefix + name, _first(domain))) for name, domain in self._chosen[family].items()
            )
            filters = values.get(prefix + "filters", _first(stage.filters))
            strides = stage.strides
            for _ in range(values.get(prefix + "depth", _first(stage.depth))):
                config, shape = self._block(family, shape, filters, strides, parameters)
                blocks.append(config)
                strides = 1
        return tuple(blocks)

    def reachable(self, input_shape: Shape) -> tuple[Chain, frozenset[Shape]]:
        """Every block that some setting has, and every shape that the stack can end with."""
        found: dict[BlockConfig, None] = {}
        shapes = {tuple(input_shape)}
        if self.stem is not None:
            stems = [self._stem(shape, filters) for shape in shapes for filters in _values(self.stem)]
            found.update(dict.fromkeys(config for config, _ in stems))
            shapes = {shape for _, shape in stems}
        for _, stage in self._numbered:
            deep = max(_values(stage.depth)) > 1
            after = set()
            for shape, (family, parameters) in itertools.product(sorted(shapes), self._settings):
                for filters in _values(stage.filters):
                    config, end = self._block(family, shape, filters, stage.strides, parameters)
                    found[config] = None
                    # Further blocks leave the shape as it is.
                    if deep:
                        found[self._block(family, end, filters, 1, parameters)[0]] = None
                    after.add(end)
            shapes = after
        return tuple(found), frozenset(shapes)

    @cached_property
    def _numbered(self) -> tuple[tuple[str, Stage], ...]:
        return tuple((f"stage{number}_", stage) for number, stage in enumerate(self.stages, start=1))

    @cached_property
    def _chosen(self) -> Mapping[str, Mapping[str, Domain]]:
        """Family -> the parameters that are hyperparameters, and their domains."""
        return {name: self._choices(block_family(name)) for name in self.families}

    def _choices(self, family: BlockFamily) -> dict[str, Domain]:
        found = {}
        for name, domain in family.space().items():
            if name not in _PLACED:
                whole = family.parameters[name] if isinstance(domain, SameAs) else domain
                found[name] = self.parameters.get(name, whole)
        return found

    @property
    def _settings(self) -> Iterator[tuple[str, tuple[tuple[str, Value], ...]]]:
        """Every family with every setting of its parameters."""
        for family, domains in self._chosen.items():
            for values in itertools.product(*map(_values, domains.values())):
                yield family, tuple(zip(domains, values, strict=True))

    def _stem(self, shape: Shape, filters: Any) -> tuple[BlockConfig, Shape]:
        return self._block("conv", shape, filters, 1, (("kernel_size", 3),))

    def _block(
        self, family: str, shape: Shape, filters: Any, strides: int, parameters: tuple[tuple[str, Any], ...]
    ) -> tuple[BlockConfig, Shape]:
        return _block(family, shape, filters, strides, self.activation, parameters)


# A search meets the same few thousand blocks again and again: to make them once makes listing ten times faster.
@lru_cache(maxsize=1 << 16)
def _block(
    name: str, shape: Shape, filters: Any, strides: int, activation: str, parameters: tuple[tuple[str, Any], ...]
) -> tuple[BlockConfig, Shape]:
    """A block and the shape of its output."""
    family = block_family(name)
    values = dict(zip(_SHAPED, (*shape, filters, strides), strict=True), **dict(parameters))
    if "activation" in family.parameters:
        values["activation"] = activation
    config = family.config(**values)
    return config, config.output_shape


def _first(domain: Domain) -> Value:
    return domain.at(0.0)


def _values(domain: Domain) -> tuple[Any, ...]:
    if isinstance(domain, Choice):
        return domain.values
    return tuple(range(domain.low, domain.high + 1, domain.step))


def domains_of(blocks: Chain) -> dict[str, Space]:
    """Family -> the values that each parameter has in these blocks; a width that is always the height is tied to it."""
    configs: dict[str, list[BlockConfig]] = {}
    for config in blocks:
        configs.setdefault(config.family, []).append(config)
    return {family: _space(members) for family, members in configs.items()}


def _space(configs: list[BlockConfig]) -> Space:
    columns = {name: [getattr(config, name) for config in configs] for name in configs[0].to_dict()}
    return {
        name: SameAs("height") if name == "width" and values == columns.get("height") else Choice(*sorted(set(values)))
        for name, values in columns.items()
    }
