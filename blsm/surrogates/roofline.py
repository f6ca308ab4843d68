"""The roofline base: latency as a non-negative sum of work, each kind at a speed of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.features import Features
from blsm.operators.costs import check_names
from blsm.surrogates.base import Regressor, to_json

#: No block is faster than this, milliseconds: it keeps logarithms of predictions finite.
LEAST_MS = 1e-6
#: Work that fewer blocks do has no weight: what they tell of it is mostly noise, and others may do much more of it.
_LEAST_BLOCKS = 5


class Roofline(Regressor):
    """Non-negative least squares of latency on the cost terms, rows weighted by 1 / latency.

    Attributes:
        weights: milliseconds for one unit of each of `term_names`, positive.

    Raises:
        FitError: the features are not `costs`.
    """

    name: ClassVar[str] = "roofline"

    def __init__(self, features: str | None = None) -> None:
        super().__init__(features)
        if self.features != "costs":
            raise FitError(f"a roofline is made of costs, and can't do with the features {self.features!r} alone")
        self.hint_names = ()
        self.weights = np.zeros(0)

    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None:
        self.fit_sums(features, latency_ms, latency_ms)

    def fit_sums(self, features: Features, sums_ms: Array, unit_ms: Array) -> None:
        """Learns what sums up to `sums_ms`, 0 or more; errors count as shares of `unit_ms`, both of shape (n,)."""
        from scipy.optimize import nnls

        common = np.count_nonzero(features.terms, axis=0) >= min(_LEAST_BLOCKS, len(sums_ms))
        relative = features.terms * common / unit_ms[:, None]
        scale = relative.max(axis=0)
        scale[scale == 0] = 1.0
        weights = nnls(relative / scale, sums_ms / unit_ms, maxiter=100 * relative.shape[1])[0] / scale
        self._keep(features.term_names, weights, weights > 0)

    def leave_out(self, pattern: re.Pattern[str]) -> None:
        """Forgets the terms in whose names a pattern occurs."""
        assert self.term_names is not None
        kept = np.array([pattern.search(name) is None for name in self.term_names], bool)
        self._keep(self.term_names, self.weights, kept)

    def _keep(self, names: Sequence[str], weights: Array, kept: Array) -> None:
        self.weights = weights[kept]
        self.term_names = tuple(name for name, keep in zip(names, kept, strict=True) if keep)

    def _predict(self, features: Features) -> Array:
        latency_ms: Array = self.parts(features).sum(axis=1).clip(LEAST_MS)
        return latency_ms

    def parts(self, features: Features) -> Array:
        """Milliseconds of each term, shape (n, len(term_names)); `features` may have other terms too."""
        assert self.term_names is not None
        columns = {name: index for index, name in enumerate(features.term_names)}
        return features.terms[:, [columns[name] for name in self.term_names]] * self.weights

    def to_files(self) -> dict[str, bytes]:
        assert self.term_names is not None
        return {"roofline.json": to_json(dict(zip(self.term_names, self.weights.tolist(), strict=True)))}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        weights = json.loads(files["roofline.json"])
        check_names(weights)
        base = cls()
        base.term_names = tuple(weights)
        base.weights = np.array([float(weight) for weight in weights.values()])
        return base
