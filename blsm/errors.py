"""Every error that blsm raises on purpose.

BlsmError
├── UnknownNameError (LookupError)      a name that no registry holds
│   ├── UnknownBlockError
│   ├── UnknownDeviceError
│   ├── UnknownRegressorError
│   └── UnknownMethodError
├── DomainError (ValueError)            a parameter value, or a config, outside its domain
├── CoverageError (ValueError)          a network that cannot be predicted in full
├── FitError (ValueError)               too few or contradictory profiles
├── FeasibilityError (ValueError)       searches that can't be compared
├── FileError (OSError)                 a file that is missing, damaged or of another kind
│   ├── BundleError
│   ├── StoreError
│   └── ModelFileError
├── SearchError (ValueError)             a search that can't start, or can't go on
├── FingerprintError (ValueError)       measurements of different machines were about to be mixed
└── DeviceError (RuntimeError)          a device that is not usable here, or a block that failed on it
    └── HostError                       another machine that can't be reached or used, or was lost

Each is also the fitting builtin, so that callers may catch either. The command line prints the message and
exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BlsmError(Exception):
    """Base of all errors raised by blsm; its message says what was wrong and what to do."""


class UnknownNameError(BlsmError, LookupError):
    """A name that is not registered.

    Attributes:
        name: the name that was asked for.
        known: the names that exist.
    """

    what = "name"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        close = difflib.get_close_matches(name, self.known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {self.what} {name!r}: must be one of {', '.join(self.known)}{hint}")


class UnknownBlockError(UnknownNameError):
    """No block family of this name is registered."""

    what = "block family"


class UnknownDeviceError(UnknownNameError):
    """No device of this name is registered."""

    what = "device"


class UnknownRegressorError(UnknownNameError):
    """No regressor of this name is registered."""

    what = "regressor"


class UnknownMethodError(UnknownNameError):
    """No transfer method of this name is registered."""

    what = "transfer method"


class DomainError(BlsmError, ValueError):
    """A value outside the domain of its parameter, or configs that do not fit together."""


class CoverageError(BlsmError, ValueError):
    """Part of a network has no latency: unrecognised layers, or block families without a surrogate."""


class FitError(BlsmError, ValueError):
    """The profiles at hand do not allow a fit."""


class FeasibilityError(BlsmError, ValueError):
    """Two searches can't be compared: too few trials, nothing in common, or made for different things."""


class FileError(BlsmError, OSError):
    """A file is missing, damaged, of another kind, or could not be written."""


class BundleError(FileError):
    """A latency model bundle that cannot be read or written."""


class StoreError(FileError):
    """A profile store that cannot be read or written."""


class ModelFileError(FileError):
    """A file that is not a readable Keras model."""


class SearchError(BlsmError, ValueError):
    """A search that can't start, or can't go on; inside a search it is a `keras_tuner.errors.FatalError` too."""


class FingerprintError(BlsmError, ValueError):
    """Measurements with different machine fingerprints were about to be mixed."""


class DeviceError(BlsmError, RuntimeError):
    """A device is not usable here, or a block failed to compile or run on it."""


class HostError(DeviceError):
    """Another machine can't be reached or used, or was lost while it measured."""
