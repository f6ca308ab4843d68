"""Analytic costs of operator graphs, for one config or, with arrays in place of numbers, for many at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from blsm.errors import FitError
from blsm.operators.arrays import ArrayCosts
from blsm.operators.ethos import ARRAYS
from blsm.operators.graph import Operator, OperatorGraph
from blsm.operators.tiles import TileCosts, rounded

#: Costs count float32; a device of another precision moves a fixed share of it, which a fit absorbs.
BYTES_PER_ELEMENT = 4
#: Matrix kernels work on tiles of pixels x channels, and a started tile costs as much as a full one. Which tile a
#: device has is not known beforehand: the fit chooses among these (Arm NEON 4x8 to 6x16, AVX512 7x32, and in between).
TILES = ((1, 16), (4, 8), (6, 16), (7, 32), (8, 16))
_TILE_ROWS = sorted({rows for rows, _ in TILES} - {1})
_TILE_COLUMNS = sorted({columns for _, columns in TILES})
#: Sizes of caches, bytes: activations beyond them cost more to move.
CACHES = (32 << 10, 512 << 10, 1 << 20, 16 << 20)
#: Bytes of one way and number of ways of a first level cache, and of a line of it; most processors have about these.
_WAY, _WAYS, _LINE = 4 << 10, 12, 64

#: Of a first level cache, what may hold a window of a depthwise convolution, bytes.
WINDOWS = (24 << 10, 48 << 10, 96 << 10)

#: Channels in a block of a direct convolution (AVX512), and how many channels and pixels its registers hold.
_BLOCK, _SET, _PIXELS = 16, 64, 6

#: Where several threads share an operator, what one of them takes at a time: a tile of a matrix (AVX512), a row of a
#: depthwise convolution's output, so many bytes of what another operator writes.
_SHARED_TILE, _SHARED_BYTES = (7, 32), 4 << 10

#: Terms and hints that only some runtimes need: for a processor's vectors and caches, for convolutions that are no
#: matrix products, for several threads, and for a matrix array.
PROCESSOR_COSTS = re.compile(
    r"bytes_beyond_|_\d+x\d+$|\.(columns|rows|channels)_\d+$|\.(padded|straddling)$|\.(crowded|window_beyond)_"
)
DIRECT_COSTS = re.compile(r"\.direct\.")
THREAD_COSTS = re.compile(r"\bthreads\.")
ARRAY_COSTS = re.compile(r"\.array\.")
#: Of these, those of one array, whose name is the group.
CYCLES = re.compile(rf"\.array\.\w+_({'|'.join(ARRAYS)})$")
#: What earlier versions counted under these names is counted no more.
_RETIRED = re.compile(r"\.(cells|moved|crowded|entry|entry_rows|balance_\d+|(input|output|entry)_beyond_\d+)$")

#: Totals over a block.
TOTALS = ("macs", "params", "bytes", "output_height", "output_width", "output_channels")

Columns = dict[str, Any]


def macs(operator: Operator, inputs: list[Operator]) -> Any:
    """Multiply-accumulates of one operator: convolutions and dense layers count, all else is 0 by convention."""
    if operator.kind in ("conv", "depthwise_conv", "dense"):
        return math.prod(operator.shape) * _taps(operator, inputs)
    return 0


def params(operator: Operator, inputs: list[Operator]) -> Any:
    """Parameters of one operator as Keras counts them, moving statistics included."""
    channels = operator.shape[-1]
    if operator.kind in ("conv", "depthwise_conv", "dense"):
        bias = channels if operator.attributes["use_bias"] else 0
        return _taps(operator, inputs) * channels + bias
    return 4 * channels if operator.kind == "batch_norm" else 0


def _taps(operator: Operator, inputs: list[Operator]) -> Any:
    """Multiply-accumulates for one element of the output."""
    area = operator.attributes.get("kernel_size", 1) ** 2
    return area if operator.kind == "depthwise_conv" else area * inputs[0].shape[-1]


def total_macs(graph: OperatorGraph) -> Any:
    """Multiply-accumulates of a graph."""
    return sum(macs(op, graph.inputs_of(op)) for op in graph.operators)


def total_params(graph: OperatorGraph) -> Any:
    """Parameters of a graph as Keras counts them."""
    return sum(params(op, graph.inputs_of(op)) for op in graph.operators)


def check_names(names: Iterable[str]) -> None:
    """Raises FitError where names of terms include such that are counted no more: they would cost nothing."""
    if retired := [name for name in names if _RETIRED.search(name)]:
        raise FitError(f"it was fitted on costs that this blsm no longer counts ({', '.join(retired)}): fit it again")


class CostTable:
    """The costs of n configs that share one structure.

    Attributes:
        totals: `TOTALS` of the whole block.
        terms: work by kind and role of operator, e.g. `project.macs`; latency is about a weighted sum of them.
        hints: what makes the weights differ from block to block, e.g. `project.columns_32`, by what factor tiles of 32
            columns enlarge a matrix.

    Args:
        graph: an operator graph whose shapes and attributes are numbers, or arrays of shape (n,).
        arrays: those of which to include what they make of it, see `blsm.operators.arrays`; none for what bundles of
            before know of them, see `blsm.operators.tiles`, None for nothing.
        direct: include what direct convolutions make of it.
        threads: include what several threads make of it.
        follows: whether it follows another block, which for arrays makes a difference.
    """

    def __init__(
        self,
        graph: OperatorGraph,
        arrays: Iterable[str] | None = tuple(ARRAYS),
        direct: bool = True,
        threads: bool = True,
        follows: bool = False,
    ) -> None:
        self._direct, self._threads = direct, threads
        self.terms: Columns = {"constant": 1.0}
        self.hints: Columns = {}
        total_bytes: Any = 0
        for op in graph.operators[1:]:
            inputs = graph.inputs_of(op)
            moved_in = BYTES_PER_ELEMENT * sum(math.prod(source.shape) for source in inputs)
            moved_out = BYTES_PER_ELEMENT * math.prod(op.shape)
            if op.kind == "batch_norm" and inputs[0].kind in ("conv", "depthwise_conv", "dense"):
                continue  # folded into the operator before it
            total_bytes = total_bytes + moved_in + moved_out + BYTES_PER_ELEMENT * params(op, inputs)
            self._add("operators", 1.0)
            if op.kind == "depthwise_conv":
                self._add_depthwise(op, inputs)
            elif op.kind in ("conv", "dense"):
                self._add_matrix(op, inputs, moved_in, moved_out)
            else:
                self._add(f"{op.attributes.get('function', op.kind)}.bytes", moved_in + moved_out)
                if op.kind != "global_pool":
                    self._add_woken(-(-moved_out // _SHARED_BYTES))
                else:
                    # Channels are the inner loop: short ones leave vectors half empty.
                    height, width, channels = inputs[0].shape
                    self._add("global_pool.pixels", height * width)
                    self._add("global_pool.channels", channels)
                    self._add("global_pool.padded", height * width * rounded(channels, 16))
                    self._add("global_pool.padded_64", height * width * rounded(channels, 64))
                    self._hint(op, **{f"channels_{size}": rounded(channels, size) / channels for size in (16, 64)})
            for size in CACHES:
                self._add(f"bytes_beyond_{size >> 10}k", np.maximum(0, moved_in + moved_out - size))
        height, width, channels = (1, 1, *graph.output_shape)[-3:]
        values = (total_macs(graph), total_params(graph), total_bytes, height, width, channels)
        self.totals: Columns = dict(zip(TOTALS, values, strict=True))
        if arrays is not None:
            names = tuple(arrays)
            costs = ArrayCosts(graph, names, follows) if names else TileCosts(graph)
            self.terms |= costs.terms
            self.hints |= costs.hints

    def _add(self, name: str, amount: Any) -> None:
        self.terms[name] = self.terms.get(name, 0) + amount

    def _add_depthwise(self, op: Operator, inputs: list[Operator]) -> None:
        height, width, channels = op.shape
        kernel, strides = op.attributes["kernel_size"], op.attributes["strides"]
        # Kernels of different size and strides are different code: each gets weights of its own.
        role = f"{_sized(op)}s{strides}" if isinstance(kernel, int) and isinstance(strides, int) else op.role
        pixels, elements_in = height * width, math.prod(inputs[0].shape)
        self._add(f"{role}.macs", pixels * rounded(channels, 16) * kernel**2)
        self._add(f"{role}.pixels", pixels)
        self._add(f"{role}.weights", channels * kernel**2)
        self._add(f"{role}.input", elements_in)
        self._add_crowding(op, inputs)
        self._add_windows(op)
        self._add_shared(role, height, width * rounded(channels, 16) * kernel**2)
        self._hint(op, weights=channels * kernel**2, inputs=elements_in, outputs=pixels * channels)
        self._hint(op, **{f"channels_{size}": rounded(channels, size) / channels for size in (8, 16, 32, 64)})

    def _add_crowding(self, op: Operator, inputs: list[Operator]) -> None:
        """What a walk over the pixels of one channel fetches again, where many of them fall into one set of the cache.

        They are as far apart as a pixel is long. Where that is a multiple of a large power of two, few sets hold them,
        and pixels are gone when the next row needs them, or, which takes several times as long, the next window. What
        one tap reads of neighbouring windows is `strides` times as far apart, in fewer sets still.
        """
        height, width, channels = inputs[0].shape
        kernel, strides, role = op.attributes["kernel_size"], op.attributes["strides"], _sized(op)
        # So many pixels can stay; a window moves on by `strides` columns.
        kept = _kept(BYTES_PER_ELEMENT * channels)
        kept_of_tap = _kept(BYTES_PER_ELEMENT * channels * strides)
        high, wide = _seen(kernel, height), _seen(kernel, width)
        read = math.prod(op.shape) * kernel
        moved = read * strides
        self._add(f"{role}.crowded_rows", moved * np.maximum(0, 1 - kept / (high * width)))
        self._add(f"{role}.crowded_windows", moved * np.maximum(0, high * wide / kept - 1))
        self._add(f"{role}.crowded_taps", read * np.maximum(0, high * wide / kept_of_tap - 1))

    def _add_windows(self, op: Operator) -> None:
        """What a walk over the channels of windows takes beyond the arithmetic.

        Where a pixel is no whole number of cache lines long, vectors straddle two. Of a window larger than the first
        level cache, little is left when the next one needs it.
        """
        channels, kernel, role = op.shape[-1], op.attributes["kernel_size"], _sized(op)
        macs = math.prod(op.shape) * kernel**2
        self._add(f"{role}.straddling", macs * (BYTES_PER_ELEMENT * channels % _LINE != 0))
        window = BYTES_PER_ELEMENT * channels * kernel**2
        for size in WINDOWS:
            self._add(f"{role}.window_beyond_{size >> 10}k", macs * np.clip(window / size - 1, 0, 1))

    def _add_matrix(self, op: Operator, inputs: list[Operator], moved_in: Any, moved_out: Any) -> None:
        depth = _taps(op, inputs)
        columns = op.shape[-1]
        rows = math.prod(op.shape[:-1])
        # A matrix-vector product is bound by its weights, and a 1x1 convolution needs no gathering of pixels.
        is_vector = op.kind == "dense" or (op.shape[0] == 1 and op.shape[1] == 1)
        role = (
            f"{op.role}.vector" if is_vector else f"{op.role}.{'1x1' if op.attributes['kernel_size'] == 1 else 'kxk'}"
        )
        self._add(f"{role}.macs", rows * columns * depth)
        self._add(f"{role}.weights", columns * depth)
        tile_rows, tile_columns = (1, _SHARED_TILE[1]) if is_vector else _SHARED_TILE
        self._add_shared(role, -(-rows // tile_rows) * -(-columns // tile_columns), depth)
        self._hint(op, weights=columns * depth, inputs=moved_in, outputs=moved_out, columns=columns, depth=depth)
        self._hint(op, **{f"columns_{size}": rounded(columns, size) / columns for size in _TILE_COLUMNS})
        if is_vector:
            self._add(f"{role}.columns", columns)
            for _, tile_columns in TILES:
                self._add(f"{role}.macs_1x{tile_columns}", rounded(columns, tile_columns) * depth)
            return
        self._add(f"{role}.input", moved_in)
        self._add(f"{role}.output", moved_out)
        for tile_rows, tile_columns in TILES:
            tiles = -(-rows // tile_rows) * -(-columns // tile_columns)
            self._add(f"{role}.tiles_{tile_rows}x{tile_columns}", tiles)
            self._add(f"{role}.macs_{tile_rows}x{tile_columns}", tiles * depth)
        self._hint(op, **{f"rows_{size}": rounded(rows, size) / rows for size in _TILE_ROWS})
        if self._direct:
            self._add_direct(op, inputs)

    def _add_direct(self, op: Operator, inputs: list[Operator]) -> None:
        """What a direct convolution does whose channels lie in blocks of one vector each.

        Source: Georganas et al. 2018, Section II. It holds a few blocks of a few neighbouring pixels in registers. At
        the border it has one pixel only, and waits for the arithmetic; taps outside of the image are skipped. An image
        of few channels is read as it is.
        """
        height, width, columns = op.shape
        kernel, strides = op.attributes["kernel_size"], op.attributes["strides"]
        rows_in, width_in, depth = inputs[0].shape
        role = f"{_sized(op)}.direct"
        high, wide = _seen(kernel, rows_in), _seen(kernel, width_in)
        pixels = np.maximum((width_in - kernel + 1) // strides, 0)  # of a row, with all taps inside
        steps = height * high * np.where(depth < _BLOCK, depth, rounded(depth, _BLOCK))
        blocks, sets = rounded(columns, _BLOCK), rounded(columns, _SET) / _SET
        self._add(f"{role}.macs", steps * width * wide * blocks)
        self._add(f"{role}.inside", steps * rounded(pixels, _PIXELS) / _PIXELS * kernel * sets)
        self._add(f"{role}.border", steps * (width * wide - pixels * kernel) * sets)

    def _add_shared(self, role: str, pieces: Any, work: Any) -> None:
        """What two threads make of an operator of so many pieces of work: it waits for the slower one."""
        self._add_woken(pieces)
        if self._threads:
            self._add(f"{role}.threads.slower", -(-pieces // 2) * work)

    def _add_woken(self, pieces: Any) -> None:
        """What is in one piece wakes no other thread."""
        if self._threads:
            self._add("threads.woken", 1.0 * (pieces > 1))

    def _hint(self, op: Operator, **values: Any) -> None:
        for name, value in values.items():
            self.hints[f"{op.role}.{name}"] = value


def _sized(op: Operator) -> str:
    """An operator's role and the size of its kernel, where that is one number for all configs."""
    kernel = op.attributes["kernel_size"]
    return f"{op.role}_{kernel}" if isinstance(kernel, int) else op.role


def _kept(apart: Any) -> Any:
    """How many pixels, so many bytes apart, stay in a first level cache."""
    return _WAY // np.maximum(np.gcd(apart, _WAY), _LINE) * _WAYS


def _seen(kernel: Any, side: Any) -> Any:
    """How much of a kernel's side lies within the image, on average over its pixels."""
    half = kernel // 2
    return np.maximum(kernel - half * (half + 1) / side, np.minimum(side, half + 1))
