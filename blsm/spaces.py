"""Spaces to sample from: named ones, and TOML files with domains of one's own."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blsm.blocks import BlockFamily
from blsm.blocks.base import DEFAULT_SPACE, SPACES
from blsm.domains import Choice, Domain, Integers, SameAs, Space, SpaceDomain
from blsm.errors import DomainError


def load_space(name: str, family: BlockFamily) -> Space | str:
    """The space of a family by name or from a file.

    A TOML file has a table for each family and in it a line for each parameter that is not sampled from the default
    space: `[8, 16, 32]` for a choice, `{low = 8, high = 256, step = 8, log = true}` for integers (step and log may be
    left out), `"same as height"` for a tie.

    Args:
        name: `cifar10`, `imagenet`, or the path of a `.toml` file.
        family: the family to sample.

    Returns:
        What `family.sample` takes as its space.

    Raises:
        DomainError: no such space; or a file that is missing, no TOML, or names what the family does not have.
    """
    if name in SPACES:
        return name
    path = Path(name)
    if path.suffix != ".toml":
        raise DomainError(f"unknown space {name!r}: must be one of {', '.join(SPACES)}, or a .toml file")
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise DomainError(f"cannot read the space {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DomainError(f"the space {path} is no TOML: {error}") from None
    from blsm.blocks import block_families

    for table in tables:
        _check_known(table, block_families(), f"{path}: unknown block family")
    chosen = tables.get(family.name, {})
    if not isinstance(chosen, Mapping):
        raise DomainError(f"{path}: {family.name} must be a table of parameters, got {chosen!r}")
    space = dict(family.space(DEFAULT_SPACE))
    for parameter, value in chosen.items():
        _check_known(parameter, family.parameters, f"{path}: {family.name} has no parameter")
        space[parameter] = _domain(value, family.parameters[parameter], f"{path}: {family.name}.{parameter}", space)
    return space


def _check_known(name: str, known: Iterable[str], message: str) -> None:
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise DomainError(f"{message} {name!r}: must be one of {', '.join(known)}{hint}")


def _domain(value: Any, whole: Domain, where: str, space: Space) -> SpaceDomain:
    """The domain that a line of the file means, which must lie in the parameter's whole domain."""
    if isinstance(value, str) and value.startswith("same as "):
        other = value.removeprefix("same as ")
        _check_known(other, space, f"{where}: no parameter")
        return SameAs(other)
    try:
        if isinstance(value, Mapping):
            _check_known_keys(value, where)
            domain = Integers(value["low"], value["high"], value.get("step", 1), value.get("log", False))
            for member in (domain.low, domain.high):
                whole.normalise(member)
            return domain
        members = value if isinstance(value, list) else [value]
        return Choice(*(whole.normalise(member) for member in members))
    except KeyError as missing:
        raise DomainError(f"{where}: a range needs low and high, {missing} is missing") from None
    except (TypeError, ValueError) as error:
        reason = f": {error}" if str(error) else ""
        raise DomainError(f"{where} must lie in {whole}, got {value!r}{reason}") from None


def _check_known_keys(value: Mapping[str, Any], where: str) -> None:
    for key in value:
        _check_known(key, ("low", "high", "step", "log"), f"{where}: a range has no key")
