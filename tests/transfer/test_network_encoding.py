"""Networks as rows of numbers: relative to their space, whatever their blocks."""

from __future__ import annotations

import numpy as np
import pytest

import blsm
from blsm.errors import CoverageError, UnknownNameError
from blsm.hypermodels import sample_networks
from blsm.profiles import Chain
from blsm.transfer.network_encoding import NetworkEncoder, normal_scores


def _networks(family: str, count: int = 60, seed: int = 0) -> list[Chain]:
    return sample_networks(count, seed, families=[family], input_shape=(16, 16, 3), depth=(2, 4))


def _column(encoder: NetworkEncoder, networks: list[Chain], name: str) -> np.ndarray:
    return encoder.encode(networks)[:, encoder.names.index(name)]


def test_columns_are_standardised_by_the_space() -> None:
    networks = _networks("mbconv")
    encoded = NetworkEncoder(networks).encode(networks)
    varying = encoded.std(axis=0) > 0
    np.testing.assert_allclose(encoded.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(encoded[:, varying].std(axis=0), 1)
    assert varying.sum() > 20


def test_costs_rise_with_the_networks() -> None:
    networks = _networks("res_v1")
    encoder = NetworkEncoder(networks)
    for name in ("macs", "params"):
        totals = [sum(getattr(config, name) for config in network) for network in networks]
        order = np.argsort(_column(encoder, networks, name), kind="stable")
        assert np.all(np.diff(np.array(totals)[order]) >= 0)
    assert np.corrcoef(_column(encoder, networks, "depth"), list(map(len, networks)))[0, 1] == pytest.approx(1)


def test_parameters_are_averaged_where_resolution_is_the_same() -> None:
    def network(first: int, second: int) -> Chain:
        shape = {"height": 16, "width": 16, "in_channels": 8, "filters": 8, "expand_ratio": 2}
        small = shape | {"height": 8, "width": 8}
        config = blsm.block_family("mbconv").config
        return (
            config(**shape, kernel_size=first, strides=1),
            config(**shape, kernel_size=3, strides=2),
            config(**small, kernel_size=second, strides=1),
        )

    networks = [network(3, 3), network(7, 3), network(3, 7), network(7, 7)]
    encoder = NetworkEncoder(networks)
    np.testing.assert_allclose(_column(encoder, networks, "mean kernel_size 0"), [-1, 1, -1, 1])
    np.testing.assert_allclose(_column(encoder, networks, "mean kernel_size 1"), [-1, -1, 1, 1])


def test_families_share_columns_and_unknown_blocks_are_no_error() -> None:
    mbconv, res = NetworkEncoder(_networks("mbconv")), NetworkEncoder(_networks("res_v1"))
    shared = set(mbconv.names) & set(res.names)
    assert {"macs", "params", "blocks 0", "mean kernel_size 1", "mean filters 2"} <= shared
    assert "mean expand_ratio 0" not in res.names
    assert np.isfinite(res.encode(_networks("mbconv", 5))).all()


def test_rows_do_not_depend_on_what_was_encoded_before() -> None:
    networks = _networks("mbconv")
    encoder, other = NetworkEncoder(networks), NetworkEncoder(networks)
    other.encode(_networks("res_v2", 20, seed=3))
    np.testing.assert_array_equal(encoder.encode(networks[:5]), other.encode(networks[:5]))


def test_proxies_are_estimated_from_the_other_columns() -> None:
    networks = _networks("res_v1", 30)
    encoder = NetworkEncoder(networks, ["params", "flops"])
    assert encoder.groups["proxies"] == ("params", "flops")
    params = [sum(config.params for config in network) for network in networks]
    assert np.corrcoef(_column(encoder, networks, "params"), np.log(params))[0, 1] > 0.9
    estimated = encoder.encode(networks)[:, -2]
    assert np.corrcoef(estimated, normal_scores(np.array(params)))[0, 1] > 0.9
    with pytest.raises(UnknownNameError, match="zenn.*did you mean 'zen'"):
        NetworkEncoder(networks, ["zenn"])


def test_a_space_needs_networks() -> None:
    with pytest.raises(CoverageError, match="got none"):
        NetworkEncoder([])


def test_normal_scores_keep_order_and_forget_scale() -> None:
    values = np.array([0.1, 1e9, 0.2, -5.0, 0.2])
    scores = normal_scores(values)
    np.testing.assert_array_equal(scores, normal_scores(values**3))
    assert scores[1] > scores[2] == scores[4] > scores[0] > scores[3]
    assert abs(scores.mean()) < 0.05
