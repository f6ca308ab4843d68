"""Encodes blocks for transfer: their family, shape, work, and what the known devices' own surrogates predict."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import FitError
from blsm.features import Features
from blsm.operators.costs import TOTALS
from blsm.operators.ethos import ARRAYS
from blsm.surrogates import Regressor, regressor_class
from blsm.surrogates.base import to_json, under
from blsm.transfer.base import arrays_from_bytes, arrays_to_bytes
from blsm.transfer.encodings import Encodings, join
from blsm.transfer.ridge import Standard

_ENCODER, _STANDARDS = "encoder.json", "standards.npz"
#: Activations and joins that are code of their own on some devices; all others are alike.
_FUNCTIONS = ("hard_swish", "swish", "hard_sigmoid", "multiply", "average")
#: What is no matrix product: an array of multipliers has other units for it.
_ELEMENTWISE = (
    r"(?:(?:hard_)?(?:sigmoid|swish)|relu6?|gelu|[es]?elu|leaky_relu|tanh|softmax"
    r"|add|multiply|average|max|pool|batch_norm|rescale)"
)
#: What an array of multipliers takes, see `blsm.operators.arrays`: a device may be the array itself.
_TIMES = tuple(f"NPU cycles on {name}" for name in ARRAYS)
#: What a block of any family has to do: the cost terms (see `blsm.operators.costs.CostTable`) that are added up. They
#: are few, because few samples weigh them.
_WORK = {
    "constant": r"constant",
    "operators": r"operators",
    "1x1 convolutions": r".*\.1x1\.macs_1x16",
    "other convolutions": r".*\.kxk\.macs_1x16",
    "depthwise convolutions": r"depthwise_conv_\w+\.macs",
    "matrix-vector products": r".*\.vector\.macs",
    "weights": r"(depthwise_conv_\w+|\w+\.(1x1|kxk|vector))\.weights",
    "read by depthwise convolutions": r"depthwise_conv_\w+\.input",
    "read by convolutions": r".*\.(1x1|kxk)\.input",
    "written": r".*\.(1x1|kxk)\.output",
    **dict(zip(_TIMES, (rf"\w+\.array\.npu_cycles_{name}" for name in ARRAYS), strict=True)),
    **{f"{name} of functions": rf"{_ELEMENTWISE}\.array\.{name}" for name in ("work", "outside")},
    **{name: rf"{name}\.bytes" for name in _FUNCTIONS},
    "other functions": rf"(?!({'|'.join(_FUNCTIONS)})\.)\w+\.bytes",
}
#: Names of cost terms without the operators' roles and strides: kinds of work, as a device has weights for them.
_KINDS = (
    (r"\w+_(\d)\.(direct\..*)", r"conv_\1.\2"),
    (r"\w+\.((1x1|kxk|vector)\..*)", r"\1"),
    (r"\w+\.(array\.npu_cycles_.*)", r"\1"),
    (rf"(?!{_ELEMENTWISE}\.)\w+\.(array\..*)", r"\1"),
    (r"(depthwise_conv_\d)s\d(\..*)", r"\1\2"),
    (r"depthwise_conv_\d(\..*)", r"depthwise_conv\1"),
)


#: Sets of blocks -> the row of each, and their features: as many sets as a pool has families, known and unseen.
_known_features: dict[tuple[BlockConfig, ...], tuple[dict[BlockConfig, int], Features]] = {}
_MOST_KNOWN = 16


def work(features: Features) -> Array:
    """What blocks have to do, the same columns for every family, shape (n, columns)."""
    nothing = np.zeros(len(features))
    sums = [
        sum((features.terms[:, column] for column in columns), nothing) for columns in _columns(features.term_names)
    ]
    return np.column_stack([*sums, features.totals[:, TOTALS.index("bytes")]])


def _features(configs: Sequence[BlockConfig]) -> Features:
    """All features of blocks of a family; those of a pool, or some of them, are looked at again and again."""
    for places, known in list(_known_features.values()):
        if all(config in places for config in configs):
            return known[[places[config] for config in configs]]
    features = Features.of(configs)
    _known_features[tuple(configs)] = {config: row for row, config in enumerate(configs)}, features
    while len(_known_features) > _MOST_KNOWN:
        _known_features.pop(next(iter(_known_features)), None)
    return features


@cache
def _columns(terms: tuple[str, ...]) -> list[list[int]]:
    return [[place for place, term in _in_order(terms) if re.fullmatch(pattern, term)] for pattern in _WORK.values()]


def _in_order(terms: Sequence[str]) -> list[tuple[int, str]]:
    """Places and names of terms by name: added up so, a block says of itself exactly what it says among others."""
    return sorted(enumerate(terms), key=itemgetter(1))


@cache
def kind_of_work(term: str) -> str:
    """What a cost term of `blsm.operators.costs.CostTable` is an amount of, whatever the operator's role in a block."""
    for pattern, kind in _KINDS:
        if found := re.fullmatch(pattern, term):
            return found.expand(kind)
    return term


@dataclass(frozen=True)
class BlockEncoder:
    """Encodes blocks of some families.

    Attributes:
        standards: family -> of the logarithms of its config vector and totals, so that networks can learn from them.
        known: family -> the known devices' surrogates, the same devices for each family.
        kinds: of work that occur.
    """

    standards: Mapping[str, Standard]
    known: Mapping[str, tuple[Regressor, ...]]
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, configs: Mapping[str, Sequence[BlockConfig]], known: Mapping[str, tuple[Regressor, ...]]) -> Self:
        """The encoder of families, standardised by these configs of each."""
        features = {family: _features(members) for family, members in configs.items()}
        shapes = {family: _shapes(found) for family, found in features.items()}
        standards = {family: Standard.of(values).of_length_one(values) for family, values in shapes.items()}
        kinds = {
            kind_of_work(term)
            for found in features.values()
            for term, amounts in zip(found.term_names, found.terms.T, strict=True)
            if amounts.any()
        }
        return cls(standards, known, tuple(sorted(kinds)))

    def encode(self, configs: Sequence[BlockConfig]) -> Encodings:
        """Encodings of configs, with the groups `family`, `vec`, `physical` (work) and `times` among it, `terms` (its
        kinds) and `known` (milliseconds)."""
        families = np.array([config.family for config in configs])
        tables: dict[str, Array] = {}
        widths = [len(standard.mean) for standard in self.standards.values()]
        starts = np.cumsum([0, *widths])
        for number, (family, standard) in enumerate(self.standards.items()):
            members = np.flatnonzero(families == family)
            if not len(members):
                continue
            own = [configs[index] for index in members]
            features = _features(own)
            shapes = np.zeros((len(own), starts[-1]))
            shapes[:, starts[number] : starts[number + 1]] = standard(_shapes(features))
            found = {
                "family": np.tile(np.eye(len(widths))[number], (len(own), 1)),
                "vec": shapes,
                "physical": work(features),
                "terms": self._terms(features),
                "known": np.column_stack([regressor.predict(own) for regressor in self.known[family]]),
            }
            for name, values in found.items():
                tables.setdefault(name, np.zeros((len(configs), values.shape[1])))[members] = values
        values, groups = join(**tables)
        start = groups["physical"].start + list(_WORK).index(_TIMES[0])
        return Encodings(values, {**groups, "times": slice(start, start + len(_TIMES))})

    def _terms(self, features: Features) -> Array:
        """Amounts of each kind of work, and bytes in all."""
        places = {kind: place for place, kind in enumerate(self.kinds)}
        amounts = np.zeros((len(features.terms), len(places) + 1))
        for column, term in _in_order(features.term_names):
            # What no block of the pool has, no device was asked about.
            if (place := places.get(kind_of_work(term))) is not None:
                amounts[:, place] += features.terms[:, column]
        amounts[:, -1] = features.totals[:, TOTALS.index("bytes")]
        return amounts

    def of_family(self, family: str) -> BlockEncoder:
        """One that encodes blocks of this family only, in the same columns."""
        return BlockEncoder(self.standards, {family: self.known[family]}, self.kinds)

    def to_files(self) -> dict[str, bytes]:
        """As named files of plain data."""
        names = {family: [regressor.name for regressor in known] for family, known in self.known.items()}
        standards = {
            f"{part}_{number}": getattr(standard, part)
            for number, standard in enumerate(self.standards.values())
            for part in ("mean", "scale")
        }
        files = {
            _ENCODER: to_json(
                {"families": list(self.standards), "known": names, "work": list(_WORK), "kinds": list(self.kinds)}
            ),
            _STANDARDS: arrays_to_bytes(standards),
        }
        for family, known in self.known.items():
            for number, regressor in enumerate(known):
                prefix = f"known_{family}_{number}."
                files |= {prefix + name: content for name, content in regressor.to_files().items()}
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else.

        Raises:
            FitError: an earlier blsm made them.
        """
        data, arrays = json.loads(files[_ENCODER]), arrays_from_bytes(files[_STANDARDS])
        if data.get("work") != list(_WORK):
            raise FitError("an earlier blsm encoded its blocks: run `blsm transfer` again")
        standards = {
            family: Standard(arrays[f"mean_{number}"], arrays[f"scale_{number}"])
            for number, family in enumerate(data["families"])
        }
        known = {
            family: tuple(
                regressor_class(name).from_files(under(files, f"known_{family}_{number}."))
                for number, name in enumerate(names)
            )
            for family, names in data["known"].items()
        }
        return cls(standards, known, tuple(data["kinds"]))


def _shapes(features: Features) -> Array:
    shapes: Array = np.log1p(np.hstack([features.vectors, features.totals]))
    return shapes
