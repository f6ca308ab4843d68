"""The blocks of an AutoKeras graph, listed without building Keras."""

from __future__ import annotations

from typing import Any

import autokeras
import keras
from keras_tuner import HyperParameters

from blsm.blocks import block_family
from blsm.hypermodels.autokeras_blocks import BlockStack
from blsm.hypermodels.stack import Shape
from blsm.profiles import Chain


def graph_blocks(graph: autokeras.graph.Graph, hp: HyperParameters) -> Chain | None:
    """The blocks of a setting; None where a node of the graph is not known, or the data's shapes are not known yet.

    Known are sequences of an image input, `Normalization`, `ImageAugmentation` (which costs nothing once trained),
    stacks, and a `ClassificationHead` or `RegressionHead` on a pooled input.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or any(len(block.inputs) != 1 for block in graph.blocks):
        return None
    image = graph.inputs[0]
    if type(image) not in (autokeras.ImageInput, autokeras.Input) or len(image.shape or ()) != 3:
        return None
    chain = _Chain(tuple(image.shape))
    for block in graph.blocks:
        if not chain.append(block, hp):
            return None
    return tuple(chain.blocks)


class _Chain:
    """Grows node by node; `shape` is that of the output, before the global average pooling once `pooled`."""

    def __init__(self, shape: Shape) -> None:
        self.blocks: list[Any] = []
        self.shape = shape
        self.pooled = False

    def append(self, block: autokeras.Block, hp: HyperParameters) -> bool:
        """Adds the blocks that a node becomes; False if the node is not known."""
        if isinstance(block, autokeras.ClassificationHead | autokeras.RegressionHead):
            return self.pooled and self._head(block)
        if self.pooled:
            return False
        if isinstance(block, BlockStack):
            self.blocks += block.blocks(hp, self.shape)
            self.shape, self.pooled = self.blocks[-1].output_shape, block.pool
        elif isinstance(block, autokeras.SpatialReduction):
            self.pooled = block.reduction_type == "global_avg"
            return self.pooled
        elif isinstance(block, autokeras.Normalization) and block.axis == -1:
            self._add("rescale", mode="normalization")
        elif not isinstance(block, autokeras.ImageAugmentation):
            return False
        return True

    def _head(self, head: Any) -> bool:
        if head.shape is None:
            return False
        units = head.shape[-1]
        self._add("head", units=units)
        if isinstance(head, autokeras.ClassificationHead):
            binary = isinstance(head.loss, keras.losses.BinaryCrossentropy)
            output = block_family("output").config(in_channels=units, activation="sigmoid" if binary else "softmax")
            self.blocks.append(output)
        return True

    def _add(self, family: str, **parameters: Any) -> None:
        height, width, channels = self.shape
        config = block_family(family).config(height=height, width=width, in_channels=channels, **parameters)
        self.blocks.append(config)
