"""Zero-cost proxies: numbers that a network at its random start gives away, without training it.

Weights, images and labels are drawn here: proxies belong to an architecture, not to one trained instance of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import CoverageError, DomainError, UnknownNameError
from blsm.network import check_chain
from blsm.operators import OperatorGraph
from blsm.operators.costs import total_macs, total_params
from blsm.operators.from_keras import graph_from_keras
from blsm.transfer.random_network import RUNNABLE, RandomNetwork

if TYPE_CHECKING:
    import keras


class _Subject:
    """A network under examination, with a batch of images and labels.

    Attributes:
        graphs: the network.
        images: float32, shape (n, height, width, channels).
        labels: int64, shape (n,).
    """

    def __init__(self, graphs: Sequence[OperatorGraph], batch: int, seed: int) -> None:
        self.graphs = graphs
        self.seed = seed
        random = np.random.default_rng([seed, 0])
        self.images = random.standard_normal((batch, *graphs[0].operators[0].shape)).astype(np.float32)
        classes = graphs[-1].output_shape[-1]
        self.labels = random.integers(0, classes, batch)

    def network(self, **options: Any) -> RandomNetwork:
        """The network; always the same weights for the same options."""
        return RandomNetwork(self.graphs, np.random.default_rng([self.seed, 1]), **options)

    def loss(self, logits: Any) -> Any:
        """Mean cross-entropy."""
        import tensorflow as tf

        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(self.labels, logits))

    @cached_property
    def gradients(self) -> list[tuple[Any, Any]]:
        """Each weight with the gradient of the loss."""
        import tensorflow as tf

        network = self.network()
        with tf.GradientTape() as tape:
            tape.watch(network.weights)
            loss = self.loss(network.run(self.images)[0])
        return list(zip(network.weights, tape.gradient(loss, network.weights), strict=True))


def _total(values: Sequence[Any]) -> float:
    return float(sum(float(np.asarray(value, np.float64).sum()) for value in values))


def _params(subject: _Subject) -> float:
    """Number of parameters as Keras counts them (Ning et al. 2021)."""
    return float(sum(total_params(graph) for graph in subject.graphs))


def _flops(subject: _Subject) -> float:
    """Floating-point operations, two a multiply-accumulate (Ning et al. 2021)."""
    return float(2 * sum(total_macs(graph) for graph in subject.graphs))


def _l2_norm(subject: _Subject) -> float:
    """Sum of the norms of the kernels (Abdelfattah et al. 2021)."""
    return _total([np.linalg.norm(weight) for weight in subject.network().weights])


def _plain(subject: _Subject) -> float:
    """Sum of weight times gradient, signed (Mozer and Smolensky 1989; Abdelfattah et al. 2021)."""
    return _total([weight * gradient for weight, gradient in subject.gradients])


def _grad_norm(subject: _Subject) -> float:
    """Sum of the norms of the kernels' gradients (Abdelfattah et al. 2021)."""
    return _total([np.linalg.norm(gradient) for _, gradient in subject.gradients])


def _snip(subject: _Subject) -> float:
    """Sum of |weight times gradient|: connection sensitivity (Lee et al. 2019, Eq. 5)."""
    return _total([abs(weight * gradient) for weight, gradient in subject.gradients])


def _grasp(subject: _Subject) -> float:
    """Minus the sum of weight times (Hessian times gradient): gradient signal preserved (Wang et al. 2020, Eq. 8)."""
    import tensorflow as tf

    network = subject.network()
    with tf.GradientTape() as outer:
        outer.watch(network.weights)
        with tf.GradientTape() as inner:
            inner.watch(network.weights)
            loss = subject.loss(network.run(subject.images)[0])
        gradients = inner.gradient(loss, network.weights)
        product = tf.add_n([tf.reduce_sum(g * tf.stop_gradient(g)) for g in gradients])
    hessian_gradient = outer.gradient(product, network.weights, unconnected_gradients="zero")
    return -_total([weight * h for weight, h in zip(network.weights, hessian_gradient, strict=True)])


def _fisher(subject: _Subject) -> float:
    """Sum over channels of the squared saliency of kernels' outputs (Theis et al. 2018; Turner et al. 2020, Eq. 3)."""
    import tensorflow as tf

    network = subject.network()
    with tf.GradientTape() as tape:
        tape.watch(network.weights)  # or nothing is recorded: outputs of kernels are in between
        logits, trace = network.run(subject.images)
        loss = subject.loss(logits)
    gradients = tape.gradient(loss, trace.kernel_outputs)
    saliency = [
        tf.reduce_sum(y * g, axis=list(range(1, len(y.shape) - 1)))
        for y, g in zip(trace.kernel_outputs, gradients, strict=True)
    ]
    return _total([tf.reduce_mean(tf.square(s), axis=0) / 2 for s in saliency])


def _synflow(subject: _Subject) -> float:
    """Synaptic flow: sum of weight times gradient of the output, with |weights| and inputs of 1; no data, no batch
    normalisation (Tanaka et al. 2020, Eq. 2)."""
    import tensorflow as tf

    network = subject.network(dtype="float64")  # products of many layers leave float32
    weights = [tf.abs(weight) for weight in network.weights]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        logits, _ = network.run(np.ones((1, *subject.images.shape[1:])), normalise=False, weights=weights)
        flow = tf.reduce_sum(logits)
    return _total([weight * g for weight, g in zip(weights, tape.gradient(flow, weights), strict=True)])


def _jacov(subject: _Subject) -> float:
    """How little the Jacobians of images correlate: -sum(log(v + k) + 1 / (v + k)) over eigenvalues v of their
    correlation matrix, k = 1e-5 (Mellor et al. 2020, version 1, Eq. 3)."""
    import tensorflow as tf

    images = tf.constant(subject.images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(subject.network().run(images)[0])
    jacobian = np.asarray(tape.gradient(total, images), np.float64).reshape(len(subject.images), -1)
    values = np.linalg.eigvalsh(np.corrcoef(jacobian)) + 1e-5
    return float(-(np.log(values.clip(1e-12)) + 1 / values.clip(1e-12)).sum())


def _nwot(subject: _Subject) -> float:
    """Log-determinant of how many rectifiers two images switch alike (Mellor et al. 2021, Eq. 3)."""
    _, trace = subject.network().run(subject.images)
    if not trace.rectified:
        return 0.0
    codes: Array = np.hstack([np.asarray(x).reshape(len(subject.images), -1) > 0 for x in trace.rectified]).astype(
        float
    )
    return float(np.linalg.slogdet(codes @ codes.T + (1 - codes) @ (1 - codes).T)[1])


def _zen(subject: _Subject) -> float:
    """Zen-score: log of how far the features move with the input, corrected for batch normalisation; standard normal
    weights and inputs, steps of 0.01 (Lin et al. 2021, Algorithm 1)."""
    random = np.random.default_rng([subject.seed, 2])
    network = subject.network(gain=1.0)
    images, steps = random.standard_normal((2, *subject.images.shape)).astype(np.float32)
    steps *= 0.01
    _, trace = network.run(images)
    _, moved = network.run(images + steps)
    difference = np.abs(np.asarray(trace.features) - np.asarray(moved.features))
    scales = [0.5 * np.log(np.mean(variance) + 1e-12) for variance in trace.variances]
    return float(np.log(difference.sum(axis=tuple(range(1, difference.ndim))).mean() + 1e-12) + sum(scales))


_PROXIES: dict[str, Callable[[_Subject], float]] = {
    "params": _params,
    "flops": _flops,
    "l2_norm": _l2_norm,
    "plain": _plain,
    "grad_norm": _grad_norm,
    "snip": _snip,
    "grasp": _grasp,
    "fisher": _fisher,
    "synflow": _synflow,
    "jacov": _jacov,
    "nwot": _nwot,
    "zen": _zen,
}
#: Names of all proxies.
PROXIES = tuple(_PROXIES)


def zero_cost_proxies(
    network: keras.Model | Sequence[BlockConfig],
    names: Sequence[str] = PROXIES,
    *,
    seed: int = 0,
    batch: int = 16,
) -> dict[str, float]:
    """Zero-cost proxies of a network, by name.

    They belong to the architecture: weights, images (standard normal) and labels are drawn here, whatever weights a
    model has. The same seed gives the same numbers for a Keras model and for the blocks it is made of.

    Args:
        network: a Keras model of one image input and one output, or block configs one after the other.
        names: which, of `PROXIES`.
        seed: of weights, images and labels.
        batch: images in the batch.

    Raises:
        UnknownNameError: no proxy of this name.
        CoverageError: the model has operators that can't be run here; the message names them.
        DomainError: blocks that don't fit together, or a batch of fewer than 2.
    """
    for name in names:
        if name not in _PROXIES:
            raise UnknownNameError(name, PROXIES)
    if batch < 2:
        raise DomainError(f"proxies compare images: the batch must be at least 2, got {batch}")
    subject = _Subject(_graphs(network), batch, seed)
    return {name: _PROXIES[name](subject) for name in names}


def zero_cost_table(
    networks: Sequence[keras.Model | Sequence[BlockConfig]],
    names: Sequence[str] = PROXIES,
    *,
    seed: int = 0,
    batch: int = 16,
) -> Array:
    """Proxies of many networks, shape (len(networks), len(names)): the group `zcp` of an encoding.

    Args and Raises: see `zero_cost_proxies`.
    """
    rows = [zero_cost_proxies(network, names, seed=seed, batch=batch) for network in networks]
    return np.array([[row[name] for name in names] for row in rows]).reshape(len(rows), len(names))


def _graphs(network: keras.Model | Sequence[BlockConfig]) -> list[OperatorGraph]:
    if isinstance(network, Sequence):
        check_chain(network)
        graphs = [config.graph() for config in network]
    else:
        graphs = [graph_from_keras(network)]
    graph = graphs[0]
    if sum(op.kind == "input" for op in graph.operators) != 1 or len(graph.outputs) != 1:
        raise CoverageError("zero-cost proxies need a model of one input and one output")
    unknown = {op.layer or op.kind for graph in graphs for op in graph.operators if op.kind not in RUNNABLE}
    if unknown:
        raise CoverageError(f"zero-cost proxies cannot run {', '.join(sorted(unknown))}: not built of known operators")
    return graphs
