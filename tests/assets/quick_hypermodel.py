"""A hypermodel whose training takes no time: networks are the more accurate the wider and deeper they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from blsm.domains import Choice
from blsm.hypermodels import SequentialBlocks, Stack, Stage


class Quick(SequentialBlocks):  # type: ignore[misc,valid-type]  # loaded lazily
    """Small networks for images of 8x8 pixels in 3 classes; counts its trainings and keeps their options."""

    def __init__(self) -> None:
        stages = (Stage(Choice(8, 16, 24), strides=2, depth=Choice(1, 2, 3)),)
        super().__init__(Stack(("mbconv",), stages, stem=Choice(8, 16)), (8, 8, 1), classes=3)
        self.trained = 0
        self.options: dict[str, Any] = {}

    def build(self, hp: Any) -> Any:
        import keras

        self.declare_hyperparameters(hp)
        return keras.Sequential([keras.Input(self.input_shape), keras.layers.Flatten()])

    def fit(self, hp: Any, model: Any, *data: Any, **options: Any) -> Any:
        self.trained += 1
        self.options = options
        reached = 0.4 + 0.01 * hp.get("stage1_filters") + 0.05 * hp.get("stage1_depth")
        return SimpleNamespace(history={"val_accuracy": [0.1, reached, 0.3]})
