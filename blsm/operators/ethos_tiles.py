"""How Arm's Ethos-U arrays cut operators into tiles: outputs that are computed together, out of a small buffer.

Source: Arm Vela (Apache 2.0), the compiler that the device `asic` runs; for many operators at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blsm.operators.tiles import rounded

#: Multiplying is in steps of so many taps of a kernel, on so many channels of input.
TAPS, LANES = 4, 8
#: Channels of a tile are a multiple of it, and so are those of tensors on the chip.
SLICE = 16
#: Sides of a kernel beyond it are worked on in parts.
PART = 8
#: Sides of a tile at most, pixels.
_MOST_SIDE = 32
#: So many operators are looked through for those that are alike.
_MANY = 64

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
        is_pool: whether its weights are all the same.
        looks_up: whether its outputs are looked up in a table on the way out, as most functions are.
        chained: operators of single elements that follow on the way out, where an array can do that.
        chain_leaves: whether the output of the last of them lies outside of the chip, 0 or 1.
        is_shared: whether others read its input, too.
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
    is_pool: bool = False
    looks_up: bool = False
    chained: int = 0
    chain_leaves: Any = 0
    is_shared: bool = False

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
        height, width, channels: multiples of a cell; may reach beyond the output.
        rows, columns: of the input that they need, as it lies in the buffer; of large kernels, of a part.
        depth: channels of input that are read together.
        by_taps: whether kernels are gone through in groups of taps over few channels of input, not tap by tap.
        cell: height, width and channels of what is worked on at once.
    """

    height: Any
    width: Any
    channels: Any
    rows: Any
    columns: Any
    depth: Any
    by_taps: Any
    cell: tuple[Any, Any, Any]

    def within(self, window: Window) -> tuple[Any, Any, Any]:
        """Height, width and channels of it that lie in an operator's output."""
        height, width = np.minimum(self.height, window.height), np.minimum(self.width, window.width)
        return height, width, np.minimum(self.channels, window.channels)


@dataclass(frozen=True)
class Geometry:
    """How an array cuts operators into tiles.

    Attributes:
        cells: of convolutions; the one that wastes least is taken.
        depthwise_cells: likewise of depthwise convolutions.
        buffers: ways to divide the buffer among outputs and inputs of a tile, elements; half of it is for the next one.
        depth: channels of input that are read together.
        most_channels: of a tile.
        most_deep: of a depthwise convolution's, where they have few pixels.
        is_u85: whether it is of the last generation.
    """

    cells: tuple[Cell, ...]
    depthwise_cells: tuple[Cell, ...]
    buffers: tuple[tuple[int, int], ...]
    depth: int = 32
    most_channels: int = 128
    most_deep: int = 0
    is_u85: bool = False

    def tile(self, window: Window) -> Tile:
        """The best one of those that fit in the buffer; the first one where none does."""
        sizes = window.height, window.width, window.channels, window.rows, window.columns, window.depth
        columns = np.broadcast_arrays(*sizes, *window.kernel, window.strides)
        if columns[0].size < _MANY:
            return self._chosen(window)
        # Of many operators most are alike.
        alike, places = np.unique(np.stack(columns), axis=1, return_inverse=True)
        height, width, channels, rows, across, depth, high, wide, strides = alike
        found = self._chosen(
            Window(height, width, channels, rows, across, depth, (high, wide), strides, window.is_depthwise, 0, 0)
        )

        def each(values: Any) -> Any:
            return np.broadcast_to(values, height.shape)[places.ravel()]

        sides = {name: each(values) for name, values in found._asdict().items() if name != "cell"}
        return Tile(**sides, cell=(each(found.cell[0]), each(found.cell[1]), each(found.cell[2])))

    def _chosen(self, window: Window) -> Tile:
        by_taps = self._by_taps(window)
        cells = self.depthwise_cells if window.is_depthwise else self.cells
        tiles = [self._tile(window, cell, by_taps) for cell in cells]
        if len(tiles) == 1:
            return tiles[0]
        volumes = [rounded(window.height, high) * rounded(window.width, wide) for high, wide, _ in cells]
        chosen = np.argmin(np.broadcast_arrays(*volumes), axis=0)
        high, wide, deep = (np.choose(chosen, sides) for sides in zip(*cells, strict=True))
        merged = {
            name: np.choose(chosen, [getattr(tile, name) for tile in tiles]) for name in Tile._fields if name != "cell"
        }
        return Tile(**merged, cell=(high, wide, deep))

    def _tile(self, window: Window, cell: Cell, by_taps: Any) -> Tile:
        depth = np.where(by_taps, SLICE, self.depth)
        if not self.is_u85:  # it reads whole slices even where there are fewer channels
            depth = np.minimum(depth, rounded(window.depth, LANES))
        if self.is_u85 and window.is_depthwise:
            height, width, channels = self._by_cover(window, cell)
        else:
            height, width, channels = self._by_reading(window, cell, depth)
        block = channels if window.is_depthwise else depth
        return Tile(height, width, channels, *self._needed(window, cell, height, width, block), block, by_taps, cell)

    def _by_reading(self, window: Window, cell: Cell, depth: Any) -> tuple[Any, Any, Any]:
        """Height, width and channels of the tile that reads least."""
        # From here on of shape (buffers, tiles, n), or less.
        heights, widths = self._sides(window, cell)
        outputs, inputs = np.array(self.buffers).T[:, :, None, None]
        rows, columns = self._needed(window, cell, heights, widths, depth)
        is_row = (window.height == 1) & (window.kernel[0] == 1) & (cell[0] == 2) & (not self.is_u85)
        pixels = np.where(is_row, widths, heights * widths)
        most = outputs // pixels
        if window.is_depthwise:
            most = np.minimum(most, inputs // (rows * columns))
        # Its last step of channels may be half of one.
        step = SLICE if self.is_u85 else LANES
        last = np.minimum(np.maximum(rounded(window.channels, LANES), step), self.most_channels)
        largest = np.where(most >= rounded(last, step), last, most // SLICE * SLICE)
        fits = largest >= np.minimum(last, SLICE)
        largest = np.maximum(largest, 1)
        across = -(-window.height // heights) * -(-window.width // widths)
        read = rows * columns * window.depth * (window.height / heights) * (window.width / widths)
        volume = window.rows * window.columns * window.depth
        is_small = (heights <= 4) & (widths <= 4)
        if window.is_depthwise:
            least = np.minimum(last, SLICE)
            # Inputs that fit at once, in both halves of the buffer, are read once.
            enough = np.minimum(rounded(volume // (2 * rows * columns) + 1, SLICE), last)
            is_once = (volume < 2 * rows * columns * enough) & (enough <= largest)
            smallest = np.where(is_once, enough, least)
            weights = window.area * window.depth * across
        else:
            slices = -(-window.channels // largest)
            smallest = np.minimum(rounded(-(-window.channels // slices), SLICE), last)
            is_once = volume < 2 * rows * columns * depth
            read = read * slices
            weights = window.weights * across
            fits = fits & (rows * columns * depth <= inputs)
        cost = read + weights
        channels = np.where(is_small, largest, smallest)
        if self.is_u85:
            # Where the kernel covers all of the input, the largest tile is the best.
            is_vector = window.height * window.width == 1
            is_vector = is_vector & (window.kernel[0] == window.rows) & (window.kernel[1] == window.columns)
            channels = np.where(is_vector, largest, channels)
            cost = np.where(is_vector, 1 / (heights * widths * largest), cost)
        cost = np.where(is_once, cost / 2, cost)
        # Of equal ones the first that the compiler tries, with few channels, or the last one of small ones.
        cost = np.where(fits, cost * (1 + 1e-9 * np.where(is_small, -channels, channels)), math.inf)
        count = cost.shape[-1]
        least = np.argmin(cost.reshape(-1, count), axis=0), np.arange(count)
        shape = np.shape(window.height + window.width + window.channels + window.rows + window.columns + window.depth)
        height, width, channels = (
            np.broadcast_to(values, cost.shape).reshape(-1, count)[least].reshape(shape)
            for values in (heights, widths, channels)
        )
        return height, width, channels

    def _by_cover(self, window: Window, cell: Cell) -> tuple[Any, Any, Any]:
        """Height, width and channels of the tile that covers an image best, with sides in proportion to the image's.

        So an Ethos-U85 chooses for depthwise convolutions: a tile has the whole buffer, but the first rows of the next
        one must fit besides its inputs.
        """
        shape = np.shape(window.height + window.width + window.channels + window.rows + window.columns)
        count = math.prod(shape)
        limits = (window.height, window.width, window.channels)
        # Of shape (n,), and with the channels that a tile may have (channels, n).
        height, width, channels = (
            rounded(np.broadcast_to(np.ravel(limit), count), step)
            for limit, step in zip(limits, (*cell[:2], SLICE), strict=True)
        )
        least = cell[0] * cell[1] * SLICE
        most = max(2 * self.buffers[0][0] // least, self.most_deep)
        depth = np.arange(SLICE, min(most, int(channels.max())) + 1, SLICE)[:, None]
        heights, widths, fits = self._largest(window, cell, height, width, np.where(depth > channels, 0, depth))
        stored, _ = _unit(cell, depth)
        wasted = 1 + (rounded(depth, stored) - depth) / stored / 10
        missed = 1 + np.abs(1 - height * width / np.maximum(heights * widths, 1))
        missed = np.where(fits, missed * (1 + np.abs(1 - channels / depth) / 10) * wasted, math.inf)
        best = np.argmin(missed, axis=0), np.arange(count)
        h, w, d = heights[best], widths[best], depth[best[0], 0]
        covers = (h >= height) & (w >= width) & (d >= channels)
        tile = np.where(covers, height, h), np.where(covers, width, w), np.where(covers, channels, d)
        h, w, d = self._with_next(window, cell, tile, (height, width, channels))
        return h.reshape(shape), w.reshape(shape), d.reshape(shape)

    def _largest(self, window: Window, cell: Cell, height: Any, width: Any, depth: Any) -> tuple[Any, Any, Any]:
        """Heights and widths of the largest tiles of so many channels, none for 0, and whether there is one."""
        high, wide, _ = cell
        outputs, inputs = (2 * part for part in self.buffers[0])
        least = high * wide * SLICE
        stored, unit = _unit(cell, depth)
        volume = rounded(window.rows, unit[0]) * rounded(window.columns, unit[1]) * rounded(window.depth, stored)
        heights, widths = np.zeros(depth.shape, int), np.zeros(depth.shape, int)
        deep = np.maximum(depth, SLICE)
        fitted, failed = np.zeros(depth.shape, bool), depth == 0
        room = np.full(depth.shape, outputs)
        while not (done := fitted | failed).all():
            wished = np.sqrt(room // deep * width / height)
            w, h = np.maximum(wished, 1), np.maximum(wished * height / width, 1)
            w, h = np.where(h > 1, w, wished * (wished * height / width)), np.where(wished < 1, h * wished, h)
            w = np.minimum(np.maximum(w.astype(int), wide) // wide * wide, width)
            h = np.minimum(np.maximum(h.astype(int), high) // high * high, height)
            pixels, w = w * h, np.where(w < width, _even(width, wide, w), w)
            h = np.maximum(pixels // w // high * high, high)
            rows, columns = self._needed(window, cell, h, w, deep)
            used, made = np.minimum(rows * columns * rounded(deep, stored), volume), w * h * deep
            fits = ~done & (made <= outputs) & (used <= inputs)
            heights, widths, fitted = np.where(fits, h, heights), np.where(fits, w, widths), fitted | fits
            room = np.where((used > inputs) & (made < outputs), np.minimum(room, made), room)
            fewer = (room // least * np.minimum(inputs / used, outputs / made)).astype(int) * least
            fewer = np.where(fewer == room, room - least, fewer)
            failed = failed | (~fitted & (fewer < least))
            room = np.where(fitted | failed, room, fewer)
        return heights, widths, fitted

    def _with_next(
        self, window: Window, cell: Cell, tile: tuple[Any, Any, Any], whole: tuple[Any, Any, Any]
    ) -> tuple[Any, Any, Any]:
        """A tile so much smaller that the first rows of the next one fit in the buffer besides it."""
        (h, w, d), (height, width, channels), (high, wide, _) = tile, whole, cell
        inputs = 2 * self.buffers[0][1]
        forced, stuck = np.zeros_like(h), np.zeros(h.shape, bool)
        while True:
            rows, columns = self._needed(window, cell, h, w, d)
            next_rows, _ = self._needed(window, cell, high, w, d)
            used = (rows + next_rows) * columns * rounded(d, _unit(cell, d)[0])
            short = ((h < height) | (w < width) | (d < channels)) & (used > inputs) & ~stuck
            if not short.any():
                return h, w, d
            lower = short & ((h != height) | (forced & 2 > 0)) & (h > high)
            shallower = short & ~lower & ((d > w) | (forced & 1 > 0)) & (d > SLICE)
            narrower = short & ~lower & ~shallower & ((w != width) | (forced & 4 > 0)) & (w > wide)
            left = short & ~lower & ~shallower & ~narrower
            h, w, d = h - high * lower, w - wide * narrower, d - SLICE * shallower
            stuck = left & (forced == 7)
            forced = np.where(left, forced << 1 | 1, forced) & 7

    def _sides(self, window: Window, cell: Cell) -> tuple[Any, Any]:
        """Heights and widths of tiles, multiples of a cell no larger than the output, each of shape (tiles, n)."""
        high, wide, _ = cell
        most = max(outputs for outputs, _ in self.buffers) // SLICE
        heights, widths = np.mgrid[high : _MOST_SIDE + 1 : high, wide : _MOST_SIDE + 1 : wide].reshape(2, -1, 1)
        fitting = (heights * widths)[:, 0] <= most
        heights, widths = heights[fitting], widths[fitting]
        return np.minimum(heights, rounded(window.height, high)), np.minimum(widths, rounded(window.width, wide))

    def _needed(self, window: Window, cell: Cell, height: Any, width: Any, depth: Any) -> tuple[Any, Any]:
        """Rows and columns of input for so many outputs, as they lie in the buffer."""
        high, wide = _unit(cell, depth)[1] if self.is_u85 else cell[:2]
        kernel = tuple(np.minimum(side, PART) for side in window.kernel)
        rows, columns = window._replace(kernel=kernel).needed(height, width)
        return rounded(rows, high), rounded(columns, wide)

    def _by_taps(self, window: Window) -> Any:
        """Whichever leaves fewer multipliers idle."""
        area, depth = window.area, window.depth
        if window.is_depthwise:
            return np.zeros(np.shape(depth), bool)
        if self.is_u85:
            taps = area // 5 * 5 + np.maximum(area % 5, 2)
            return depth / rounded(depth, SLICE) * area / taps >= depth / rounded(depth, self.depth)
        used = depth * area / (rounded(depth, LANES) * rounded(area, TAPS))
        return (depth <= LANES) | (used >= depth / rounded(depth, self.depth))


def _unit(cell: Cell, depth: Any) -> tuple[Any, tuple[Any, Any]]:
    """How an Ethos-U85 stores inputs of so many channels: channels, and rows and columns, of a unit."""
    high, wide = (2, 2) if cell[:2] == (1, 2) else cell[:2]
    few, many = depth <= SLICE, depth > 2 * SLICE
    channels = np.where(few, SLICE, np.where(many, 4 * SLICE, 2 * SLICE))
    return channels, (np.where(few, high, 1), np.where(few, wide, np.where(many, 1, 2)))


def _even(width: Any, step: int, tile: Any) -> Any:
    """The width of a tile, no larger than this and not much smaller, that leaves the widest last one."""
    best = tile
    left = np.where(width % tile == 0, tile, width % tile)
    fewer = np.maximum(rounded(width // (width // tile + 1), step), step)
    first = np.maximum(np.maximum(fewer - 2 * step, (fewer + 1) // 2), step)
    for less in range(step, int((tile - first).max(initial=0)) + 1, step):
        tried = np.maximum(tile - less, 1)
        remaining = np.where(width % tried == 0, tried, width % tried)
        better = (tried >= first) & (remaining > left) & (width % tile != 0)
        best, left = np.where(better, tried, best), np.where(better, remaining, left)
    return best
