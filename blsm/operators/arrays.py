"""What operators cost on matrix arrays with small buffers, as NPUs have them: see `blsm.operators.ethos`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from blsm.operators.ethos import ARRAYS, Geometry, Tile, Window, cycles
from blsm.operators.graph import Operator, OperatorGraph
from blsm.operators.tiles import TileCosts, image


class ArrayCosts(TileCosts):
    """The costs of n configs that share one structure, named as in `ROLE.array.cycles_ARRAY`.

    Attributes:
        terms: latency is about a weighted sum of them: cycles of matrix operators, work and data of others.
        hints: what makes the weights differ from block to block: shares of what goes on at once.

    Args:
        graph: an operator graph whose shapes and attributes are numbers, or arrays of shape (n,).
        names: of the arrays.
    """

    #: Pooling is a depthwise convolution by a kernel as large as the image.
    matrix: ClassVar[tuple[str, ...]] = (*TileCosts.matrix, "global_pool")

    def __init__(self, graph: OperatorGraph, names: Iterable[str] = ARRAYS) -> None:
        self._names = tuple(names)
        super().__init__(graph)

    def _add_matrix(self, index: int, op: Operator) -> None:
        source = self._graph.inputs_of(op)[0]
        height, width, channels = image(op.shape)
        rows, columns, depth = image(source.shape)
        is_pool = op.kind == "global_pool"
        side = op.attributes.get("kernel_size", 1)
        window = Window(
            height,
            width,
            channels,
            rows,
            columns,
            depth,
            (rows, columns) if is_pool else (side, side),
            op.attributes.get("strides", 1),
            is_pool or op.kind == "depthwise_conv",
            1 * (source.kind == "input"),
            1 * self._leaves(index),
        )
        role = op.kind if is_pool else op.role
        tiles: dict[Geometry, Tile] = {}
        for name in self._names:
            array = ARRAYS[name]
            if array.geometry not in tiles:
                tiles[array.geometry] = array.geometry.tile(window)
            found = cycles(array, window, tiles[array.geometry])
            self._add(role, **{f"cycles_{name}": found.total})
            shares = {part: amount / found.total for part, amount in found._asdict().items()}
            self.hints |= {f"{role}.array.{part}_{name}": share for part, share in shares.items()}
