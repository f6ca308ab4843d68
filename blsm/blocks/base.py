"""What a block family is: a frozen config, and one description of its operators. All else is derived here, once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.domains import Choice, Domain, Integers, Space, SpaceDomain, Value, sample_space
from blsm.errors import DomainError
from blsm.operators import Cursor, NoMatch, OperatorGraph, Tensor, trace
from blsm.operators.costs import total_macs, total_params

if TYPE_CHECKING:
    import keras

DEFAULT_SPACE = "cifar10"
#: The named spaces, and the largest block that samples of them have, in multiply-accumulates: resolution and channels
#: are high together in no network that is deployed.
SPACES: Mapping[str, float] = {"cifar10": float("inf"), "imagenet": 1e9}


def parameter(domain: Domain, *, default: Any = dataclasses.MISSING, **spaces: SpaceDomain) -> Any:
    """Declares a parameter of a block config.

    Args:
        domain: every value that the parameter may take.
        default: value of a config that does not name the parameter.
        **spaces: smaller domains to draw samples from, by name of the space; a space not named here draws from the
            default space `cifar10`, and where that is not named either from all of `domain`.
    """
    return dataclasses.field(default=default, metadata={"domain": domain, "spaces": spaces})


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """One instance's parameters; the base of every family's config.

    A family is a frozen dataclass derived from this class: its fields, declared with `parameter`, are the parameters,
    input shape (height, width, in_channels) first. `operators` describes what the block computes and `guess` recovers
    a config from a graph. A value outside its domain raises DomainError at construction.
    """

    #: Name of the family, as in `blsm profile --block NAME`.
    family: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, domain in block_parameters(type(self)).items():
            value = getattr(self, name)
            try:
                normal = domain.normalise(value)
            except ValueError:
                raise DomainError(f"{self.family}: {name} must be one of {domain}, got {value!r}") from None
            if normal is not value:
                object.__setattr__(self, name, normal)

    def operators(self, x: Tensor) -> Tensor:
        """Describes the block: appends its operators to `x` and returns the output.

        Runs on whole batches of configs too, with integer parameters as arrays: use arithmetic and `if`, not `int()`.
        """
        raise NotImplementedError

    @classmethod
    def guess(cls, x: Cursor) -> Self | Iterator[Self]:
        """The config, or several, that could explain what follows `x`; a wrong guess is harmless.

        May raise NoMatch or DomainError to say that there is none.
        """
        raise NoMatch

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input without the batch axis."""
        shape: tuple[int, int, int] = (self.height, self.width, self.in_channels)  # type: ignore[attr-defined]
        return shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output without the batch axis."""
        return self.graph().output_shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference of batch size 1 (convolutions and dense layers)."""
        return int(total_macs(self.graph()))

    @property
    def params(self) -> int:
        """Number of parameters as Keras counts them, moving statistics included."""
        return int(total_params(self.graph()))

    def graph(self) -> OperatorGraph:
        """The operator graph of this block."""
        return _graph(self)

    def to_dict(self) -> dict[str, Value]:
        """Parameter name -> value, in order."""
        return {name: getattr(self, name) for name in block_parameters(type(self))}

    def to_vector(self) -> Array:
        """The config as float64, shape (number of parameters,)."""
        domains = block_parameters(type(self))
        return np.array([domain.encode(getattr(self, name)) for name, domain in domains.items()])


@lru_cache(maxsize=4096)
def _graph(config: BlockConfig) -> OperatorGraph:
    return trace(config.operators, config.input_shape)


#: Looked up at every construction of a config.
_parameters: dict[type[BlockConfig], Mapping[str, Domain]] = {}


def block_parameters(config_class: type[BlockConfig]) -> Mapping[str, Domain]:
    """Parameter name -> domain of a config class, in order."""
    known = _parameters.get(config_class)
    if known is None:
        domains = {field.name: field.metadata["domain"] for field in dataclasses.fields(config_class)}
        known = _parameters[config_class] = MappingProxyType(domains)
    return known


class BlockFamily:
    """A registered block family; see `blsm.block_family`.

    Attributes:
        name: its name.
        config_class: the frozen dataclass of its configs.
        parameters: name -> domain, in order; the domain holds every value that the family can express.
    """

    def __init__(self, config_class: type[BlockConfig]) -> None:
        self.name = config_class.family
        self.config_class = config_class
        self.parameters = block_parameters(config_class)

    def __repr__(self) -> str:
        return f"BlockFamily({self.name!r})"

    @property
    def summary(self) -> str:
        """First line of the family's documentation."""
        return (self.config_class.__doc__ or "").strip().partition("\n")[0]

    def config(self, **values: Any) -> BlockConfig:
        """The config with these parameter values.

        Raises:
            DomainError: a parameter is missing, unknown, or outside its domain.
        """
        fields = dataclasses.fields(self.config_class)
        unknown = sorted(values.keys() - self.parameters.keys())
        missing = [f.name for f in fields if f.name not in values and f.default is dataclasses.MISSING]
        if unknown or missing:
            said = [f"unknown parameter {', '.join(unknown)}"] if unknown else []
            said += [f"missing parameter {', '.join(missing)}"] if missing else []
            raise DomainError(f"{self.name}: {' and '.join(said)}; its parameters are {', '.join(self.parameters)}")
        return self.config_class(**values)

    def from_vector(self, vector: Sequence[float] | Array) -> BlockConfig:
        """Inverse of a config's `to_vector`.

        Raises:
            DomainError: the vector has another length, or a number that stands for no value of its parameter.
        """
        if len(vector) != len(self.parameters):
            raise DomainError(f"{self.name}: a vector has {len(self.parameters)} numbers, got {len(vector)}")
        values = {}
        for (name, domain), number in zip(self.parameters.items(), vector, strict=True):
            try:
                values[name] = domain.decode(float(number))
            except ValueError:
                raise DomainError(f"{self.name}: {name} must be one of {domain}, got code {number}") from None
        return self.config_class(**values)

    def space(self, name: str = DEFAULT_SPACE) -> Space:
        """The domains that samples are drawn from, by name of the space.

        Raises:
            DomainError: no space of this name.
        """
        if name not in SPACES:
            raise DomainError(f"unknown space {name!r}: must be one of {', '.join(SPACES)}")
        fields = dataclasses.fields(self.config_class)
        chosen: dict[str, SpaceDomain] = {}
        for field in fields:
            spaces = field.metadata["spaces"]
            chosen[field.name] = spaces.get(name, spaces.get(DEFAULT_SPACE, field.metadata["domain"]))
        return chosen

    def sample(self, count: int, seed: int = 0, space: Space | str = DEFAULT_SPACE) -> list[BlockConfig]:
        """Distinct configs that fill a space evenly; the same seed gives the same configs.

        Args:
            count: how many.
            seed: of the scrambling.
            space: name of a space, or domains to draw from.

        Raises:
            DomainError: the space holds fewer configs, or there is none of this name.
        """
        domains = self.space(space) if isinstance(space, str) else space
        most_macs = SPACES[space] if isinstance(space, str) else math.inf
        if most_macs == math.inf:
            return [self.config_class(**setting) for setting in sample_space(domains, count, seed)]
        settings = sample_space(domains, count, seed, lambda setting: self.config_class(**setting).macs <= most_macs)
        return [self.config_class(**setting) for setting in settings]

    def apply(self, config: BlockConfig, x: Any) -> Any:
        """Appends the block to a Keras functional graph.

        Args:
            config: a config of this family.
            x: Keras tensor of shape (batch, *config.input_shape).

        Returns:
            Keras tensor of shape (batch, *config.output_shape).

        Raises:
            DomainError: `x` has another shape than the config's input.
        """
        from blsm.operators.to_keras import apply_graph

        shape = tuple(x.shape[1:])
        if shape != config.input_shape:
            raise DomainError(f"{self.name}: the config's input shape is {config.input_shape}, the tensor's is {shape}")
        return apply_graph(config.graph(), x)

    def build(self, config: BlockConfig) -> keras.Model:
        """A Keras model of this block alone, batch size 1."""
        import keras

        x = keras.Input(config.input_shape, batch_size=1)
        return keras.Model(x, self.apply(config, x))

    def guesses(self, x: Cursor) -> Iterator[BlockConfig]:
        """The configs whose graph may follow `x`; none where the family sees nothing of its own."""
        try:
            found = self.config_class.guess(x)
            yield from [found] if isinstance(found, BlockConfig) else found
        except (NoMatch, DomainError):
            return


ACTIVATIONS = ("relu", "relu6", "hard_swish", "swish")
#: Channel counts that every family accepts, and the ones that samples of the default space have.
CHANNELS = Integers(4, 4096)
SIZE = Integers(1, 512)
CIFAR10_SIZE = Choice(2, 4, 8, 16, 32)
CIFAR10_CHANNELS = Integers(8, 256, step=8, log=True)
IMAGENET_SIZE = Choice(4, 7, 8, 14, 16, 28, 32, 56, 64, 112)
IMAGENET_CHANNELS = Integers(8, 2048, step=8, log=True)
