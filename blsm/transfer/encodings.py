"""Encodings: architectures of the published data sets, and blsm's own blocks, as rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError
from blsm.transfer.pool import Graph

#: Operations on an edge of a NAS-Bench-201 cell (Dong and Yang 2020).
CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: Edges of a cell in the order of its string, as (from, to) of its four tensors.
_CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


@dataclass(frozen=True)
class Encodings:
    """Encoded architectures.

    Attributes:
        values: float64, shape (n, d).
        groups: name -> its columns, see `blsm.transfer.DevicePool`.
        graph: the encoding as a graph, if it is one.
    """

    values: Array
    groups: Mapping[str, slice] = field(default_factory=dict)
    graph: Graph | None = None


def join(**tables: Array) -> tuple[Array, dict[str, slice]]:
    """Tables side by side, float64, and where each is."""
    stops = np.cumsum([table.shape[1] for table in tables.values()]).tolist()
    starts = [0, *stops[:-1]]
    values = np.hstack([np.asarray(table, float) for table in tables.values()])
    return values, {name: slice(*ends) for name, ends in zip(tables, zip(starts, stops, strict=True), strict=True)}


def one_hot(codes: Array, count: int) -> Array:
    """Codes of shape (n, positions), each 0 to count - 1, as one-hot columns, shape (n, positions * count)."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.min() < 0 or codes.max() >= count:
        raise DomainError(f"codes must be a table of whole numbers from 0 to {count - 1}, got shape {codes.shape}")
    hot: Array = np.eye(count)[codes.astype(int)].reshape(len(codes), -1)
    return hot


def _cell_codes(architecture: str) -> list[int]:
    names = [part.partition("~")[0] for part in architecture.replace("+", "").split("|") if part]
    if len(names) != len(_CELL_EDGES) or any(name not in CELL_OPERATIONS for name in names):
        raise DomainError(
            f"a NAS-Bench-201 architecture has six edges with operations {', '.join(CELL_OPERATIONS)}, "
            f"got {architecture!r}"
        )
    return [CELL_OPERATIONS.index(name) for name in names]


def _cell_graph() -> Graph:
    """Edges of the cell as nodes: input, the six operations in string order, output, and a global node (HELP)."""
    count = len(_CELL_EDGES)
    source, sink, everything = 0, count + 1, count + 2
    adjacency = np.zeros((count + 3, count + 3))
    for number, (start, end) in enumerate(_CELL_EDGES, start=1):
        if start == 0:
            adjacency[source, number] = 1
        if end == 3:
            adjacency[number, sink] = 1
        for other, (begin, _) in enumerate(_CELL_EDGES, start=1):
            if begin == end:
                adjacency[number, other] = 1
    adjacency[:everything, everything] = 1
    width = len(CELL_OPERATIONS)
    operations = [slice(width * edge, width * (edge + 1)) for edge in range(count)]
    return Graph(adjacency, (None, *operations, None, None))


def nasbench201(architectures: Sequence[str]) -> Encodings:
    """NAS-Bench-201 cells: one-hot of the six edges, their costs, and the cell as a graph.

    Args:
        architectures: strings such as `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|`.

    Raises:
        DomainError: a string is no such architecture.
    """
    codes = np.array([_cell_codes(architecture) for architecture in architectures])
    values, groups = join(vec=one_hot(codes, len(CELL_OPERATIONS)), physical=_cell_costs(codes))
    return Encodings(values, groups, _cell_graph())


def _cell_costs(codes: Array) -> Array:
    """What a cell has to do, shape (n, 15): for each operation how often it occurs, how often between the input and the
    output, and how often between them on the longest chain of kernels; all costs of a cell are sums of these."""
    present = codes != CELL_OPERATIONS.index("none")
    reached = np.zeros((len(codes), 4), bool)  # tensors that depend on the input
    needed = np.zeros((len(codes), 4), bool)  # tensors that the output depends on
    reached[:, 0] = needed[:, 3] = True
    for number, (start, end) in enumerate(_CELL_EDGES):
        reached[:, end] |= present[:, number] & reached[:, start]
    for number, (start, end) in reversed(list(enumerate(_CELL_EDGES))):
        needed[:, start] |= present[:, number] & needed[:, end]
    starts, ends = np.array(_CELL_EDGES).T
    alive = present & reached[:, starts] & needed[:, ends]
    kinds = codes[..., None] == np.arange(len(CELL_OPERATIONS))
    # The longest chain counts kernels: a skip connection is none.
    kernel = alive & (codes != CELL_OPERATIONS.index("skip_connect"))
    depth = np.zeros((len(codes), 4))
    chain = np.zeros((len(codes), 4, len(CELL_OPERATIONS)))
    for number, (start, end) in enumerate(_CELL_EDGES):
        longer = depth[:, start] + kernel[:, number]
        better = alive[:, number] & (longer >= depth[:, end])
        depth[better, end] = longer[better]
        chain[better, end] = (chain[:, start] + kinds[:, number])[better]
    return np.hstack([kinds.sum(axis=1), (kinds & alive[..., None]).sum(axis=1), chain[:, 3]]).astype(float)


#: FBNet's candidate blocks (Wu et al. 2019): kernel size, expansion, groups of the 1x1 convolutions; the last is skip.
FBNET_OPERATIONS = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1), None)
#: FBNet's stages for 32 x 32 images: channels, blocks, stride of the first block. The latencies of the additive devices
#: in the data of HW-NAS-Bench (Li et al. 2021) fit these strides, and not a stride of 2 in the second stage.
FBNET_STAGES = ((16, 1, 1), (24, 4, 1), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
FBNET_LAYERS = sum(blocks for _, blocks, _ in FBNET_STAGES)


def fbnet(operations: Array, proxies: Array | None = None) -> Encodings:
    """FBNet networks: one-hot of the operations of the 22 layers, their costs, and zero-cost proxies if there are any.

    Args:
        operations: indices into `FBNET_OPERATIONS`, shape (n, 22).
        proxies: shape (n, proxies).

    Raises:
        DomainError: they have another shape or are no such indices.
    """
    codes = np.asarray(operations)
    if codes.ndim != 2 or codes.shape[1] != FBNET_LAYERS:
        raise DomainError(f"an FBNet network has {FBNET_LAYERS} operations, got shape {codes.shape}")
    vectors = one_hot(codes, len(FBNET_OPERATIONS))
    stages = (vectors @ _fbnet_costs()).reshape(len(codes), len(FBNET_STAGES), _FBNET_COSTS)
    tables = {"vec": vectors, "physical": stages.sum(axis=1), "stages": stages.reshape(len(codes), -1)}
    values, groups = join(**tables if proxies is None else {**tables, "zcp": proxies})
    return Encodings(values, groups)


#: What a block costs: multiply-accumulates of 1x1 convolutions, of depthwise ones of size 3 and of size 5, activations
#: moved, activations shuffled between groups, parameters, kernels.
_FBNET_COSTS = 7


def _fbnet_costs() -> Array:
    """What each operation of each layer costs, by stage: shape (layers * operations, stages * costs)."""
    rows = []
    size, channels = 32, 16  # what the stem puts out
    for stage, (filters, blocks, first_stride) in enumerate(FBNET_STAGES):
        for block in range(blocks):
            out = size // (first_stride if block == 0 else 1)
            for operation in FBNET_OPERATIONS:
                row = np.zeros((len(FBNET_STAGES), _FBNET_COSTS))
                row[stage] = _fbnet_block(operation, size, out, channels, filters)
                rows.append(row.ravel())
            size, channels = out, filters
    return np.array(rows)


def _fbnet_block(
    operation: tuple[int, int, int] | None, size: int, out: int, channels: int, filters: int
) -> tuple[float, ...]:
    """Costs of one block: 1x1 convolution, depthwise convolution (with the stride), 1x1 convolution."""
    if operation is None:
        if size == out and channels == filters:
            return (0,) * _FBNET_COSTS
        pointwise = channels * filters  # a skip that changes the shape is a 1x1 convolution
        return (pointwise * out**2, 0, 0, channels * size**2 + filters * out**2, 0, pointwise, 1)
    kernel, expansion, groups = operation
    wide = channels * expansion
    pointwise = (channels * wide * size**2 + wide * filters * out**2) // groups
    depthwise = wide * kernel**2 * out**2
    moved = (channels + 2 * wide) * size**2 + (2 * wide + filters) * out**2
    shuffled = wide * size**2 if groups > 1 else 0
    params = (channels * wide + wide * filters) // groups + wide * kernel**2
    return (pointwise, depthwise * (kernel == 3), depthwise * (kernel == 5), moved, shuffled, params, 3)
