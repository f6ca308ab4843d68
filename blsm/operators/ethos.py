"""What operators cost on Arm's Ethos-U arrays: cycles, as the cycle model of their compiler counts them.

An array finishes a tile of outputs before it begins the next one. It multiplies, writes out what is accumulated, and
moves tensors and weights, all at once: the slowest decides, but for the first inputs and the last outputs.

Source: Arm Vela (Apache 2.0), whose model the device `asic` reads. This is that of single operators, for many at once.
What the compiler's scheduler decides among operators, which tensors stay on the chip above all, is left to the fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blsm.operators.tiles import rounded

#: Multiplying is in steps of so many taps of a kernel, on so many channels of input; a step takes so many cycles.
_TAPS, _LANES, _CYCLES = 4, 8, 4
#: Channels of a tile are a multiple of it, and so are those of tensors on the chip; above so many, of that.
_SLICE, _LARGE_SLICE = 16, 64
#: Loading weights for a channel of a step takes so many cycles: smaller tiles wait for them.
_LOADING = 4
#: Cycles between two steps on one and the same outputs.
_DELAY = 2
#: Sides of a kernel beyond it are worked on in parts.
_PART = 8
#: Bytes of scale and bias of a channel, and what is read at a time.
_SCALE, _READ = 10, 256
#: Bytes of encoded weights: of each, of each channel, and of all.
_ENCODED, _CHANNEL, _HEADER = 1.02, 3, 30
#: Weights up to which an Ethos-U85 has them on the chip before an operator begins.
_SMALL = 3 << 10
#: Latency of memory on the chip, cycles.
_INSIDE_LATENCY = 32
#: Sides of a tile, pixels.
_SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 32)

#: Outputs that are worked on at once: height, width and channels.
Cell = tuple[int, int, int]


class Window(NamedTuple):
    """An operator that multiplies windows of an image, numbers or arrays of shape (n,).

    Attributes:
        height, width, channels: of its output.
        rows, columns, depth: of its input.
        kernel: height and width of the kernel.
        strides: in both directions.
        is_depthwise: whether each channel is on its own.
        enters, leaves: whether its input and output lie outside of the chip, 0 or 1.
    """

    height: Any
    width: Any
    channels: Any
    rows: Any
    columns: Any
    depth: Any
    kernel: tuple[Any, Any]
    strides: Any
    is_depthwise: bool
    enters: Any
    leaves: Any

    @property
    def area(self) -> Any:
        """Taps of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def weights(self) -> Any:
        """Their number."""
        return self.area * self.channels * (1 if self.is_depthwise else self.depth)

    def needed(self, height: Any, width: Any) -> tuple[Any, Any]:
        """Rows and columns of input for so many outputs."""
        return (height - 1) * self.strides + self.kernel[0], (width - 1) * self.strides + self.kernel[1]


class Tile(NamedTuple):
    """Outputs that are computed together, and how.

    Attributes:
        height, width, channels: multiples of a cell, or the whole of the output.
        by_taps: whether kernels are gone through in groups of taps over few channels of input, not tap by tap.
        depth: channels of input that are read together.
    """

    height: Any
    width: Any
    channels: Any
    by_taps: Any
    depth: Any


@dataclass(frozen=True)
class Geometry:
    """How an array cuts operators into tiles.

    Attributes:
        cells: of convolutions; the one that wastes least is taken.
        depthwise_cells: likewise of depthwise convolutions.
        buffers: ways to divide the buffer among outputs and inputs of a tile, elements; half of it is for the next one.
        depth: channels of input that are read together.
        most_channels: of a tile.
        is_u85: whether it is of the last generation.
    """

    cells: tuple[Cell, ...]
    depthwise_cells: tuple[Cell, ...]
    buffers: tuple[tuple[int, int], ...]
    depth: int = 32
    most_channels: int = 128
    is_u85: bool = False

    def cells_of(self, window: Window) -> tuple[Cell, ...]:
        """The cells that are for an operator."""
        return self.depthwise_cells if window.is_depthwise else self.cells

    def tile(self, window: Window) -> Tile:
        """The best one of those that fit in the buffer; the first one where none does."""
        by_taps = self._by_taps(window)
        depth = np.where(by_taps, _SLICE, self.depth)
        # An Ethos-U85 reads whole slices even where there are fewer channels.
        depth = depth if self.is_u85 else np.minimum(depth, rounded(window.depth, _LANES))
        rate = self._by_cover if self.is_u85 and window.is_depthwise else self._by_reading
        rows, columns, channels, cost = rate(window, depth)
        count = cost.shape[-1]
        least = np.argmin(cost.reshape(-1, count), axis=0), np.arange(count)
        shape = np.shape(window.height + window.width + window.channels + window.rows + window.columns + window.depth)

        def best(values: Any, limit: Any) -> Any:
            found = np.broadcast_to(values, cost.shape).reshape(-1, count)[least]
            return np.minimum(found.reshape(shape), limit)

        return Tile(
            best(rows, window.height), best(columns, window.width), best(channels, window.channels), by_taps, depth
        )

    def _by_reading(self, window: Window, depth: Any) -> tuple[Any, Any, Any, Any]:
        """Heights, widths and channels of tiles, and how much is read: of shape (buffers, tiles, n), or less."""
        rows, columns = self._sides(window, lambda height, width: height <= width)
        accumulators, inputs = np.array(self.buffers).T[:, :, None, None]
        needed = _area(window, rows, columns)
        most = accumulators // (rows * columns)
        most = np.minimum(most, inputs // needed) if window.is_depthwise else most
        channels = self._channels(window, most)
        taken = needed * (channels if window.is_depthwise else np.minimum(depth, rounded(window.depth, _LANES)))
        across = -(-window.height // rows) * -(-window.width // columns)
        read = needed * window.depth * (window.height / rows) * (window.width / columns)
        read = read * (1 if window.is_depthwise else -(-window.channels // channels)) + window.weights * across
        # Inputs that fit at once, in both halves of the buffer, are read once.
        read = np.where(window.rows * window.columns * window.depth < 2 * taken, read / 2, read)
        fits = (taken <= inputs) & (rows * columns * channels <= accumulators)
        return rows, columns, channels, np.where(fits, read, math.inf)

    def _by_cover(self, window: Window, depth: Any) -> tuple[Any, Any, Any, Any]:
        """Likewise, by how well the tile covers the image: so an Ethos-U85 chooses for depthwise convolutions.

        A tile has the whole buffer, but the first rows of the next one must fit besides its inputs.
        """
        rows, columns = self._sides(window, lambda height, width: True)
        accumulators, inputs = 2 * np.array(self.buffers).T[:, :, None, None]
        needed = _area(window, rows, columns)
        first = min(cell[0] for cell in self.depthwise_cells)
        most = accumulators // (rows * columns)
        sliced = np.minimum(most, inputs // (needed + _area(window, first, columns)))
        sliced = np.where(sliced < _LARGE_SLICE, sliced, sliced // _LARGE_SLICE * _LARGE_SLICE)
        volume = np.minimum(needed, window.rows * window.columns) * window.depth
        is_all = (rows >= window.height) & (columns >= window.width) & (volume <= inputs) & (most >= window.channels)
        channels = self._channels(window, np.where(is_all, most, sliced))
        missed = 1 + np.abs(1 - window.height * window.width / (rows * columns))
        missed = missed * (1 + np.abs(1 - window.channels / channels) / 10)
        missed = missed + np.abs(np.log(rows / columns)) / 100
        fits = (np.minimum(needed * channels, volume) <= inputs) & (rows * columns * channels <= accumulators)
        return rows, columns, channels, np.where(fits, missed, math.inf)

    def _sides(self, window: Window, wanted: Callable[[int, int], bool]) -> tuple[Any, Any]:
        """Heights and widths of tiles, multiples of cells no larger than the output, each of shape (tiles, n)."""
        cells = self.cells_of(window)
        high, wide = min(cell[0] for cell in cells), min(cell[1] for cell in cells)
        sides = [(h, w) for h in _SIDES for w in _SIDES if h % high == 0 and w % wide == 0 and wanted(h, w)]
        heights, widths = np.array(sides).T[:, :, None]
        return np.minimum(heights, rounded(window.height, high)), np.minimum(widths, rounded(window.width, wide))

    def _channels(self, window: Window, most: Any) -> Any:
        """Channels of a tile that may have so many."""
        channels = np.minimum(np.maximum(_SLICE, most // _SLICE * _SLICE), self.most_channels)
        return np.minimum(channels, rounded(window.channels, _LANES))

    def _by_taps(self, window: Window) -> Any:
        """Whichever leaves fewer multipliers idle."""
        area, depth = window.area, window.depth
        if window.is_depthwise:
            return np.zeros(np.shape(depth), bool)
        if self.is_u85:
            taps = area // 5 * 5 + np.where(area % 5, np.maximum(area % 5, 2), 0)
            return depth / rounded(depth, _SLICE) * area / taps >= depth / rounded(depth, self.depth)
        used = depth * area / (rounded(depth, _LANES) * rounded(area, _TAPS))
        return (depth <= _LANES) | (used > depth / rounded(depth, self.depth))


class Memory(NamedTuple):
    """Memory outside of the chip, where a network's weights, input and output lie, and that on the chip.

    Attributes:
        latency: of reading and writing a tensor, cycles.
        burst: bytes; a shorter run wastes the rest.
        speed: bytes a cycle.
        read, write: of whole tensors, bytes a cycle.
        weights: bytes a cycle.
        weights_latency: cycles.
        scales: cycles for a channel's scale.
        inside: of memory on the chip, bytes a cycle.
    """

    latency: tuple[int, int]
    burst: int
    speed: float
    read: float
    write: float
    weights: float
    weights_latency: int
    scales: float
    inside: float


@dataclass(frozen=True)
class EthosU:
    """An array, and the system that the compiler assumes around it.

    Attributes:
        geometry: how it cuts operators into tiles.
        cores: that share the work on a cell.
        writing: cycles for an output.
        memory: of the system.
    """

    geometry: Geometry
    cores: int
    writing: float
    memory: Memory


_U55_64 = Geometry(((1, 1, 8),), ((1, 1, 8),), ((512, 5 << 10), (1024, 3 << 10), (1536, 1 << 10)))
_U55_128 = Geometry(((1, 2, 8),), ((1, 2, 8),), ((1024, 6 << 10), (2048, 2 << 10)))
_U65 = Geometry(((2, 2, 8),), ((2, 2, 8),), ((2048, 12 << 10), (4096, 4 << 10)))
_U85_256 = Geometry(((1, 4, 8), (2, 2, 8)), ((1, 2, 16),), ((2048, 8 << 10),), 64, 1024, is_u85=True)
_U85_512 = Geometry(((2, 2, 16), (1, 4, 16)), ((2, 2, 16), (1, 4, 16)), ((4096, 8 << 10),), 64, 1024, is_u85=True)
_FLASH = Memory((32, 32), 32, 8.0, 8.0, 8.0, 1.0, 64, 0.0, 8.0)
_DRAM = Memory((500, 250), 128, 12.0, 12.0, 12.0, 12.0, 500, 0.0, 16.0)
#: Its tensors, weights and scales have channels of their own.
_CHANNELS_256 = Memory((500, 250), 128, 12.0, 3.277, 10.5, 3.277, 500, 24.4, 32.0)
_CHANNELS_512 = Memory((500, 250), 128, 12.0, 6.554, 10.5, 6.554, 500, 24.4, 32.0)
ARRAYS = {
    "u55_64": EthosU(_U55_64, 1, 1.0, _FLASH),
    "u55_128": EthosU(_U55_128, 1, 0.5, _FLASH),
    "u55_256": EthosU(_U65, 1, 0.25, _FLASH),
    "u65_256": EthosU(_U65, 1, 0.25, _DRAM),
    "u65_512": EthosU(_U65, 2, 0.125, _DRAM),
    "u85_256": EthosU(_U85_256, 1, 0.25, _CHANNELS_256),
    "u85_512": EthosU(_U85_512, 2, 0.125, _CHANNELS_512),
}


class Cycles(NamedTuple):
    """Cycles that an operator takes: of what goes on at once, the slowest.

    Attributes:
        compute: multiplying and writing out.
        tensors: moving them.
        weights: likewise, and with them the tensors that share their channel.
    """

    compute: Any
    tensors: Any
    weights: Any

    @property
    def total(self) -> Any:
        """The slowest."""
        return np.maximum(np.maximum(self.compute, self.tensors), self.weights)


def cycles(array: EthosU, window: Window, tile: Tile) -> Cycles:
    """Cycles that an operator takes on an array.

    Args:
        array: the array.
        window: the operator.
        tile: that of the array's geometry.
    """
    memory, is_u85 = array.memory, array.geometry.is_u85
    across = -(-window.height // tile.height) * -(-window.width // tile.width)
    slices = 1 if window.is_depthwise else -(-window.channels // tile.channels)
    rows, columns = window.needed(tile.height, tile.width)
    read = np.minimum(rows, window.rows) * np.minimum(columns, window.columns)
    # Channels lie next to each other: a run is those of a slice, or whole pixels where it is all of them.
    block = tile.channels if window.is_depthwise else tile.depth
    run = np.where(window.depth == block, block * columns, block)
    reading = memory.burst / np.minimum(memory.burst, run)
    width = np.where((tile.channels <= _SLICE) & (tile.channels == window.channels), tile.width, 1)
    most = _SLICE if is_u85 else _SLICE * array.cores
    run = np.where(width > 1, tile.channels * width, np.minimum(most, tile.channels))
    writing = memory.burst / np.minimum(memory.burst, run)
    first, last = read * np.minimum(block, window.depth), tile.height * tile.width * tile.channels
    ends = np.where(
        window.enters, memory.latency[0] + first * reading / memory.speed, _INSIDE_LATENCY + first / memory.inside
    )
    ends = ends + np.where(
        window.leaves, memory.latency[1] + last * writing / memory.speed, _INSIDE_LATENCY + last / memory.inside
    )
    compute = _compute(array, window, tile, across) + ends
    fetched = read * window.depth * across * slices
    written = window.height * window.width * window.channels
    outside_in, outside_out = fetched * reading * window.enters, written * writing * window.leaves
    inside_in = fetched * (1 - window.enters)
    inside_out = window.height * window.width * rounded(window.channels, _SLICE) * (1 - window.leaves)
    weights = _ENCODED * window.weights + _CHANNEL * window.channels + _HEADER
    inside = (inside_in + inside_out + weights * across) / memory.inside
    if is_u85:
        tensors = np.maximum(np.maximum(outside_in / memory.read, outside_out / memory.write), inside)
        scales = memory.scales * rounded(window.channels, _SLICE) * across
        return Cycles(compute, tensors, np.maximum(weights / memory.weights, scales))
    weights = weights + _SCALE * window.channels
    if memory.weights < memory.read:  # there is no DRAM: tensors never leave the chip
        tensors = (outside_in + outside_out + inside_in + inside_out) / memory.inside
        return Cycles(compute, tensors, weights / memory.weights)
    return Cycles(compute, inside, (outside_in + outside_out + weights) / memory.read)


def _compute(array: EthosU, window: Window, tile: Tile, across: Any) -> Any:
    """Cycles of multiplying and of writing out, tile after tile."""
    geometry = array.geometry
    cells = geometry.cells_of(window)
    at_once = np.minimum.reduce([-(-tile.height // high) * -(-tile.width // wide) for high, wide, _ in cells])
    if cells == ((2, 2, 8),) and not window.is_depthwise:
        # A single row of an even width is worked on four pixels at a time.
        in_row = (window.height == 1) & (window.width % 2 == 0) & (window.kernel[0] == 1)
        at_once = np.where(in_row, -(-tile.width // 4), at_once)
    deep = -(-tile.channels // cells[0][2])
    taps = -(-window.area // _TAPS)
    steps = taps if window.is_depthwise else np.where(tile.by_taps, taps, window.area)
    taken = np.minimum(tile.depth, window.depth)
    lanes = np.where(tile.by_taps, -(-taken // _LANES), 1)
    step = _CYCLES * at_once
    if geometry.is_u85 and not window.is_depthwise:
        # It does not work on the lanes of channels that there are not.
        step = np.where(tile.by_taps, step, taken // _LANES * at_once)
    waits = np.where(at_once > 1, 0, np.where(deep == 1, _DELAY * steps, _DELAY * (steps - 1) * deep))
    loading = _LOADING * cells[0][2] / (array.cores if geometry.is_u85 else 1)
    multiplying = (np.maximum(loading, step) * steps * deep + waits) * lanes
    if not window.is_depthwise:
        multiplying = multiplying * -(-window.depth // taken)
    if not geometry.is_u85:
        multiplying = multiplying / array.cores
    inside, small = window.enters == 0, window.is_depthwise | (window.weights <= _SMALL)
    if geometry.is_u85:
        staged = np.where(across > 1, inside | small, inside & small)
    else:
        staged = (across > 1) | (inside & window.is_depthwise)
    latency = np.where(staged, _INSIDE_LATENCY, array.memory.weights_latency)
    size = tile.height * tile.width * tile.channels
    writing = np.maximum(array.writing * size, _SCALE * tile.channels * latency / _READ)
    # A tile at the border counts as the part of it that there is.
    tiles = (window.height / tile.height) * (window.width / tile.width) * -(-window.channels // cells[0][2]) / deep
    limit = (multiplying + writing) / _CYCLES
    slower, faster = np.maximum(multiplying, writing), np.minimum(multiplying, writing)
    return np.maximum(slower, limit) * tiles + np.maximum(faster, limit)


def _area(window: Window, height: Any, width: Any) -> Any:
    """Pixels of input for so many outputs, which are read in pairs."""
    rows, columns = window._replace(kernel=tuple(np.minimum(side, _PART) for side in window.kernel)).needed(
        height, width
    )
    return rounded(rows, 2) * rounded(columns, 2)
