"""Records searches for `accuracy_prior.py`: random settings of two hypermodels, trained on two tasks.

The hypermodels are small stacks of one block family each, for the digits at their own 8x8 pixels; the tasks are the
digits as they are, and turned by random quarters of a turn under noise. Run it again, and it goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS

from blsm.domains import Choice, Integers
from blsm.files import write_atomically
from blsm.hypermodels import SequentialBlocks, Stack, Stage
from blsm.hypermodels.reach import random_settings

FAMILIES, TASKS = ("mbconv", "res_v1"), ("digits", "turned")
SEARCHES = RESULTS / "accuracy_searches.json"
#: Few steps tell networks apart; images beyond those trained on make accuracies precise.
TRAINED, EPOCHS, BATCH, RATE = 608, 6, 32, 0.003
#: Keras' 0.99 averages over as many steps as there are.
_MOMENTUM = 0.9

Images = tuple[np.ndarray, np.ndarray]


def hypermodel(family: str) -> SequentialBlocks:
    """A stem and two stages of one or two blocks."""
    depth = Integers(1, 2)
    stages = (Stage(Integers(8, 32, step=8), 1, depth), Stage(Integers(16, 64, step=16), 2, depth))
    return SequentialBlocks(Stack((family,), stages, stem=Choice(8, 16)), (8, 8, 1), learning_rate=RATE)


def settings(family: str, task: str) -> Iterator[Any]:
    """Random settings without end; each search has its own."""
    return random_settings(hypermodel(family), 1 + FAMILIES.index(family) + len(FAMILIES) * TASKS.index(task))


def images(task: str) -> tuple[Images, Images]:
    """Images of 8x8x1 and labels, to train on and to validate with."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8).astype(np.float32)
    random = np.random.default_rng(0)
    if task == "turned":
        turns = random.integers(0, 4, len(x))
        x = np.array([np.rot90(image, turn) for image, turn in zip(x, turns, strict=True)])
        x = np.clip(x + random.normal(0, 3, x.shape), 0, 16)
    order = random.permutation(len(x))
    # Pixels are 0 to 16.
    x = (x * (255 / 16)).astype(np.float32)[..., np.newaxis]
    return (x[order[:TRAINED]], y[order[:TRAINED]]), (x[order[TRAINED:]], y[order[TRAINED:]])


def train(family: str, hp: Any, task: str) -> float:
    """The validation accuracy of a setting after training with Adam (Kingma and Ba 2015).

    Keras takes seconds to prepare a training that itself takes less than one; this bare loop does not.
    """
    import keras
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = hypermodel(family).build(hp)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = _MOMENTUM
    weights = [variable.value for variable in model.trainable_variables]
    moments = [[tf.Variable(tf.zeros_like(weight)) for weight in weights] for _ in range(2)]
    (x, y), (x_validation, y_validation) = images(task)
    x, y = tf.constant(x), tf.constant(y)

    @tf.function
    def descend(batches: Any) -> None:
        powers = tf.constant([0.9, 0.999])
        for batch in batches:
            with tf.GradientTape() as tape:
                probabilities = model(tf.gather(x, batch), training=True)
                losses = keras.losses.sparse_categorical_crossentropy(tf.gather(y, batch), probabilities)
                loss = tf.reduce_mean(losses)
            for weight, gradient, *moment in zip(weights, tape.gradient(loss, weights), *moments, strict=True):
                tf.raw_ops.ResourceApplyAdam(
                    var=weight.handle,
                    m=moment[0].handle,
                    v=moment[1].handle,
                    beta1_power=powers[0],
                    beta2_power=powers[1],
                    lr=RATE,
                    beta1=0.9,
                    beta2=0.999,
                    epsilon=1e-7,
                    grad=gradient,
                )
            powers *= [0.9, 0.999]

    random = np.random.default_rng(0)
    orders = [random.permutation(TRAINED) for _ in range(EPOCHS)]
    descend(tf.constant(np.concatenate(orders).reshape(-1, BATCH)))
    reached = np.argmax(np.asarray(model(x_validation, training=False)), axis=1)
    return float(np.mean(reached == y_validation))


def main() -> None:
    """Trains what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=60, help="of each search")
    parser.add_argument("--output", type=Path, default=SEARCHES)
    options = parser.parse_args()
    searches = {f"{family}, {task}": (family, task) for family in FAMILIES for task in TASKS}
    recorded: dict[str, list[dict[str, Any]]] = {name: [] for name in searches}
    if options.output.exists():
        recorded = json.loads(options.output.read_text())
    drawn = {name: list(islice(settings(*search), options.settings)) for name, search in searches.items()}
    for number in range(options.settings):
        for name, (family, task) in searches.items():
            hp = drawn[name][number]
            if hp.values in [trial["setting"] for trial in recorded[name]]:
                continue
            started_s = time.process_time()
            accuracy = train(family, hp, task)
            recorded[name].append({"accuracy": accuracy, "setting": hp.values})
            write_atomically(options.output, json.dumps(recorded, indent=1).encode())
            taken_s = time.process_time() - started_s
            print(f"{name}: {number + 1} of {options.settings}, {accuracy:.4f}, {taken_s:.1f} s", flush=True)


if __name__ == "__main__":
    main()
