"""The families that exist: built in, registered by the user, or installed with the entry point group `blsm.blocks`."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TypeVar

from blsm.blocks.base import BlockConfig, BlockFamily
from blsm.errors import DomainError, UnknownBlockError

_families: dict[str, BlockFamily] = {}
ConfigClass = TypeVar("ConfigClass", bound=type[BlockConfig])


def register_block(config_class: ConfigClass) -> ConfigClass:
    """Class decorator that makes a block family known under its `family` name.

    Raises:
        DomainError: the class is no frozen dataclass of parameters, or another class has this name already.
    """
    name = config_class.family
    fields = dataclasses.fields(config_class)
    if not name or not fields or not all("domain" in field.metadata for field in fields):
        raise DomainError(
            f"{config_class.__name__} is no block family: it needs a `family` name, @dataclass(frozen=True) below "
            "@register_block, and every field declared with blsm.parameter(domain)"
        )
    known = _families.get(name)
    # The same class again (a module executed twice, a notebook cell) replaces itself.
    if known is not None and known.config_class.__qualname__ != config_class.__qualname__:
        raise DomainError(f"block family {name!r} is registered already, by {known.config_class.__qualname__}")
    _families[name] = BlockFamily(config_class)
    return config_class


@lru_cache(maxsize=1)
def _load_installed() -> None:
    for point in entry_points(group="blsm.blocks"):
        point.load()


def block_families() -> dict[str, BlockFamily]:
    """All families by name, built-in ones first, in the order of their registration."""
    _load_installed()
    return dict(_families)


def block_family(name: str) -> BlockFamily:
    """The family of this name.

    Raises:
        UnknownBlockError: there is none; it names the known ones and the closest.
    """
    families = block_families()
    if name not in families:
        raise UnknownBlockError(name, families)
    return families[name]
