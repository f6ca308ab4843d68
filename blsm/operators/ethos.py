"""What operators cost on Arm's Ethos-U arrays: cycles, as the cycle model of their compiler counts them.

An array finishes a tile of outputs before it begins the next one. It multiplies, writes out what is accumulated, and
moves tensors and weights, all at once: the slowest decides, but for the first inputs and the last outputs.

Source: Arm Vela (Apache 2.0), whose model the device `asic` reads. This is that of operators, one after the other, for
many blocks at once, with the tile, and the weights and inputs on the chip, that the compiler decides on. What it does
with tensors that are too large for the chip, cutting operators into stripes, is left to the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blsm.operators.ethos_tiles import LANES, PART, SLICE, TAPS, Geometry, Tile, Window
from blsm.operators.tiles import rounded

#: A step of multiplying takes so many cycles.
_CYCLES = 4
#: Loading weights for a channel of a step takes so many cycles: smaller tiles wait for them.
_LOADING = 4
#: Cycles between two steps on one and the same outputs.
_DELAY = 2
#: Bytes of scale and bias of a channel, and what is read at a time.
_SCALE, _READ = 10, 256
#: Bytes of encoded weights besides themselves: of each channel, and of all.
_CHANNEL, _HEADER = 1.5, 20
#: Bits of a zero among weights, and at most of each weight to tell which ones are zero.
_ZEROS, _MOST_BITS = 7, 0.95
#: Bytes of memory on the chip that tensors may have.
_ON_CHIP = 384 << 10
#: What operators on single elements do one after the other, as multiples of what writing an output takes, and on an
#: Ethos-U85, which chains it.
PASSES = {"add": (3.0,), "multiply": (1.5,), "batch_norm": (1.5, 3.0), "swish": (2.0, 1.5)}
_CHAINED = {"add": 1.0, "multiply": 1.0, "batch_norm": 2.0, "swish": 3.0}
#: Channels that they work on at once at most, and on an Ethos-U85.
_SLICES, _U85_SLICES = 128, 64
#: Bytes of a burst of a batch normalisation's factors.
_FACTORS_BURST = 128
#: Cycles that the compiler does not mind at the beginning.
_START_UP = 1000


class Port(NamedTuple):
    """How memory is reached.

    Attributes:
        latency: of reading and of writing, cycles.
        burst: bytes; a shorter run wastes the rest.
        speed: bytes a cycle.
    """

    latency: tuple[int, int]
    burst: int
    speed: float

    def wasted(self, run: Any) -> Any:
        """What is moved for each byte wanted, in runs of so many."""
        return self.burst / np.minimum(self.burst, run)

    def reading(self, size: Any, run: Any) -> Any:
        """Cycles until so many bytes are there."""
        return self.latency[0] + size * self.wasted(run) / self.speed

    def writing(self, size: Any, run: Any) -> Any:
        """Cycles until so many bytes are away."""
        return self.latency[1] + size * self.wasted(run) / self.speed


class Memory(NamedTuple):
    """Memory outside of the chip, where a network's weights, input and output lie, and that on the chip.

    Attributes:
        outside, inside: the two.
        read, write: of whole tensors, bytes a cycle.
        weights: bytes a cycle.
        weights_latency: cycles.
        copying: of weights to the chip, bytes a cycle.
        scales: cycles for a channel's scale.
    """

    outside: Port
    inside: Port
    read: float
    write: float
    weights: float
    weights_latency: int
    copying: float
    scales: float


@dataclass(frozen=True)
class EthosU:
    """An array, and the system that the compiler assumes around it.

    Attributes:
        geometry: how it cuts operators into tiles.
        cores: that share the work on a cell.
        writing: cycles for an output.
        looking_up: cycles for an output that is looked up in a table.
        memory: of the system.
    """

    geometry: Geometry
    cores: int
    writing: float
    looking_up: float
    memory: Memory


_U55_64 = Geometry(((1, 1, 8),), ((1, 1, 8),), ((512, 5 << 10), (1024, 3 << 10), (1536, 1 << 10)))
_U55_128 = Geometry(((1, 2, 8),), ((1, 2, 8),), ((1024, 6 << 10), (2048, 2 << 10)))
_U65 = Geometry(((2, 2, 8),), ((2, 2, 8),), ((2048, 12 << 10), (4096, 4 << 10)))
_U85_256 = Geometry(((1, 4, 8), (2, 2, 8)), ((1, 2, 16),), ((2048, 8 << 10),), 64, 1024, 256, is_u85=True)
_U85_512 = Geometry(((2, 2, 16), (1, 4, 16)), ((2, 2, 16), (1, 4, 16)), ((4096, 8 << 10),), 64, 1024, 512, is_u85=True)
_FLASH = Memory(Port((32, 32), 32, 8.0), Port((32, 32), 32, 8.0), 8.0, 8.0, 1.0, 64, 1.0, 0.0)
_SLOW_DRAM = Port((500, 250), 128, 12.0)
_DRAM = Memory(_SLOW_DRAM, Port((32, 32), 32, 16.0), 12.0, 12.0, 12.0, 500, 12.0, 0.0)
#: Its tensors, weights and scales have channels of their own.
_CHANNELS_256 = Memory(_SLOW_DRAM, Port((32, 32), 32, 32.0), 3.277, 10.5, 3.277, 500, 2.662, 24.4)
_CHANNELS_512 = Memory(_SLOW_DRAM, Port((32, 32), 32, 32.0), 3.277, 10.5, 6.554, 500, 3.277, 24.4)
ARRAYS = {
    "u55_64": EthosU(_U55_64, 1, 1.0, 1.0, _FLASH),
    "u55_128": EthosU(_U55_128, 1, 0.5, 1.0, _FLASH),
    "u55_256": EthosU(_U65, 1, 0.25, 1.0, _FLASH),
    "u65_256": EthosU(_U65, 1, 0.25, 1.0, _DRAM),
    "u65_512": EthosU(_U65, 2, 0.125, 0.5, _DRAM),
    "u85_256": EthosU(_U85_256, 1, 0.25, 0.25, _CHANNELS_256),
    "u85_512": EthosU(_U85_512, 2, 0.125, 0.125, _CHANNELS_512),
}


class Cycles(NamedTuple):
    """Cycles that an operator takes: of what goes on at once, the slowest.

    Attributes:
        compute: multiplying and writing out.
        tensors: moving them.
        weights: likewise, and with them the tensors that share their channel.
        besides: of copying its input to the chip before it begins, or of dividing a sum after it.
        slack: that weights of the next operator can be fetched in.
    """

    compute: Any
    tensors: Any
    weights: Any
    besides: Any
    slack: Any

    @property
    def total(self) -> Any:
        """All in all."""
        return np.maximum(np.maximum(self.compute, self.tensors), self.weights) + self.besides


def cycles(array: EthosU, window: Window, tile: Tile, slack: Any = 0.0) -> Cycles:
    """Cycles that an operator takes on an array.

    Args:
        array: the array.
        window: the operator.
        tile: that of the array's geometry.
        slack: cycles of the operator before it, which weights can be fetched in.
    """
    memory, is_u85 = array.memory, array.geometry.is_u85
    is_chained = is_u85 and bool(window.chained)
    moves, work, weights = _Moves.of(array, window, tile), _Work.of(array, window, tile), _encoded(array, window, tile)
    # The compiler decides what to put on the chip as if all tensors were outside.
    begin_outside, end_outside = moves.ends(memory.outside, window.enters, window.leaves)
    expected = _Expected(
        work.cycles(memory.weights_latency, begin_outside, end_outside),
        work.cycles(memory.inside.latency[0], begin_outside, end_outside),
        (weights / memory.weights + memory.weights_latency) * moves.across,
        moves.read / memory.read + memory.outside.latency[0],
    )
    copying = _copying(array, window, moves, expected) if is_u85 else 0.0
    enters = np.where(copying > 0, 0, window.enters)
    expected = expected._replace(inputs=np.where(copying > 0, moves.read / memory.inside.speed, expected.inputs))
    on_chip = _Staging.of(memory, window, tile, moves, weights, expected, slack)
    begin, end = moves.ends(memory.inside, enters, window.leaves)
    begin, end = np.where(enters, begin_outside, begin), np.where(window.leaves, end_outside, end)
    # What is between chained operators counts as outside.
    end = end_outside if is_chained else end
    latency = np.where(on_chip.is_staged, memory.inside.latency[0], memory.weights_latency)
    compute = on_chip.delayed(work.cycles(latency, begin, end), slack)
    leaves = window.chain_leaves if is_chained else window.leaves
    outside_in = moves.read * memory.outside.wasted(moves.reading) * enters
    outside_out = moves.written * memory.outside.wasted(moves.writing) * leaves
    sliced = rounded(window.depth, SLICE) / window.depth, rounded(window.channels, SLICE) / window.channels
    inside_in = moves.read * sliced[0] * memory.inside.wasted(moves.reading_inside) * (1 - enters)
    inside_out = moves.written * sliced[1] * memory.inside.wasted(moves.writing_inside) * (1 - leaves)
    fetched = np.where(on_chip.is_staged, weights * (1 - on_chip.share), weights * moves.across)
    inside = inside_in + inside_out + np.where(on_chip.is_staged, fetched + weights * moves.across, 0)
    scales = _SCALE * window.channels * moves.across
    besides, slack = copying, on_chip.slack
    if window.is_pool and not is_u85:  # a mean is a sum and then a product
        besides, slack = elementwise(array, Function("multiply", 1, 1, window.channels))
    if is_u85:
        tensors = np.maximum(outside_in / memory.read, outside_out / memory.write)
        scaled = memory.scales * rounded(window.channels, SLICE) * moves.across
        fetching = np.maximum(fetched / np.where(on_chip.is_staged, memory.copying, memory.weights), scaled)
        return Cycles(compute, np.maximum(tensors, inside / memory.inside.speed), fetching, besides, slack)
    if memory.weights < memory.read:  # there is no DRAM: tensors never leave the chip
        tensors = (outside_in + outside_out + inside) / memory.inside.speed
        return Cycles(compute, tensors, (fetched + scales) / memory.weights, besides, slack)
    outside = outside_in + outside_out + fetched + scales
    return Cycles(compute, inside / memory.inside.speed, outside / memory.read, besides, slack)


class _Moves(NamedTuple):
    """What is moved for an operator, bytes.

    Attributes:
        first, last: inputs of the first tile and outputs of the last one.
        read, written: in all.
        across: how often weights are gone through.
        reading, writing: in one run, outside, where channels lie next to each other: those of a slice, or whole pixels
            where it is all of them.
        reading_inside, writing_inside: likewise on the chip, where they lie in slices, one image each.
    """

    first: Any
    last: Any
    read: Any
    written: Any
    across: Any
    reading: Any
    writing: Any
    reading_inside: Any
    writing_inside: Any

    @classmethod
    def of(cls, array: EthosU, window: Window, tile: Tile) -> _Moves:
        """Those of an operator."""
        cores = 1 if array.geometry.is_u85 else array.cores
        height, width, channels = tile.within(window)
        across = -(-window.height // height) * -(-window.width // width)
        slices = 1 if window.is_depthwise else -(-window.channels // tile.channels)
        parts = -(-window.kernel[0] // PART) * -(-window.kernel[1] // PART)
        pixels = np.minimum(tile.rows, window.rows) * np.minimum(tile.columns, window.columns)
        is_whole = (tile.channels <= SLICE) & (tile.channels == window.channels)
        return cls(
            pixels * np.minimum(tile.depth, window.depth),
            height * width * channels,
            pixels * parts * across * slices * window.depth,
            window.height * window.width * window.channels,
            across,
            np.where(window.depth == tile.depth, tile.depth * tile.columns, tile.depth),
            np.where(is_whole, tile.channels * tile.width, np.minimum(SLICE * cores, tile.channels)),
            SLICE * tile.columns,
            SLICE * tile.width * cores,
        )

    def ends(self, port: Port, enters: Any, leaves: Any) -> tuple[Any, Any]:
        """Cycles until the first inputs are there and until the last outputs are away."""
        reading = np.where(enters, self.reading, self.reading_inside)
        return port.reading(self.first, reading), port.writing(
            self.last, np.where(leaves, self.writing, self.writing_inside)
        )


class _Expected(NamedTuple):
    """What the compiler expects of an operator, cycles.

    Attributes:
        direct, staged: of its work, with weights outside and on the chip.
        unmoved: of reading weights from outside, as often as they are gone through.
        inputs: of reading its input.
    """

    direct: Any
    staged: Any
    unmoved: Any
    inputs: Any


def _copying(array: EthosU, window: Window, moves: _Moves, expected: _Expected) -> Any:
    """Cycles of copying an input to the chip, 0 where it stays outside; an Ethos-U85 does where that is faster."""
    if window.is_depthwise or window.is_shared:
        return 0.0
    memory = array.memory
    size = window.rows * window.columns * window.depth
    copy = 2 * array.writing * size + memory.outside.latency[0]
    is_copied = (window.enters == 1) & (moves.read > size) & (size <= _ON_CHIP)
    is_copied = is_copied & (expected.direct <= np.maximum(expected.unmoved, expected.inputs))
    is_copied = is_copied & (copy + moves.read / memory.inside.speed < expected.inputs)
    return np.where(is_copied, np.maximum(copy + 2 * memory.outside.latency[0], size / memory.read), 0)


class _Staging(NamedTuple):
    """Whether an operator's weights are put on the chip, part of them before it begins.

    Attributes:
        is_staged: whether they are.
        share: of them that is there before it begins.
        early: cycles that fetching that part takes.
        transfer: likewise, all of them.
        slack: cycles that weights of the next operator can be fetched in.
    """

    is_staged: Any
    share: Any
    early: Any
    transfer: Any
    slack: Any

    @classmethod
    def of(
        cls, memory: Memory, window: Window, tile: Tile, moves: _Moves, weights: Any, expected: _Expected, slack: Any
    ) -> _Staging:
        """What the compiler decides.

        Args:
            memory: that there is.
            window: the operator.
            tile: its tile.
            moves: what is moved for it.
            weights: their bytes.
            expected: what it takes.
            slack: cycles of the operator before it.
        """
        direct, staged, unmoved, inputs = expected
        moved = (weights / memory.inside.speed + memory.inside.latency[0]) * moves.across
        transfer = weights / memory.copying + memory.weights_latency
        least = np.minimum(1, SLICE / window.channels)
        share = np.where(slack >= transfer, 1, np.clip(slack / transfer, least, 1))
        early = memory.weights_latency + share * weights / memory.copying
        is_repeated = moves.across > 1
        wanted = np.where(slack > 0, slack, np.maximum(unmoved / 10, _START_UP))
        is_tried = moved + np.maximum(transfer - slack, 0) < unmoved
        is_tried = is_tried | (window.channels // tile.channels > 2) | (is_repeated & (least * transfer < wanted))
        usable = np.where((slack == 0) & is_repeated, _START_UP, slack)
        visible = np.maximum(early - usable, 0) + np.maximum((1 - share) * transfer - staged, 0)
        visible = np.where((direct > unmoved) & (visible < 2 * _START_UP), 0, visible)
        before = np.maximum.reduce(np.broadcast_arrays(direct, unmoved, inputs))
        after = np.maximum.reduce(np.broadcast_arrays(staged + visible, moved, inputs))
        is_staged = is_tried & (after <= before) & (is_repeated | (transfer + moved <= before))
        # In parts, the last one is about half of it.
        slack = np.where(is_staged, np.where(share < 1, staged / 2, staged), direct)
        return cls(is_staged, share, early, transfer, slack)

    def delayed(self, compute: Any, slack: Any) -> Any:
        """Cycles of work that waits for weights which are not there after so many cycles."""
        waiting = np.maximum(compute + np.maximum(self.early - slack, 0), self.transfer - slack + self.slack)
        return np.where(self.is_staged, waiting, compute)


class Function(NamedTuple):
    """An operator on single elements, numbers or arrays of shape (n,).

    Attributes:
        kind: one of `PASSES`.
        height, width, channels: of its output.
        inputs: how many tensors it reads.
        enters: how many of them lie outside of the chip.
        leaves: whether its output does, 0 or 1.
        is_chained: whether it goes on with what a matrix operator writes, where an array can do that.
    """

    kind: str
    height: Any
    width: Any
    channels: Any
    inputs: int = 1
    enters: int = 0
    leaves: int = 0
    is_chained: bool = False


def elementwise(array: EthosU, function: Function) -> tuple[Any, Any]:
    """Cycles of an operator on single elements, and those that weights of the next one can be fetched in.

    Args:
        array: the array.
        function: the operator.
    """
    kind, height, width, channels, inputs, enters, leaves, _ = function
    memory, is_u85, (high, wide, _) = array.memory, array.geometry.is_u85, array.geometry.cells[0]
    rates = [rate * array.writing for rate in ((_CHAINED[kind],) if is_u85 else PASSES[kind])]
    pixels, deep = height * width, rounded(channels, SLICE)
    most = max(outputs for outputs, _ in array.geometry.buffers) * (1 if is_u85 else 2)
    block = np.minimum(rounded(height, high) * rounded(width, wide) * rounded(channels, LANES), most)
    slices = np.clip(most // pixels // SLICE * SLICE, SLICE, _U85_SLICES if is_u85 else _SLICES)
    reading = np.where(channels <= slices, channels * width, slices)
    writing = np.where(channels <= SLICE, channels * width, np.minimum(SLICE * (1 if is_u85 else array.cores), slices))
    size = pixels * channels
    outside_in = enters * size * memory.outside.wasted(reading)
    outside_out = leaves * size * memory.outside.wasted(writing)
    # Factors of a batch normalisation come from where weights do, as large as its input.
    factors = size * _FACTORS_BURST / np.minimum(_FACTORS_BURST, reading) * (kind == "batch_norm" and not is_u85)
    inside = pixels * deep * (inputs - enters + 1 - leaves) / memory.inside.speed
    latency = memory.outside.latency[0] if enters or leaves else memory.inside.latency[0]
    # What leaves, and what is looked up, has no channels that are none.
    count = size if leaves or kind == "swish" else pixels * deep

    def took(rate: float, latency: float) -> Any:
        return count * np.maximum(rate, (latency / block + rate) / _CYCLES)

    total: Any = 0.0
    for number, rate in enumerate(rates):
        read = outside_in * (number == 0)
        written = outside_out * (number == len(rates) - 1)
        if is_u85:
            outside = np.maximum(read / memory.copying, written / memory.write)
        elif memory.weights < memory.read:
            outside = np.maximum((read + written) / memory.outside.speed, factors / memory.weights)
        else:
            outside = (read + written + factors) / memory.outside.speed
        total = total + np.maximum.reduce(np.broadcast_arrays(took(rate, latency), outside, inside))
    return total, took(rates[-1], memory.outside.latency[0])


class _Work(NamedTuple):
    """Multiplying and writing out, tile after tile.

    Attributes:
        multiplying, writing: cycles for a tile.
        scaling: channels of a tile, whose scales are read for it.
        tiles: their number; one at the border counts as the part of it that there is.
        is_u85: whether it is of the last generation.
    """

    multiplying: Any
    writing: Any
    scaling: Any
    tiles: Any

    @classmethod
    def of(cls, array: EthosU, window: Window, tile: Tile) -> _Work:
        geometry = array.geometry
        high, wide, block = tile.cell
        height, width, channels = tile.within(window)
        if not geometry.is_u85 and not window.is_depthwise:
            # A single row of an even width is worked on four pixels at a time.
            in_row = (high == 2) & (window.height == 1) & (window.width % 2 == 0) & (window.kernel[0] == 1)
            high, wide = np.where(in_row, 1, high), np.where(in_row, 4, wide)
        at_once = -(-height // high) * -(-width // wide)
        deep = -(-channels // block)
        taps = -(-window.area // TAPS)
        steps = taps if window.is_depthwise else np.where(tile.by_taps, taps, window.area)
        taken = np.minimum(tile.depth, window.depth)
        lanes = np.where(tile.by_taps, -(-taken // LANES), 1)
        step = _CYCLES * at_once
        if geometry.is_u85 and not window.is_depthwise:
            # It does not work on the lanes of channels that there are not.
            step = np.where(tile.by_taps, step, taken // LANES * at_once)
        waits = np.where(at_once > 1, 0, np.where(deep == 1, _DELAY * steps, _DELAY * (steps - 1) * deep))
        loading = _LOADING * block / (array.cores if geometry.is_u85 else 1)
        multiplying = (np.maximum(loading, step) * steps * deep + waits) * lanes
        if not window.is_depthwise:
            multiplying = multiplying * -(-window.depth // taken)
        if not geometry.is_u85:
            multiplying = multiplying / array.cores
        rate = array.looking_up if window.looks_up else array.writing
        if geometry.is_u85:
            rate = rate * (1 + window.chained)
        tiles = (-(-window.height // high) * -(-window.width // wide) / at_once) * (-(-window.channels // block) / deep)
        return cls(multiplying, np.ceil(rate * height * width * channels), channels, tiles)

    def cycles(self, latency: Any, begin: Any, end: Any) -> Any:
        """All in all.

        Args:
            latency: of the memory that the scales are in.
            begin: until the inputs of a tile are there.
            end: until its outputs are away.
        """
        writing = np.maximum(self.writing, _SCALE * self.scaling * latency / _READ)
        gap = np.where(self.tiles > 1, np.abs(end - begin), 0)
        limit = (gap + self.multiplying + writing) / _CYCLES
        slower, faster = np.maximum(self.multiplying, writing), np.minimum(self.multiplying, writing)
        return np.maximum(slower, limit) * self.tiles + np.maximum(faster, limit) + begin + end


def _encoded(array: EthosU, window: Window, tile: Tile) -> Any:
    """Bytes of encoded weights: those that there are, and zeros that fill what is worked on at once."""
    geometry, count = array.geometry, window.weights
    grouped = (5, SLICE, geometry.cells[0][2]) if geometry.is_u85 else (TAPS, LANES, LANES * array.cores)
    depth: Any = 1
    if window.is_depthwise:
        taps = rounded(window.area, grouped[0])
    else:
        taps = np.where(tile.by_taps, rounded(window.area, grouped[0]), window.area)
        depth = np.where(tile.by_taps, rounded(window.depth, grouped[1]), rounded(window.depth, geometry.depth))
    padded = taps * depth * rounded(window.channels, grouped[2])
    zeros = 1 - count / padded
    # Numbers of a normal distribution, of which the largest is 127: the more there are, the larger the others are not.
    bits = 1 if window.is_pool else 8.58 - 0.11 * np.log2(count / window.channels)
    return (bits * count + np.minimum(_ZEROS * zeros, _MOST_BITS) * padded) / 8 + _CHANNEL * window.channels + _HEADER
