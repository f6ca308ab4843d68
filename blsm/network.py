"""A network as a sequence of block configs, and the parser that recovers them from a Keras model."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blsm.blocks import BlockConfig, block_families, block_family
from blsm.errors import DomainError, ModelFileError
from blsm.operators import Cursor, OperatorGraph
from blsm.operators.from_keras import graph_from_keras

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class UnmatchedLayer:
    """A layer that no block family explains.

    Attributes:
        name: name of the Keras layer.
        kind: what it computes, or its class name where blsm does not know it.
    """

    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


@dataclass(frozen=True)
class Network:
    """A network as block configs in topological order.

    Attributes:
        blocks: the block configs.
        unmatched: the layers that are in none of the blocks.
        coverage: share of the network's operators that the blocks explain, 0 to 1.
    """

    blocks: tuple[BlockConfig, ...]
    unmatched: tuple[UnmatchedLayer, ...] = ()
    coverage: float = 1.0


def parse(model: keras.Model) -> Network:
    """Recovers the block configs of a Keras model from its computational graph.

    Analysis by synthesis: at each place every family may guess a config, and the guess counts only if the graph of the
    guessed config equals the operators at hand, edges included. Where several families explain the same operators, the
    one that explains most of them wins, then the one registered first.

    Args:
        model: functional or built sequential model, `channels_last`.

    Raises:
        ModelFileError: the model is of another kind (subclassed, or a sequential one without an input shape).
    """
    return parse_graph(graph_from_keras(model))


def parse_graph(graph: OperatorGraph) -> Network:
    """Recovers the block configs of an operator graph; see `parse`."""
    blocks: list[BlockConfig] = []
    unmatched: list[UnmatchedLayer] = []
    explained: set[int] = set()
    total = 0
    for index, op in enumerate(graph.operators):
        if op.kind == "input":
            continue
        total += 1
        if index in explained:
            continue
        best, config = _explain(graph, index, explained)
        if config is None:
            unmatched.append(UnmatchedLayer(op.layer, op.kind))
        else:
            blocks.append(config)
            explained.update(best)
    return Network(tuple(blocks), tuple(unmatched), len(explained) / total if total else 0.0)


def _explain(graph: OperatorGraph, index: int, explained: set[int]) -> tuple[Sequence[int], BlockConfig | None]:
    """The block that explains most operators from this one on, itself included."""
    best: Sequence[int] = ()
    config = None
    for root in dict.fromkeys(graph.operators[index].inputs):
        # A residual block has several readers of its input, of which this operator need not be the one to start a
        # guess from; of parallel branches, this operator's own is wanted.
        for family, through in itertools.product(block_families().values(), (None, index)):
            for guess in family.guesses(Cursor(graph, root, through)):
                found = graph.find(guess.graph(), root)
                if found is None or index not in found[1:] or not explained.isdisjoint(found[1:]):
                    continue
                if len(found) - 1 > len(best):
                    best, config = found[1:], guess
    return best, config


def build_network(blocks: Iterable[BlockConfig]) -> keras.Model:
    """A Keras model of these blocks one after the other, batch size 1.

    Raises:
        DomainError: there is no block, or a block's input is not the output of the one before it.
    """
    import keras

    blocks = tuple(blocks)
    check_chain(blocks)
    x: Any = keras.Input(blocks[0].input_shape, batch_size=1)
    inputs = x
    for config in blocks:
        x = block_family(config.family).apply(config, x)
    return keras.Model(inputs, x)


def load_keras_model(path: str | Path) -> keras.Model:
    """Reads a Keras model file in safe mode.

    Raises:
        ModelFileError: it is missing, damaged, no Keras model, or needs code that is not installed.
    """
    import keras

    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"no model file at {path}")
    try:
        if _has_autokeras_layers(path):
            import autokeras  # noqa: F401  # makes its layers known to Keras
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001  # Keras raises many kinds for a bad file
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelFileError(f"{path} is no readable Keras model (.keras): {reason}") from None


def _has_autokeras_layers(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return b'"autokeras.' in archive.read("config.json")
    except (OSError, KeyError, zipfile.BadZipFile):
        return False


def check_chain(blocks: Sequence[BlockConfig]) -> None:
    """Raises DomainError unless each block's input is the output of the one before it."""
    if not blocks:
        raise DomainError("a network needs at least one block")
    for number, (before, after) in enumerate(itertools.pairwise(blocks), start=1):
        if before.output_shape != after.input_shape:
            raise DomainError(
                f"block {number} ({before.family}) gives {before.output_shape}, but block {number + 1} "
                f"({after.family}) takes {after.input_shape}"
            )
