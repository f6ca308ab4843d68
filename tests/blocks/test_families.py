"""Both identities of the bijection, for every built-in family."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blsm
from blsm.blocks import BlockConfig, BlockFamily
from blsm.domains import Choice, Integers
from blsm.errors import DomainError
from blsm.network import parse_graph

FAMILIES = ("mbconv", "res_v1", "res_v2", "conv", "head", "rescale", "output")
every_family = pytest.mark.parametrize("name", FAMILIES)


def _configs(family: BlockFamily, largest: int | None = None) -> st.SearchStrategy[BlockConfig]:
    """Any config of a family's whole domain, integers capped if Keras is to build it."""

    def values(domain: Integers | Choice) -> st.SearchStrategy[object]:
        if isinstance(domain, Choice):
            return st.sampled_from(domain.values)
        return st.integers(domain.low, domain.high if largest is None else min(domain.high, max(largest, domain.low)))

    return st.fixed_dictionaries({n: values(d) for n, d in family.parameters.items()}).map(lambda v: family.config(**v))


@every_family
@given(data=st.data())
def test_vector_identity(name: str, data: st.DataObject) -> None:
    family = blsm.block_family(name)
    config = data.draw(_configs(family))
    vector = config.to_vector()
    assert vector.dtype == float
    assert vector.shape == (len(family.parameters),)
    assert family.from_vector(vector) == config


@every_family
@given(data=st.data())
@settings(max_examples=200)
def test_graph_identity_on_the_whole_domain(name: str, data: st.DataObject) -> None:
    config = data.draw(_configs(blsm.block_family(name)))
    network = parse_graph(config.graph())
    assert network.blocks == (config,)
    assert network.coverage == 1


@every_family
@given(data=st.data())
@settings(max_examples=8)
def test_keras_identity(name: str, data: st.DataObject) -> None:
    family = blsm.block_family(name)
    config = data.draw(_configs(family, largest=12))
    model = family.build(config)
    assert tuple(model.output.shape[1:]) == config.output_shape
    assert model.input.shape[0] == 1
    assert blsm.parse(model).blocks == (config,)


@every_family
def test_keras_identity_after_save_and_load(name: str, tmp_path: Path) -> None:
    import keras

    family = blsm.block_family(name)
    for config in family.sample(4, seed=7):
        family.build(config).save(tmp_path / "block.keras")
        assert blsm.parse(keras.saving.load_model(tmp_path / "block.keras")).blocks == (config,)


@every_family
def test_no_two_configs_build_equal_graphs(name: str) -> None:
    family = blsm.block_family(name)

    def few(domain: Integers | Choice) -> tuple[object, ...]:
        return (
            domain.values if isinstance(domain, Choice) else tuple(range(domain.low, min(domain.low + 2, domain.high)))
        )

    configs = [
        family.config(**dict(zip(family.parameters, values, strict=True)))
        for values in itertools.product(*map(few, family.parameters.values()))
    ]
    assert len(configs) == len(set(configs)) >= 4
    # Only graphs with the same operators, order aside, can be equal: compare within these groups.
    groups: dict[object, list[BlockConfig]] = {}
    for config in configs:
        graph = config.graph()
        key = (graph.operators[0].shape, tuple(sorted(map(repr, graph.signatures))))
        groups.setdefault(key, []).append(config)
    for group in groups.values():
        for one, other in itertools.combinations(group, 2):
            assert not one.graph().equivalent(other.graph()), (one, other)


@every_family
def test_samples_are_distinct_and_in_the_default_space(name: str) -> None:
    family = blsm.block_family(name)
    sample = family.sample(60, seed=0)
    assert len(set(sample)) == 60
    assert sample == family.sample(60, seed=0) != family.sample(60, seed=1)


def test_mbconv_is_built_as_published() -> None:
    config = blsm.block_family("mbconv").config(
        height=14, width=14, in_channels=16, filters=16, kernel_size=5, strides=1, expand_ratio=6, se_ratio=0.25
    )
    kinds = [op.kind for op in config.graph().operators[1:]]
    norm = ["batch_norm", "activation"]
    excitation = ["global_pool", "conv", "activation", "conv", "activation", "multiply"]
    assert kinds == ["conv", *norm, "depthwise_conv", *norm, *excitation, "conv", "batch_norm", "add"]
    assert config.graph().operators[8].shape == (1, 1, 24)  # a quarter of the expanded channels


@pytest.mark.parametrize(
    ("change", "absent"),
    [({"expand_ratio": 1}, "expand"), ({"se_ratio": 0}, "squeeze"), ({"filters": 24}, "add"), ({"strides": 2}, "add")],
)
def test_parts_of_mbconv_are_absent_when_they_should_be(change: dict[str, object], absent: str) -> None:
    values = {"height": 8, "width": 8, "in_channels": 16, "filters": 16, "kernel_size": 3, "strides": 1}
    values |= {"expand_ratio": 4, "se_ratio": 0.5}
    family = blsm.block_family("mbconv")

    def roles(config: BlockConfig) -> set[str]:
        return {op.role for op in config.graph().operators}

    assert absent in roles(family.config(**values))
    assert absent not in roles(family.config(**(values | change)))


def test_a_value_outside_its_domain_is_named_with_what_is_allowed() -> None:
    family = blsm.block_family("mbconv")
    good = family.sample(1, seed=0)[0].to_dict()
    with pytest.raises(DomainError, match=r"mbconv: kernel_size must be one of 3, 5, 7, got 4"):
        family.config(**(good | {"kernel_size": 4}))
    with pytest.raises(DomainError, match=r"filters must be one of 4\.\.4096"):
        family.config(**(good | {"filters": 2}))
    with pytest.raises(DomainError, match=r"unknown parameter stride.*missing parameter strides"):
        family.config(**{("stride" if name == "strides" else name): value for name, value in good.items()})


def test_bad_vectors_are_refused() -> None:
    family = blsm.block_family("conv")
    vector = family.sample(1, seed=0)[0].to_vector()
    with pytest.raises(DomainError, match="7 numbers"):
        family.from_vector(vector[:-1])
    vector[4] = 4
    with pytest.raises(DomainError, match="kernel_size"):
        family.from_vector(vector)


def test_apply_checks_the_input_shape() -> None:
    import keras

    family = blsm.block_family("conv")
    config = family.config(height=8, width=8, in_channels=3, filters=8, kernel_size=3, strides=1)
    with pytest.raises(DomainError, match=r"\(8, 8, 3\).*\(9, 8, 3\)"):
        family.apply(config, keras.Input((9, 8, 3)))
