from __future__ import annotations

import numpy as np
import pytest

from blsm.errors import DomainError
from blsm.transfer.encodings import CELL_OPERATIONS, FBNET_LAYERS, FBNET_OPERATIONS, Encodings, fbnet, nasbench201

CHAIN = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_3x3~2|"
CUT = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"


def _physical(encodings: Encodings) -> np.ndarray:
    return encodings.values[:, encodings.groups["physical"]]


def test_a_cell_is_six_one_hot_edges() -> None:
    encodings = nasbench201([CHAIN, CUT])
    codes = encodings.values[:, encodings.groups["vec"]].reshape(2, 6, 5).argmax(axis=2)
    names = [CELL_OPERATIONS[code] for code in codes[0]]
    assert names == ["nor_conv_3x3", "none", "nor_conv_1x1", "none", "none", "nor_conv_3x3"]


def test_what_is_cut_off_from_the_input_is_counted_as_such() -> None:
    conv = CELL_OPERATIONS.index("nor_conv_3x3")
    there, alive, longest = _physical(nasbench201([CHAIN, CUT])).reshape(2, 3, 5).transpose(1, 0, 2)[:, :, conv]
    assert there.tolist() == [2, 2]
    assert alive.tolist() == [2, 0]
    assert longest.tolist() == [2, 0]


def test_the_graph_of_a_cell_leads_from_input_to_output() -> None:
    graph = nasbench201([CHAIN]).graph
    assert graph is not None
    assert len(graph.nodes) == len(graph.adjacency) == 9
    source, sink = 0, 7
    # Edges 0, 1, 3 leave the input, edges 3, 4, 5 enter the output, edge 0 feeds edges 2 and 4.
    assert np.flatnonzero(graph.adjacency[source, :8]).tolist() == [1, 2, 4]
    assert np.flatnonzero(graph.adjacency[:sink, sink]).tolist() == [4, 5, 6]
    assert np.flatnonzero(graph.adjacency[1, :8]).tolist() == [3, 5]
    assert graph.nodes[3] == slice(10, 15)


@pytest.mark.parametrize("text", ["", "|conv~0|", CHAIN.replace("none", "nothing")])
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(DomainError, match="six edges"):
        nasbench201([text])


def test_a_network_costs_the_sum_of_its_stages() -> None:
    codes = np.random.default_rng(0).integers(0, len(FBNET_OPERATIONS), (5, FBNET_LAYERS))
    encodings = fbnet(codes)
    stages = encodings.values[:, encodings.groups["stages"]].reshape(5, 7, 7)
    np.testing.assert_allclose(stages.sum(axis=1), _physical(encodings))


def test_costs_of_a_block_are_those_of_its_convolutions() -> None:
    # The first layer maps 16 channels to 16 on 32 x 32 pixels: k3_e6 against k5_e6, k3_e1 against its groups, and skip.
    layers = np.full((5, FBNET_LAYERS), 8)
    layers[:, 0] = (3, 7, 0, 1, 8)
    costs = _physical(fbnet(layers))
    costs -= costs[4]
    pointwise, three, five, _, shuffled, params, kernels = costs.T
    assert pointwise[0] == 2 * 16 * 96 * 32**2
    assert three[0] == 9 * 96 * 32**2
    assert five[1] == 25 * 96 * 32**2
    assert params[0] == 2 * 16 * 96 + 9 * 96
    assert pointwise[3] == pointwise[2] / 2
    assert shuffled[3] > shuffled[2] == 0
    assert kernels.tolist() == [3, 3, 3, 3, 0]


def test_proxies_are_a_group_of_their_own() -> None:
    proxies = np.arange(6.0).reshape(2, 3)
    encodings = fbnet(np.zeros((2, FBNET_LAYERS), int), proxies)
    np.testing.assert_array_equal(encodings.values[:, encodings.groups["zcp"]], proxies)


def test_other_operations_are_refused() -> None:
    with pytest.raises(DomainError, match="22 operations"):
        fbnet(np.zeros((2, 21), int))
    with pytest.raises(DomainError, match="from 0 to 8"):
        fbnet(np.full((2, FBNET_LAYERS), 9))
