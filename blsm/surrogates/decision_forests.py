"""TensorFlow Decision Forests: gradient boosted trees and a random forest, as in the paper. Extra `tfdf`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.features import Features
from blsm.surrogates.base import Regressor

#: The forest's own files, in the Yggdrasil format: data, while the SavedModel around them is a program.
_FOLDER = "forest"


class _Forest(Regressor):
    """Trees of TensorFlow Decision Forests that learn the logarithm of latency; predicts without TensorFlow (ydf).

    Attributes:
        learner: class in `tensorflow_decision_forests.keras`.
        parameters: of the learner.
        candidates: settings that the validation set decides among.
    """

    chatty: ClassVar[bool] = True
    learner: ClassVar[str]
    parameters: ClassVar[Mapping[str, Any]]
    candidates: ClassVar[tuple[Mapping[str, Any], ...]]

    def __init__(self, features: str | None = None) -> None:
        super().__init__(features)
        self._files: dict[str, bytes] = {}
        self._forest: Any = None

    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None:
        inputs, target = self._inputs(features), np.log(latency_ms)

        def error(candidate: Mapping[str, Any]) -> float:
            self._train(inputs[:train_count], target[:train_count], candidate, seed)
            return float(np.square(self._values(inputs[train_count:]) - target[train_count:]).mean())

        self._train(inputs, target, min(self.candidates, key=error), seed)

    def _train(self, inputs: Array, target: Array, candidate: Mapping[str, Any], seed: int) -> None:
        try:
            import ydf  # noqa: F401  # first: without it the other one prints a welcome, and fails where it can't
            import tensorflow_decision_forests as tfdf  # isort: skip
        except ImportError as error:
            raise _missing(self.name, error) from None
        import tensorflow as tf

        table = tf.data.Dataset.from_tensor_slices((_columns(inputs), target.astype(np.float32)))
        forest = getattr(tfdf.keras, self.learner)(
            task=tfdf.keras.Task.REGRESSION, verbose=0, random_seed=seed, num_threads=1, **self.parameters, **candidate
        )
        forest.fit(table.batch(len(inputs)), verbose=0)
        with tempfile.TemporaryDirectory() as folder:
            forest.save(folder)
            assets = sorted((Path(folder) / "assets").iterdir())
            # Their names begin with a random prefix.
            prefix = next(path.name for path in assets if path.name.endswith("done")).removesuffix("done")
            self._load({path.name.removeprefix(prefix): path.read_bytes() for path in assets})

    def _load(self, files: Mapping[str, bytes]) -> None:
        try:
            import ydf
        except ImportError as error:
            raise _missing(self.name, error) from None
        self._files = dict(files)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / Path(name).name).write_bytes(content)
            # It prints to standard output, where JSON may be expected.
            verbosity = ydf.verbose(0)
            try:
                self._forest = ydf.load_model(folder)
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(f"no forest: {error}") from None
            finally:
                ydf.verbose(verbosity)

    def _values(self, inputs: Array) -> Array:
        return np.asarray(self._forest.predict(_columns(inputs)), float)

    def _predict(self, features: Features) -> Array:
        latency_ms: Array = np.exp(self._values(self._inputs(features)))
        return latency_ms

    def to_files(self) -> dict[str, bytes]:
        return {**self._inputs_to_files(), **{f"{_FOLDER}/{name}": file for name, file in self._files.items()}}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        regressor = cls._of_inputs(files)
        prefix = f"{_FOLDER}/"
        regressor._load({name.removeprefix(prefix): file for name, file in files.items() if name.startswith(prefix)})
        return regressor


class TfdfBoostedTrees(_Forest):
    """Gradient boosted trees of TensorFlow Decision Forests."""

    name: ClassVar[str] = "tfdf_boosted_trees"
    learner = "GradientBoostedTreesModel"
    parameters: ClassVar[Mapping[str, Any]] = {"num_trees": 300, "shrinkage": 0.1, "validation_ratio": 0.0}
    candidates = ({"max_depth": 4}, {"max_depth": 6})


class RandomForest(_Forest):
    """A random forest of TensorFlow Decision Forests."""

    name: ClassVar[str] = "random_forest"
    learner = "RandomForestModel"
    parameters: ClassVar[Mapping[str, Any]] = {
        "num_trees": 300,
        "compute_oob_performances": False,
        "winner_take_all": False,
    }
    candidates = ({"max_depth": 16, "min_examples": 2}, {"max_depth": 16, "min_examples": 5})


def _columns(inputs: Array) -> dict[str, Array]:
    return {f"{number:03d}": column for number, column in enumerate(inputs.T.astype(np.float32))}


def _missing(name: str, error: ImportError) -> FitError:
    return FitError(f"{name} needs TensorFlow Decision Forests ({error}): pip install 'blsm[tfdf]'")
