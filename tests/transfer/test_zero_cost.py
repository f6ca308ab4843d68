"""Zero-cost proxies keep the properties that their papers claim."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import blsm
from blsm.errors import CoverageError, DomainError, UnknownNameError
from blsm.transfer.random_network import RandomNetwork
from blsm.transfer.zero_cost import PROXIES, zero_cost_proxies, zero_cost_table


def _network(filters: int = 8, blocks: int = 1) -> list[blsm.BlockConfig]:
    image = {"height": 8, "width": 8}
    conv, res, mbconv, head = map(blsm.block_family, ("conv", "res_v1", "mbconv", "head"))
    return [
        conv.config(**image, in_channels=3, filters=filters, kernel_size=3, strides=1, activation="relu"),
        *[
            mbconv.config(
                **image, in_channels=filters, filters=filters, kernel_size=3, strides=1, expand_ratio=2, se_ratio=0.25
            )
        ]
        * blocks,
        res.config(**image, in_channels=filters, filters=filters, kernel_size=3, strides=1),
        head.config(**image, in_channels=filters, units=10),
    ]


@pytest.fixture(scope="module")
def proxies() -> dict[str, float]:
    return zero_cost_proxies(_network(), batch=8)


def test_all_twelve_are_finite_numbers(proxies: dict[str, float]) -> None:
    assert tuple(proxies) == PROXIES
    assert set(PROXIES) == {
        "params",
        "flops",
        "l2_norm",
        "plain",
        "grad_norm",
        "snip",
        "grasp",
        "fisher",
        "synflow",
        "jacov",
        "nwot",
        "zen",
    }
    assert all(isinstance(value, float) and math.isfinite(value) for value in proxies.values())


def test_params_and_flops_are_those_of_the_keras_model(proxies: dict[str, float]) -> None:
    model = blsm.build_network(_network())
    assert proxies["params"] == model.count_params()
    assert proxies["flops"] == 2 * sum(block.macs for block in _network())
    same = zero_cost_proxies(model, ["params", "flops", "synflow"], batch=8)
    assert (same["params"], same["flops"]) == (proxies["params"], proxies["flops"])
    assert same["synflow"] > 0


def test_seeded(proxies: dict[str, float]) -> None:
    assert zero_cost_proxies(_network(), batch=8) == proxies
    other = zero_cost_proxies(_network(), batch=8, seed=1)
    assert all(other[name] != proxies[name] for name in PROXIES if name not in ("params", "flops"))


def test_a_model_is_judged_by_its_architecture_and_left_as_it_was() -> None:
    model = blsm.build_network(_network())
    before = [weight.copy() for weight in model.get_weights()]
    names = [name for name in PROXIES if name != "grasp"]
    first = zero_cost_proxies(model, names, batch=4)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.set_weights([weight + 1 for weight in before])
    assert zero_cost_proxies(model, names, batch=4) == first


def test_synflow_is_positive_and_sees_no_data() -> None:
    (one,), (other,) = (zero_cost_proxies(_network(), ["synflow"], batch=batch).values() for batch in (2, 16))
    assert one == other > 0


def test_synflow_is_the_output_once_for_every_kernel_on_a_path() -> None:
    """The product of weights along a path is linear in each: weight times gradient sums up to the output per layer."""
    chain = _network()[:1] + _network()[-1:]  # two layers, ReLU between them
    network = RandomNetwork([block.graph() for block in chain], np.random.default_rng([0, 1]), dtype="float64")
    weights = [abs(weight) for weight in network.weights]
    logits, _ = network.run(np.ones((1, 8, 8, 3)), normalise=False, weights=weights)
    assert zero_cost_proxies(chain, ["synflow"])["synflow"] == pytest.approx(2 * float(np.sum(logits)))


def test_snip_bounds_plain_and_norms_are_positive(proxies: dict[str, float]) -> None:
    assert proxies["snip"] >= abs(proxies["plain"])
    assert min(proxies[name] for name in ("l2_norm", "grad_norm", "snip", "fisher")) > 0


def test_nwot_grows_with_distinct_activation_patterns() -> None:
    narrow, wide = (zero_cost_proxies(_network(filters), ["nwot"], batch=8)["nwot"] for filters in (8, 32))
    assert wide > narrow
    # Without rectifiers there are no patterns.
    assert zero_cost_proxies(_network()[-1:], ["nwot"])["nwot"] == 0


def test_jacov_is_highest_for_uncorrelated_images(proxies: dict[str, float]) -> None:
    # Of a correlation matrix of n images, -sum(log v + 1 / v) is at most -n, where it is the identity.
    assert proxies["jacov"] <= -8
    # A network without rectifiers is linear: all images have the same Jacobian.
    assert zero_cost_proxies(_network()[-1:], ["jacov"], batch=8)["jacov"] < proxies["jacov"] - 1000


def test_zen_grows_with_depth() -> None:
    shallow, deep = (zero_cost_proxies(_network(blocks=n), ["zen"], batch=8)["zen"] for n in (1, 4))
    assert deep > shallow


def test_grasp_is_minus_weight_times_the_change_of_the_squared_gradient() -> None:
    """Against finite differences: Hg is half the gradient of |g|^2."""
    import tensorflow as tf

    from blsm.transfer.zero_cost import _Subject

    subject = _Subject([block.graph() for block in _network()[-1:]], batch=4, seed=0)
    (weight,) = subject.network().weights

    def squared_gradient(weights: Any) -> float:
        network = subject.network()
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = subject.loss(network.run(subject.images, weights=[weights])[0])
        return float(tf.reduce_sum(tf.square(tape.gradient(loss, weights))))

    step = 1e-2
    along = (squared_gradient(weight * (1 + step)) - squared_gradient(weight * (1 - step))) / (2 * step)
    expected = zero_cost_proxies(_network()[-1:], ["grasp"], batch=4)["grasp"]
    assert expected == pytest.approx(-along / 2, rel=1e-2)


def test_a_random_network_computes_what_keras_does() -> None:
    model = blsm.build_network(_network())
    network = RandomNetwork([blsm.operators.from_keras.graph_from_keras(model)], np.random.default_rng(0))
    kernels = iter(network.weights)
    for layer in model.layers:
        if "Conv" in type(layer).__name__ or "Dense" in type(layer).__name__:
            own = layer.get_weights()
            layer.set_weights([np.asarray(next(kernels)).reshape(own[0].shape), *own[1:]])
        elif "BatchNormalization" in type(layer).__name__:
            layer.momentum = 0.0
    images = np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32)
    expected = model(images, training=True)
    np.testing.assert_allclose(network.run(images)[0], expected, rtol=1e-3, atol=1e-4)


def test_a_table_of_many_networks() -> None:
    table = zero_cost_table([_network(), _network(16)], ["params", "l2_norm"])
    assert table.shape == (2, 2)
    assert (table[1] > table[0]).all()


def test_what_it_refuses() -> None:
    import keras

    with pytest.raises(UnknownNameError, match="did you mean 'synflow'"):
        zero_cost_proxies(_network(), ["sinflow"])
    with pytest.raises(DomainError, match="at least 2, got 1"):
        zero_cost_proxies(_network(), batch=1)
    with pytest.raises(DomainError, match="block 1"):
        zero_cost_proxies([_network()[0], _network(16)[-1]])
    x = keras.Input((4, 4, 3))
    unknown = keras.Model(x, keras.layers.LayerNormalization(name="odd_one")(x))
    with pytest.raises(CoverageError, match="odd_one"):
        zero_cost_proxies(unknown)
    y = keras.layers.Conv2D(2, 1)
    with pytest.raises(CoverageError, match="one input and one output"):
        zero_cost_proxies(keras.Model(x, [y(x), keras.layers.ReLU()(x)]))
