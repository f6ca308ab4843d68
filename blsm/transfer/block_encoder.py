"""Encodes blocks for transfer: their family, shape, work, and what the known devices' own surrogates predict."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.features import Features
from blsm.operators.costs import TOTALS
from blsm.surrogates import Regressor, regressor_class
from blsm.surrogates.base import to_json
from blsm.transfer.base import arrays_from_bytes, arrays_to_bytes
from blsm.transfer.encodings import Encodings, join
from blsm.transfer.ridge import Standard

_ENCODER, _STANDARDS = "encoder.json", "standards.npz"
#: Activations and joins that are code of their own on some devices; all others are alike.
_FUNCTIONS = ("hard_swish", "swish", "hard_sigmoid", "multiply", "average")
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
    # Of an array of multipliers, see `blsm.operators.costs`.
    **{name: rf".*\.array\.{name}" for name in ("work", "outside", "inside", "ends", "set_ups")},
    **{f"the slower of work and data, {balance}": rf".*\.array\.wait_{balance}" for balance in (16, 32, 64)},
    **{name: rf"{name}\.bytes" for name in _FUNCTIONS},
    "other functions": rf"(?!({'|'.join(_FUNCTIONS)})\.)\w+\.bytes",
}


def work(features: Features) -> Array:
    """What blocks have to do, the same columns for every family, shape (n, columns)."""
    sums = [features.terms[:, columns].sum(axis=1) for columns in _columns(features.term_names)]
    return np.column_stack([*sums, features.totals[:, TOTALS.index("bytes")]])


@cache
def _columns(terms: tuple[str, ...]) -> list[list[int]]:
    return [[column for column, term in enumerate(terms) if re.fullmatch(pattern, term)] for pattern in _WORK.values()]


@dataclass(frozen=True)
class BlockEncoder:
    """Encodes blocks of some families.

    Attributes:
        standards: family -> of the logarithms of its config vector and totals, so that networks can learn from them.
        known: family -> the known devices' surrogates, the same devices for each family.
    """

    standards: Mapping[str, Standard]
    known: Mapping[str, tuple[Regressor, ...]]

    @classmethod
    def of(cls, configs: Mapping[str, Sequence[BlockConfig]], known: Mapping[str, tuple[Regressor, ...]]) -> Self:
        """The encoder of families, standardised by these configs of each."""
        shapes = {family: _shapes(Features.of(members)) for family, members in configs.items()}
        return cls({family: Standard.of(values).of_length_one(values) for family, values in shapes.items()}, known)

    def encode(self, configs: Sequence[BlockConfig]) -> Encodings:
        """Encodings of configs, with the groups `family`, `vec`, `physical` (work) and `known` (milliseconds)."""
        families = np.array([config.family for config in configs])
        tables: dict[str, Array] = {}
        widths = [len(standard.mean) for standard in self.standards.values()]
        starts = np.cumsum([0, *widths])
        for number, (family, standard) in enumerate(self.standards.items()):
            members = np.flatnonzero(families == family)
            if not len(members):
                continue
            own = [configs[index] for index in members]
            features = Features.of(own)
            shapes = np.zeros((len(own), starts[-1]))
            shapes[:, starts[number] : starts[number + 1]] = standard(_shapes(features))
            found = {
                "family": np.tile(np.eye(len(widths))[number], (len(own), 1)),
                "vec": shapes,
                "physical": work(features),
                "known": np.column_stack([regressor.predict(own) for regressor in self.known[family]]),
            }
            for name, values in found.items():
                tables.setdefault(name, np.zeros((len(configs), values.shape[1])))[members] = values
        return Encodings(*join(**tables))

    def of_family(self, family: str) -> BlockEncoder:
        """One that encodes blocks of this family only, in the same columns."""
        return BlockEncoder(self.standards, {family: self.known[family]})

    def to_files(self) -> dict[str, bytes]:
        """As named files of plain data."""
        names = {family: [regressor.name for regressor in known] for family, known in self.known.items()}
        standards = {
            f"{part}_{number}": getattr(standard, part)
            for number, standard in enumerate(self.standards.values())
            for part in ("mean", "scale")
        }
        files = {
            _ENCODER: to_json({"families": list(self.standards), "known": names}),
            _STANDARDS: arrays_to_bytes(standards),
        }
        for family, known in self.known.items():
            for number, regressor in enumerate(known):
                prefix = f"known_{family}_{number}."
                files |= {prefix + name: content for name, content in regressor.to_files().items()}
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""
        data, arrays = json.loads(files[_ENCODER]), arrays_from_bytes(files[_STANDARDS])
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
        return cls(standards, known)


def under(files: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    """The files whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}


def _shapes(features: Features) -> Array:
    shapes: Array = np.log1p(np.hstack([features.vectors, features.totals]))
    return shapes
