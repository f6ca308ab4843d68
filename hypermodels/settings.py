"""Between hyperparameters of KerasTuner and block configs: declaring them, and listing the blocks of a setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blsm.domains import Integers
from blsm.hypermodels.stack import Hyperparameter, Stack
from blsm.profiles import Chain

if TYPE_CHECKING:
    from keras_tuner import HyperModel, HyperParameters


def declare(hp: HyperParameters, stack: Stack) -> dict[str, Any]:
    """Makes a stack's hyperparameters known to `hp`, the inactive ones too; returns the values of the active ones.

    All of the search space is then known before the first model is built.
    """
    values = {hyperparameter.name: _value(hp, hyperparameter) for hyperparameter in stack.hyperparameters}
    return {name: value for name, value in values.items() if value is not None}


def _value(hp: HyperParameters, hyperparameter: Hyperparameter) -> Any:
    """The value; None where the hyperparameter is inactive."""
    name, domain, parent, parent_values = hyperparameter
    # KerasTuner builds a model for every conditional scope that it sees opened: known ones are not opened again.
    try:
        return hp.get(name)
    except ValueError:
        return None
    except KeyError:
        condition = {} if parent is None else {"parent_name": parent, "parent_values": list(parent_values)}
    if isinstance(domain, Integers):
        return hp.Int(name, domain.low, domain.high, step=domain.step, **condition)
    if set(domain.values) == {False, True} and isinstance(domain.values[0], bool):
        return hp.Boolean(name, default=domain.values[0], **condition)
    return hp.Choice(name, list(domain.values), **condition)


def list_blocks(hypermodel: HyperModel, hp: HyperParameters) -> Chain | None:
    """The blocks of a setting without building Keras; None where only the model itself can tell.

    Args:
        hypermodel: one with a method `blocks(hp)`, as blsm's own have, or the graph of an `autokeras.AutoModel`.
        hp: the setting; only its `values` are read.
    """
    if hasattr(hypermodel, "blocks") and callable(hypermodel.blocks):
        blocks: Chain = hypermodel.blocks(hp)
        return blocks
    if type(hypermodel).__module__.partition(".")[0] == "autokeras":
        from blsm.hypermodels.auto_model import graph_blocks

        return graph_blocks(hypermodel, hp)
    return None
