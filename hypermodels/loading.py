"""Hypermodels by name: `package.module:name` or `file.py:name`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from blsm.errors import SearchError

if TYPE_CHECKING:
    from keras_tuner import HyperModel

_FORM = "a hypermodel is named package.module:name or file.py:name, such as blsm.hypermodels:Cifar10"


def load_hypermodel(name: str) -> HyperModel:
    """The hypermodel of this name.

    Args:
        name: of a class derived from `keras_tuner.HyperModel` or a function without arguments, which is called, of a
            hypermodel, or of a function `build(hp)`. The working directory is searched too.

    Raises:
        SearchError: there is none; the message says what is wrong with the name.
    """
    import keras_tuner

    module_name, colon, attribute = name.rpartition(":")
    if not (colon and module_name and attribute):
        raise SearchError(f"{_FORM}; got {name!r}")
    module = _module(module_name)
    found = getattr(module, attribute, None)
    if found is None:
        known = [key for key in (*dir(module), *getattr(module, "__all__", ())) if not key.startswith("_")]
        close = difflib.get_close_matches(attribute, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SearchError(f"{module_name} has no {attribute!r}{hint}")
    if callable(found) and not isinstance(found, keras_tuner.HyperModel):
        found = _made(name, found)
    if not isinstance(found, keras_tuner.HyperModel):
        raise SearchError(f"{name} is or gives a {type(found).__name__}, not a keras_tuner.HyperModel")
    return found


def _module(name: str) -> ModuleType:
    try:
        if name.endswith(".py"):
            return _execute(Path(name))
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(name)
    except SearchError:
        raise
    except Exception as error:  # a user's module may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SearchError(f"cannot import {name}: {reason}; {_FORM}") from error


def _execute(path: Path) -> ModuleType:
    if not path.is_file():
        raise SearchError(f"no file {path}; {_FORM}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _made(name: str, make: Any) -> Any:
    """What a class or factory gives; a function of one argument, `build(hp)`, becomes a hypermodel."""
    from keras_tuner.src.engine.hypermodel import get_hypermodel

    required = [
        parameter
        for parameter in inspect.signature(make).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if not inspect.isclass(make) and len(required) == 1:
        return get_hypermodel(make)
    if required:
        names = ", ".join(parameter.name for parameter in required)
        raise SearchError(
            f"{name} needs arguments ({names}): name a class or function that needs none, or a function build(hp)"
        )
    try:
        return make()
    except Exception as error:  # a user's code may raise anything
        raise SearchError(f"{name} failed: {type(error).__name__}: {error}") from error
