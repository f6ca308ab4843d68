"""Operators, their graph, the fluent notation that blocks are described in, and matching of one graph inside another.

A tensor is named by the index of the operator that makes it. Shapes have no batch axis: (height, width, channels) for
images and (channels,) for vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Shape = tuple[int, ...]

#: Attributes that do not change what runs: every inference runtime adds a bias for free or folds it.
_FREE_ATTRIBUTES = frozenset({"use_bias"})
_COMMUTATIVE = frozenset({"add", "multiply"})


class NoMatch(Exception):  # noqa: N818  # control flow, not an error
    """A guess did not find the operators it looked for; the parser then drops the guess."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a graph.

    Attributes:
        kind: `input`, `conv`, `depthwise_conv`, `batch_norm`, `activation`, `global_pool`, `pool`, `dense`, `multiply`,
            `add`, `rescale`, or the class name of a Keras layer that blsm does not know.
        inputs: indices of the operators whose outputs it reads.
        attributes: what distinguishes it from others of its kind, e.g. kernel_size.
        shape: shape of its output, without the batch axis.
        layer: name of the Keras layer it came from, if any.
        role: its part in a block, e.g. `expand`: costs of operators of one role go together.
    """

    kind: str
    inputs: tuple[int, ...]
    attributes: Mapping[str, Any]
    shape: Shape
    layer: str = ""
    role: str = ""

    def signature(self) -> tuple[Any, ...]:
        """What must be equal for two operators to do the same work on the same inputs.

        Keras offers several spellings of some operators. A 1x1 convolution of a single pixel is a dense layer, a
        kernel of 1 pads nothing, and a bias costs nothing.
        """
        kind = self.kind
        attributes = {name: value for name, value in self.attributes.items() if name not in _FREE_ATTRIBUTES}
        if kind == "conv" and attributes["kernel_size"] == 1:
            attributes["padding"] = "same"
            if self.shape[:2] == (1, 1) and attributes["strides"] == 1:
                kind, attributes = "dense", {}
        channels = self.shape[-1] if self.shape else 0
        return (kind, channels, *sorted(attributes.items()))


@dataclass(frozen=True)
class OperatorGraph:
    """A directed acyclic graph of operators in topological order.

    Attributes:
        operators: the operators; those of kind `input` stand for the graph's inputs.
        outputs: indices of the operators whose outputs leave the graph.
    """

    operators: tuple[Operator, ...]
    outputs: tuple[int, ...]

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each operator, the operators that read its output, in topological order."""
        readers: list[list[int]] = [[] for _ in self.operators]
        for index, op in enumerate(self.operators):
            for source in dict.fromkeys(op.inputs):
                readers[source].append(index)
        return tuple(map(tuple, readers))

    @cached_property
    def signatures(self) -> tuple[tuple[Any, ...], ...]:
        """The signature of each operator."""
        return tuple(op.signature() for op in self.operators)

    def inputs_of(self, operator: Operator) -> list[Operator]:
        """The operators that one reads from."""
        return [self.operators[index] for index in operator.inputs]

    @property
    def output_shape(self) -> Shape:
        """Shape of the first output."""
        return self.operators[self.outputs[0]].shape

    def equivalent(self, other: OperatorGraph) -> bool:
        """Whether both graphs, each of one input and one output, are the same up to order and free spellings."""
        if len(self.operators) != len(other.operators) or self.operators[0].shape != other.operators[0].shape:
            return False
        found = other.find(self, root=0)
        return found is not None and found[self.outputs[0]] == other.outputs[0]

    def find(self, pattern: OperatorGraph, root: int) -> tuple[int, ...] | None:
        """Where a pattern occurs in this graph, reading the output of operator `root` as its input.

        All operators, attributes and edges must agree, and nothing outside may read what is inside except the
        pattern's output.

        Returns:
            For each operator of the pattern, its index here (the first is `root`), or None where it does not occur.
        """
        if self.operators[root].shape != pattern.operators[0].shape:
            return None
        placed = [root]
        if not self._place(pattern, placed):
            return None
        inside = set(placed)
        for index, here in enumerate(placed):
            if index == 0 or index in pattern.outputs:
                continue
            if here in self.outputs or not inside.issuperset(self.consumers[here]):
                return None
        return tuple(placed)

    def _place(self, pattern: OperatorGraph, placed: list[int]) -> bool:
        """Places the remaining operators of the pattern one after the other; backtracks where one could go twice."""
        number = len(placed)
        if number == len(pattern.operators):
            return True
        wanted = pattern.operators[number]
        sources = tuple(placed[source] for source in wanted.inputs)
        if wanted.kind in _COMMUTATIVE:
            sources = tuple(sorted(sources))
        for candidate in self.consumers[sources[0]]:
            op = self.operators[candidate]
            inputs = tuple(sorted(op.inputs)) if wanted.kind in _COMMUTATIVE else op.inputs
            if (
                inputs == sources
                and self.signatures[candidate] == pattern.signatures[number]
                and candidate not in placed
            ):
                placed.append(candidate)
                if self._place(pattern, placed):
                    return True
                placed.pop()
        return False


class Tensor:
    """A tensor while a block is being described; each method appends one operator and returns its output.

    Shapes and attributes may be arrays, one element a config, when many configs are traced at once. Where a block has
    several convolutions, give each a `role`, e.g. `expand`: latency is learned by role.

    Attributes:
        shape: (height, width, channels) or (channels,).
    """

    __slots__ = ("_index", "_operators", "shape")

    def __init__(self, operators: list[Operator], index: int) -> None:
        self._operators = operators
        self._index = index
        self.shape = operators[index].shape

    def _append(self, kind: str, shape: Shape, *others: Tensor, role: str = "", **attributes: Any) -> Tensor:
        inputs = (self._index, *(other._index for other in others))
        self._operators.append(Operator(kind, inputs, attributes, shape, role=role or kind))
        return Tensor(self._operators, len(self._operators) - 1)

    def conv(
        self, filters: int, kernel_size: int = 1, strides: int = 1, use_bias: bool = False, role: str = ""
    ) -> Tensor:
        """2-D convolution, `same` padding."""
        height, width, _ = self.shape
        shape = (-(-height // strides), -(-width // strides), filters)
        return self._append(
            "conv", shape, role=role, kernel_size=kernel_size, strides=strides, padding="same", use_bias=use_bias
        )

    def depthwise_conv(self, kernel_size: int, strides: int = 1, use_bias: bool = False) -> Tensor:
        """Depthwise 2-D convolution with multiplier 1, `same` padding."""
        height, width, channels = self.shape
        shape = (-(-height // strides), -(-width // strides), channels)
        return self._append(
            "depthwise_conv", shape, kernel_size=kernel_size, strides=strides, padding="same", use_bias=use_bias
        )

    def batch_norm(self) -> Tensor:
        """Batch normalisation over the channels."""
        return self._append("batch_norm", self.shape)

    def activation(self, function: str) -> Tensor:
        """An element-wise function, or softmax over the channels."""
        return self._append("activation", self.shape, function=function)

    def global_pool(self, keepdims: bool = False) -> Tensor:
        """Average over height and width; `keepdims` leaves shape (1, 1, channels)."""
        shape = (1, 1, self.shape[-1]) if keepdims else (self.shape[-1],)
        return self._append("global_pool", shape, function="average")

    def dense(self, units: int, use_bias: bool = True) -> Tensor:
        """Fully connected layer over the last axis of a vector."""
        return self._append("dense", (*self.shape[:-1], units), use_bias=use_bias)

    def multiply(self, other: Tensor) -> Tensor:
        """Element-wise product; `other` may be (1, 1, channels)."""
        return self._append("multiply", self.shape, other)

    def add(self, other: Tensor) -> Tensor:
        """Element-wise sum of two tensors of one shape."""
        return self._append("add", self.shape, other)

    def rescale(self, mode: str) -> Tensor:
        """Input scaling: `scale` x*a, `scale_offset` x*a + b, or `normalization` (x - mean) / deviation per channel."""
        return self._append("rescale", self.shape, mode=mode)


def trace(describe: Callable[[Tensor], Tensor], input_shape: Shape) -> OperatorGraph:
    """The operator graph of a description.

    Args:
        describe: takes the input tensor and returns the output tensor.
        input_shape: (height, width, channels) or (channels,).
    """
    operators = [Operator("input", (), {}, input_shape)]
    output = describe(Tensor(operators, 0))
    return OperatorGraph(tuple(operators), (output._index,))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a graph from which a block family guesses its config.

    Attributes:
        graph: the graph of the whole network.
        index: the operator whose output one stands at.
        through: the operator that every path from here starts with; any reader of the output if None.
    """

    graph: OperatorGraph = field(repr=False)
    index: int
    through: int | None = None

    @property
    def operator(self) -> Operator:
        """The operator one stands at."""
        return self.graph.operators[self.index]

    @property
    def shape(self) -> Shape:
        """Shape of the tensor one stands at."""
        return self.operator.shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the tensor one stands at; raises NoMatch for a vector."""
        if len(self.shape) != 3:
            raise NoMatch
        height, width, channels = self.shape
        return height, width, channels

    def __getitem__(self, attribute: str) -> Any:
        """An attribute of the operator one stands at; raises NoMatch where it has none of that name."""
        try:
            return self.operator.attributes[attribute]
        except KeyError:
            raise NoMatch from None

    def path(self, *kinds: str) -> tuple[Cursor, ...]:
        """Follows consumers of these kinds, one after the other, along the first path that exists in full.

        Returns:
            The places along the path, one for each kind.

        Raises:
            NoMatch: there is no such path.
        """
        found = next(self._paths(kinds), None)
        if found is None:
            raise NoMatch
        return found

    def walk(self, *kinds: str) -> Cursor:
        """The last place of `path(*kinds)`."""
        return self.path(*kinds)[-1]

    def can_walk(self, *kinds: str) -> bool:
        """Whether there is a path of these kinds."""
        return next(self._paths(kinds), None) is not None

    def _paths(self, kinds: Sequence[str]) -> Iterator[tuple[Cursor, ...]]:
        if not kinds:
            yield ()
            return
        consumers = self.graph.consumers[self.index] if self.through is None else (self.through,)
        for consumer in consumers:
            if self.graph.operators[consumer].kind == kinds[0]:
                here = Cursor(self.graph, consumer)
                for rest in here._paths(kinds[1:]):
                    yield (here, *rest)
