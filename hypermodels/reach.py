"""What a search can propose: the blocks that a hypermodel reaches, and whether a latency model covers them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from blsm.blocks import BlockConfig
from blsm.domains import Choice, SameAs, Space, SpaceDomain, Value
from blsm.errors import CoverageError, SearchError
from blsm.hypermodels.settings import list_blocks
from blsm.latency_model import LatencyModel
from blsm.network import parse
from blsm.profiles import Chain

if TYPE_CHECKING:
    from keras_tuner import HyperModel, HyperParameters

Part = TypeVar("Part")

#: Where a hypermodel can't name its blocks, settings are tried until this many in a row bring no new block.
_LISTED_PATIENCE, _BUILT_PATIENCE = 1000, 20


def reachable_blocks(hypermodel: HyperModel, seed: int = 0) -> Chain:
    """The blocks that settings of a hypermodel have.

    All of them where the hypermodel has a method `reachable()`, as blsm's own have; else those of random settings,
    tried until hardly a new one comes up.

    Raises:
        SearchError: a setting's model can't be built, or has layers that no block family explains.
    """
    if callable(getattr(hypermodel, "reachable", None)):
        blocks: Chain = hypermodel.reachable()
        return blocks
    return tuple(_found(hypermodel, seed, iter))


def reachable_pairs(hypermodel: HyperModel, count: int, seed: int = 0) -> list[Chain]:
    """Pairs of neighbouring blocks in random settings of a hypermodel, `count` of them or about all there are.

    Raises:
        SearchError: a setting's model can't be built, or has layers that no block family explains.
    """
    return [*_found(hypermodel, seed, pairwise, count)[:count]]


def _found(
    hypermodel: HyperModel, seed: int, parts: Callable[[Chain], Iterable[Part]], enough: float = math.inf
) -> list[Part]:
    """The distinct parts of random settings' networks: enough of them, or until hardly a new one comes up."""
    found: dict[Part, None] = {}
    idle = 0
    for hp in random_settings(hypermodel, seed):
        listed = list_blocks(hypermodel, hp)
        before = len(found)
        found.update(dict.fromkeys(parts(_parsed(hypermodel, hp) if listed is None else listed)))
        idle = 0 if len(found) > before else idle + 1
        if len(found) >= enough or idle >= (_BUILT_PATIENCE if listed is None else _LISTED_PATIENCE):
            break
    return list(found)


def random_settings(hypermodel: HyperModel, seed: int = 0) -> Iterator[HyperParameters]:
    """Settings without end, the default one first; what only a build brings up is drawn from then on."""
    import keras_tuner

    space = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(space)
    if not space.space:
        hypermodel.build(space)
    rng = random.Random(seed)
    hp = space.copy()
    while True:
        yield hp
        # What the caller has built with may have brought up more.
        space.merge(hp.space, overwrite=False)
        hp = keras_tuner.HyperParameters()
        for hyperparameter in space.space:
            hp.merge([hyperparameter])
            if hp.is_active(hyperparameter):
                hp.values[hyperparameter.name] = hyperparameter.random_sample(rng.getrandbits(31))


def _parsed(hypermodel: HyperModel, hp: HyperParameters) -> Chain:
    import keras

    try:
        model = hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise SearchError(f"the hypermodel builds a {type(model).__name__}, not a Keras model")
        network = parse(model)
    except Exception as error:  # a hypermodel may raise anything
        raise SearchError(
            f"the model of {hp.values} can't be built or read: {type(error).__name__}: {error}"
        ) from error
    keras.backend.clear_session()
    if network.unmatched:
        named = ", ".join(map(str, network.unmatched[:5]))
        raise SearchError(f"no block family explains {named} in the model of {hp.values}")
    return network.blocks


def spread(blocks: Sequence[BlockConfig], count: int, seed: int = 0) -> list[BlockConfig]:
    """Random blocks of one family, those first that show a value of a parameter for the first time.

    However small the sample, all values that it can hold are in it.
    """
    shuffled = random.Random(seed).sample(list(blocks), len(blocks))
    seen: set[tuple[str, Value]] = set()
    first: list[BlockConfig] = []
    rest: list[BlockConfig] = []
    for config in shuffled:
        values = set(config.to_dict().items())
        (rest if values <= seen else first).append(config)
        seen |= values
    return (first + rest)[:count]


def check_covered(latency_model: LatencyModel, domains: Mapping[str, Space], hypermodel: str = "") -> None:
    """Checks that a latency model was fitted on all that a search can propose.

    Args:
        latency_model: the surrogate.
        domains: of the hypermodel: block family -> parameter -> values.
        hypermodel: its name for `blsm profile --hypermodel`, if known.

    Raises:
        CoverageError: a family has no surrogate, or a parameter takes values that were not profiled.
    """
    lacking = [family for family in domains if family not in latency_model.surrogates]
    outside = [
        f"{family}.{name} = {_said(values)} (profiled: {surrogate.domain[name]})"
        for family, space in domains.items()
        if (surrogate := latency_model.surrogates.get(family)) is not None
        for name, domain in space.items()
        if (values := _outside(domain, surrogate.domain[name]))
    ]
    if not (lacking or outside):
        return
    said = [f"no surrogate for {', '.join(lacking)}"] if lacking else []
    said += outside
    device = latency_model.device
    raise CoverageError(
        f"the latency model of {device} doesn't cover what the hypermodel can propose: {'; '.join(said)}; run "
        f"`blsm profile --hypermodel {hypermodel or 'PACKAGE:NAME'} --device {device}` and fit again"
    )


def _outside(reached: SpaceDomain, profiled: SpaceDomain) -> list[Value]:
    """The values that were not profiled."""
    # Where both are tied, or only the reached one is, the other parameter of the tie tells.
    if isinstance(reached, SameAs):
        return []
    values = reached.values if isinstance(reached, Choice) else range(reached.low, reached.high + 1, reached.step)
    return [value for value in values if not _holds(profiled, value)]


def _holds(domain: SpaceDomain, value: Value) -> bool:
    if isinstance(domain, SameAs):
        return False
    try:
        domain.normalise(value)
    except ValueError:
        return False
    return True


def _said(values: Sequence[Value]) -> str:
    return ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")
