"""What operators cost on matrix arrays with small buffers, as NPUs have them: see `blsm.operators.ethos`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from blsm.operators.ethos import ARRAYS, PASSES, Function, cycles, elementwise
from blsm.operators.ethos_tiles import Geometry, Tile, Window
from blsm.operators.graph import Operator, OperatorGraph
from blsm.operators.tiles import UNFUSED, TileCosts, image

#: Functions that are looked up in tables on the way out.
_TABLES = ("hard_swish", "sigmoid", "tanh", "gelu", "elu")
#: Cycles in which the weights of any operator can be fetched.
_LONG = 1e9


class ArrayCosts(TileCosts):
    """The costs of n configs that share one structure, named as in `ROLE.array.npu_cycles_ARRAY`.

    Attributes:
        terms: latency is about a weighted sum of them: cycles of matrix operators, work and data of others.
        hints: what makes the weights differ from block to block: shares of what goes on at once.
        windows: the matrix operators.
        functions: those on single elements, see `blsm.operators.ethos.Function`.

    Args:
        graph: an operator graph whose shapes and attributes are numbers, or arrays of shape (n,).
        names: of the arrays.
        follows: whether another block comes before, so that the input is on the chip and weights are fetched meanwhile.
    """

    #: Pooling is a depthwise convolution by a kernel as large as the image.
    matrix: ClassVar[tuple[str, ...]] = (*TileCosts.matrix, "global_pool")

    def __init__(self, graph: OperatorGraph, names: Iterable[str] = ARRAYS, follows: bool = False) -> None:
        self._names, self._follows = tuple(names), follows
        self.windows: list[Window] = []
        self.functions: list[Function] = []
        #: Array -> cycles of the operator before.
        self._slack: dict[str, Any] = dict.fromkeys(self._names, _LONG if follows else 0.0)
        #: Of each operator, its distance from the input.
        self._levels: list[int] = []
        for op in graph.operators:
            self._levels.append(1 + max((self._levels[source] for source in op.inputs), default=-1))
        super().__init__(graph)

    def _order(self) -> list[int]:
        """Level by level, the last branch first, as the compiler does."""
        return sorted(range(len(self._levels)), key=self._last)

    def _enters(self, source: Operator) -> bool:
        return super()._enters(source) and not self._follows

    def _add_matrix(self, index: int, op: Operator) -> None:
        window = self._window(index, op)
        self.windows.append(window)
        role = op.kind if window.is_pool else op.role
        tiles: dict[Geometry, Tile] = {}
        for name in self._names:
            array = ARRAYS[name]
            if array.geometry not in tiles:
                tiles[array.geometry] = array.geometry.tile(window)
            found = cycles(array, window, tiles[array.geometry], self._slack[name])
            self._slack[name] = found.slack
            self._add(role, **{f"npu_cycles_{name}": found.total})
            for part in ("compute", "tensors", "weights"):
                self.hints[f"{role}.array.{part}_{name}"] = getattr(found, part) / found.total

    def _add_elementwise(self, index: int, op: Operator) -> None:
        super()._add_elementwise(index, op)
        kind, sources = op.attributes.get("function", op.kind), self._graph.inputs_of(op)
        if kind not in PASSES:
            return
        function = Function(
            kind,
            *image(op.shape),
            inputs=len(sources),
            enters=sum(map(self._enters, sources)),
            leaves=1 * self._leaves(index),
            is_chained=kind == "add" and self._matrix_before(op),
        )
        self.functions.append(function)
        for name in self._names:
            if ARRAYS[name].geometry.is_u85 and function.is_chained:
                continue
            found, self._slack[name] = elementwise(ARRAYS[name], function)
            self._add(kind, **{f"npu_cycles_{name}": found})

    def _matrix_before(self, op: Operator) -> bool:
        """Whether the last of an operator's inputs comes from a matrix operator, by way of what is folded into it."""
        index = max(op.inputs, key=self._last)
        while (source := self._graph.operators[index]).kind in ("batch_norm", "activation", "add"):
            index = max(source.inputs, key=self._last)
        return source.kind in self.matrix

    def _last(self, index: int) -> tuple[int, int]:
        """What tells the last one of operators."""
        return self._levels[index], -index

    def _window(self, index: int, op: Operator) -> Window:
        source = self._graph.inputs_of(op)[0]
        shape, source_shape = image(op.shape), image(source.shape)
        is_pool = op.kind == "global_pool"
        side = op.attributes.get("kernel_size", 1)
        chained, chain_leaves = (1, 0) if is_pool else self._chain(index)  # a mean is a sum, divided
        return Window(
            *shape,
            *source_shape,
            kernel=source_shape[:2] if is_pool else (side, side),
            strides=op.attributes.get("strides", 1),
            is_depthwise=is_pool or op.kind == "depthwise_conv",
            enters=1 * self._enters(source),
            leaves=1 * self._leaves(index),
            is_pool=is_pool,
            looks_up=self._function(index) in _TABLES,
            chained=chained,
            chain_leaves=chain_leaves,
            is_shared=len(self._graph.consumers[op.inputs[0]]) > 1,
        )

    def _function(self, index: int) -> str | None:
        """The function that an operator's outputs go through on the way out."""
        while len(consumers := self._graph.consumers[index]) == 1:
            op = self._graph.operators[consumers[0]]
            if op.kind == "activation":
                return str(op.attributes["function"])
            if op.kind != "batch_norm":
                break
            (index,) = consumers
        return None

    def _chain(self, index: int) -> tuple[int, int]:
        """How many operators of single elements follow directly, and whether the output of the last one leaves."""
        count = 0
        while len(consumers := self._graph.consumers[index]) == 1:
            (consumer,) = consumers
            op = self._graph.operators[consumer]
            function = op.attributes.get("function")
            if op.kind in ("add", "multiply"):
                # It waits for all of its inputs: the last one's operator goes on with it.
                if max(op.inputs, key=self._last) != index:
                    break
                count += 1
            elif function == "hard_sigmoid":
                count += 1
            elif op.kind not in ("batch_norm", "activation") or function in UNFUSED:
                break
            index = consumer
        return count, 1 * self._leaves(index)


def saved(graph: OperatorGraph, array: str) -> dict[str, Any]:
    """Cycles on an array that a block takes less where another one follows, as column `saved`: it writes nothing out.

    Args:
        graph: an operator graph whose shapes and attributes are numbers, or arrays of shape (n,).
        array: its name.
    """
    costs, kind = ArrayCosts(graph, ()), ARRAYS[array]
    count: Any = 0.0
    for window in costs.windows:
        if window.leaves or window.chain_leaves:
            tile, kept = kind.geometry.tile(window), window._replace(leaves=0, chain_leaves=0)
            count = count + cycles(kind, window, tile, _LONG).total - cycles(kind, kept, tile, _LONG).total
    for function in costs.functions:
        if function.leaves and not (kind.geometry.is_u85 and function.is_chained):
            count = count + elementwise(kind, function)[0] - elementwise(kind, function._replace(leaves=0))[0]
    return {"saved": count}
