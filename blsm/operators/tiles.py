"""What operators cost on a matrix array of about one size that works tile by tile out of a small buffer.

Bundles of before know matrix operators so; `blsm.operators.arrays` knows them better, and element-wise ones likewise.

The array finishes a tile of outputs before it begins the next one, with its accumulators and the inputs that they need
in the buffer. So inputs are read again for each slice of channels and weights for each tile of pixels, and the tile
that reads least is taken (Zhang et al. 2015, "Optimizing FPGA-based Accelerator Design for Deep Convolutional Neural
Networks", Section 3). Computing and moving data overlap, so that the slower of the two decides, but for the first
inputs and the last outputs. Work is counted in multiply-accumulates, data in elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from blsm.operators.graph import Operator, OperatorGraph, Shape

#: The array itself is 2x2 pixels x 8 channels x 8 (or, pixel by pixel, 32) channels of input.
_CELL, _CHANNELS, _TAPS, _DEPTH = 2, 8, 4, 32
#: Loading weights takes as long as working on so many pixels: smaller tiles wait for them.
_LEAST_PIXELS = 32
#: Tiles to choose among, pixels: heights and widths, each of shape (tiles, 1).
_SIDES = (2, 4, 6, 8, 10, 12, 16, 32)
_HEIGHTS, _WIDTHS = np.array([(h, w) for h in _SIDES for w in _SIDES if h <= w]).T[:, :, None]
#: The two ways to divide the buffer: accumulators and inputs of a tile, elements, each of shape (2, 1, 1, 1).
_ACCUMULATORS, _INPUTS = np.array([(2048, 12 << 10), (4096, 4 << 10)]).T[:, :, None, None, None]
#: Channels of a tile: multiples of the first where the operator has more, up to the second.
_SLICE, _MOST_CHANNELS = 16, 128
#: Elements of a tile of an element-wise operator.
_ELEMENTWISE_TILE = 8 << 10
#: An operator whose tensors are larger together has them outside the chip, elements.
_ON_CHIP = 384 << 10
#: Elements of a burst from or to the outside, and of the longest run of writing; a shorter run wastes the rest.
_BURST, _WRITE_RUN = 128, 32
#: Work in the time of moving an element, of matrix and of element-wise operators; the fit chooses.
BALANCES = (16, 32, 64)
_ELEMENTWISE_BALANCES = (2, 6)
#: Functions that need a pass of their own; others are applied on the way out.
UNFUSED = ("swish",)
#: What a batch normalisation is folded into.
_FOLDING = ("conv", "depthwise_conv", "dense")


class _Tile(NamedTuple):
    """Outputs that are computed together: pixels and channels."""

    height: Any
    width: Any
    channels: Any


class TileCosts:
    """The costs of n configs that share one structure, named as in `ROLE.array.work`.

    Attributes:
        terms: latency is about a weighted sum of them.
        hints: what makes the weights differ from block to block: tiles, and work in relation to data.
        matrix: kinds of operators that are matrix products.

    Args:
        graph: an operator graph whose shapes and attributes are numbers, or arrays of shape (n,).
    """

    matrix: ClassVar[tuple[str, ...]] = _FOLDING

    def __init__(self, graph: OperatorGraph) -> None:
        self.terms: dict[str, Any] = {}
        self.hints: dict[str, Any] = {}
        self._graph = graph
        for index in self._order():
            op = graph.operators[index]
            if op.kind in self.matrix:
                self._add_matrix(index, op)
            elif op.kind == "activation" and op.attributes["function"] not in UNFUSED:
                self._add(op.attributes["function"], outputs=math.prod(op.shape))
            elif op.kind != "input" and not self._is_folded(op):
                self._add_elementwise(index, op)

    def _order(self) -> Iterable[int]:
        """That of the operators."""
        return range(len(self._graph.operators))

    def _add(self, role: str, **amounts: Any) -> None:
        for name, amount in amounts.items():
            key = f"{role}.array.{name}"
            self.terms[key] = self.terms.get(key, 0) + amount

    def _is_folded(self, op: Operator) -> bool:
        return op.kind == "batch_norm" and self._graph.inputs_of(op)[0].kind in _FOLDING

    def _enters(self, source: Operator) -> bool:
        """Whether what an operator reads comes from outside of the block."""
        return source.kind == "input"

    def _leaves(self, index: int) -> bool:
        """Whether an operator's output leaves the block, by way of what is folded into it."""
        while index not in self._graph.outputs:
            consumers = [self._graph.operators[consumer] for consumer in self._graph.consumers[index]]
            if len(consumers) != 1 or consumers[0].kind not in ("batch_norm", "activation"):
                return False
            if consumers[0].attributes.get("function") in UNFUSED:
                return False
            index = self._graph.consumers[index][0]
        return True

    def _add_matrix(self, index: int, op: Operator) -> None:
        source = self._graph.inputs_of(op)[0]
        height, width, channels = image(op.shape)
        depth = image(source.shape)[-1]
        area = op.attributes.get("kernel_size", 1) ** 2
        is_depthwise = op.kind == "depthwise_conv"
        tile = _tile(op, source)
        across = -(-height // tile.height) * -(-width // tile.width)
        slices = -(-channels // tile.channels)
        inputs = _needed(op, source, tile) * depth  # of one tile of pixels
        read = inputs * across * (1 if is_depthwise else slices)
        weights = area * channels * (1 if is_depthwise else depth) * across
        taps = _CHANNELS * rounded(area, _TAPS) if is_depthwise else _taps(area, depth)
        pixels = np.maximum(rounded(height, _CELL) * rounded(width, _CELL), _LEAST_PIXELS * across)
        work = pixels * rounded(channels, _CHANNELS) * taps
        run = tile.channels if is_depthwise else _input_slice(area, depth)
        runs = np.where(depth % _CHANNELS, _CHANNELS, np.where(depth > run, run, _BURST))
        reading = np.maximum(1, _BURST // runs)
        writing = np.where((tile.channels <= _SLICE) & (channels == tile.channels), 1, _BURST // _WRITE_RUN)
        outputs, elements_in = math.prod(op.shape), math.prod(source.shape)
        is_large = 1 * (elements_in + outputs > _ON_CHIP)
        enters = 1 if self._enters(source) else is_large
        leaves = 1 if self._leaves(index) else is_large
        outside = read * reading * enters + outputs * writing * leaves + weights
        # On the chip, tensors are kept in slices of channels.
        inside = read // depth * rounded(depth, _SLICE) * (1 - enters)
        inside = inside + outputs // channels * rounded(channels, _SLICE) * (1 - leaves)
        ends = inputs * reading * enters + tile.height * tile.width * tile.channels * writing * leaves
        tiles = across * slices
        self._add(op.role, operators=1, work=work, read=read, weights=weights, outputs=outputs, ends=ends)
        self._add(op.role, outside=outside, inside=inside, edges=enters + leaves)
        self._add(op.role, tiles=tiles, set_up=tile.channels, set_ups=tiles * tile.channels)
        # Memory on the chip is somewhat faster.
        moved = outside + 0.75 * inside
        waits = {f"wait_{balance}": np.maximum(work + balance * ends, balance * moved) for balance in BALANCES}
        self._add(op.role, **waits)
        hints = {"pixels": tile.height * tile.width, "channels": tile.channels, "tiles": tiles}
        hints |= {"work": work / moved, "ends": ends / moved}
        self.hints |= {f"{op.role}.array.{name}": value for name, value in hints.items()}

    def _add_elementwise(self, index: int, op: Operator) -> None:
        role = op.attributes.get("function", op.kind)
        sources = self._graph.inputs_of(op)
        height, width, channels = image(sources[0].shape)
        elements, outputs = height * width * channels, math.prod(op.shape)
        slices = np.minimum(np.maximum(_SLICE, _rounded_down(_ELEMENTWISE_TILE // (height * width), _SLICE)), _BURST)
        reading = np.where(channels <= slices, 1, _BURST // slices)
        writing = np.where(channels <= _SLICE, 1, np.maximum(_BURST // _WRITE_RUN, reading))
        sizes = [math.prod(source.shape) for source in sources]
        outside = reading * sum(size for size, source in zip(sizes, sources, strict=True) if self._enters(source))
        outside = outside + writing * outputs * self._leaves(index)
        outside = outside + (sum(sizes) + outputs) * (sum(sizes) + outputs > _ON_CHIP)
        self._add(role, operators=1, work=height * width * rounded(channels, _SLICE), outside=outside)
        waits = {f"wait_{balance}": np.maximum(balance * elements, outside) for balance in _ELEMENTWISE_BALANCES}
        self._add(role, **waits)


def _tile(op: Operator, source: Operator) -> _Tile:
    """The tile that reads least of those that fit in the buffer; the first one where none does."""
    height, width, channels = image(op.shape)
    in_height, in_width, depth = image(source.shape)
    area = op.attributes.get("kernel_size", 1) ** 2
    is_depthwise = op.kind == "depthwise_conv"
    rows, columns = np.minimum(_HEIGHTS, rounded(height, _CELL)), np.minimum(_WIDTHS, rounded(width, _CELL))
    needed = _needed(op, source, _Tile(rows, columns, 0), clipped=False)
    across = -(-height // rows) * -(-width // columns)
    weights = area * depth * (1 if is_depthwise else channels) * across
    # From here on of shape (buffers, limits, tiles, configs).
    limits = most = _ACCUMULATORS // (rows * columns)
    if is_depthwise:
        # It needs of its input the channels of the tile only: few let the tile be larger.
        limits = np.concatenate([np.full_like(most, _SLICE), np.minimum(most, _INPUTS // needed)], axis=1)
    slices = np.minimum(np.maximum(_SLICE, _rounded_down(limits, _SLICE)), _MOST_CHANNELS)
    slices = np.minimum(slices, rounded(channels, _CHANNELS))
    deep = slices if is_depthwise else np.minimum(_input_slice(area, depth), rounded(depth, _CHANNELS))
    read = needed * depth * (height / rows) * (width / columns)
    read = read * (1 if is_depthwise else -(-channels // slices)) + weights
    # Inputs that fit at once, in the two halves of the buffer, are read once.
    read = np.where(in_height * in_width * depth < 2 * needed * deep, read / 2, read)
    fits = (needed * deep <= _INPUTS) & (rows * columns * slices <= _ACCUMULATORS)
    read = np.where(fits, read, math.inf)
    configs = read.shape[-1]
    least = np.argmin(read.reshape(-1, configs), axis=0), np.arange(configs)
    shape = np.shape(height + width + channels + depth)
    rows, columns, slices = (
        np.broadcast_to(values, read.shape).reshape(-1, configs)[least].reshape(shape)
        for values in (rows, columns, slices)
    )
    return _Tile(np.minimum(rows, height), np.minimum(columns, width), np.minimum(slices, channels))


def _needed(op: Operator, source: Operator, tile: _Tile, clipped: bool = True) -> Any:
    """Pixels of input that a tile of outputs needs."""
    kernel, strides = op.attributes.get("kernel_size", 1), op.attributes.get("strides", 1)
    rows, columns = ((side - 1) * strides + kernel for side in (tile.height, tile.width))
    if not clipped:
        return rounded(rows, _CELL) * rounded(columns, _CELL)
    height, width, _ = image(source.shape)
    return np.minimum(rows, height) * np.minimum(columns, width)


def _taps(area: Any, depth: Any) -> Any:
    """Work for one output: pixels of the kernel one by one over deep inputs, or in groups over shallow ones."""
    return np.minimum(rounded(depth, _DEPTH) * area, rounded(depth, _CHANNELS) * rounded(area, _TAPS))


def _input_slice(area: Any, depth: Any) -> Any:
    """Channels of input that are read together, in the cheaper of both ways of `_taps`."""
    in_groups = rounded(depth, _CHANNELS) * rounded(area, _TAPS) <= rounded(depth, _DEPTH) * area
    return np.where(in_groups, _SLICE, _DEPTH)


def image(shape: Shape) -> tuple[Any, Any, Any]:
    """A shape as (height, width, channels)."""
    height, width, channels = (1, 1, *shape)[-3:]
    return height, width, channels


def rounded(value: Any, multiple: int) -> Any:
    """The next multiple."""
    return -(-value // multiple) * multiple


def _rounded_down(value: Any, multiple: int) -> Any:
    return value // multiple * multiple
