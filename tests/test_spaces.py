from __future__ import annotations

from pathlib import Path

import pytest

import blsm
from blsm.domains import Integers, SameAs
from blsm.errors import DomainError
from blsm.spaces import load_space


def _write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return str(path)


def test_a_file_changes_the_parameters_that_it_names(tmp_path: Path) -> None:
    text = '[mbconv]\nheight = [7, 14]\nwidth = "same as height"\nfilters = {low = 16, high = 64, step = 16}\nkernel_size = 3\n'
    family = blsm.block_family("mbconv")
    space = load_space(_write(tmp_path, text), family)
    assert not isinstance(space, str)
    assert space["filters"] == Integers(16, 64, step=16)
    assert space["width"] == SameAs("height")
    assert space["activation"] == family.space()["activation"]
    for config in family.sample(30, space=space):
        values = config.to_dict()
        assert values["height"] == values["width"] in (7, 14)
        assert values["filters"] in (16, 32, 48, 64)
        assert values["kernel_size"] == 3
    other = load_space(_write(tmp_path, text), blsm.block_family("conv"))
    assert other == blsm.block_family("conv").space()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mbconv]\nkernelsize = 3\n", r"mbconv has no parameter 'kernelsize'.*did you mean 'kernel_size'"),
        ("[mbconvv]\nkernel_size = 3\n", r"unknown block family 'mbconvv'.*did you mean 'mbconv'"),
        ("[mbconv]\nkernel_size = [3, 4]\n", r"mbconv.kernel_size must lie in 3, 5, 7"),
        ("[mbconv]\nfilters = {low = 1, high = 9}\n", r"mbconv.filters must lie in 4\.\.4096"),
        ("[mbconv]\nfilters = {low = 8, hihg = 9}\n", r"no key 'hihg'.*did you mean 'high'"),
        ("[mbconv]\nfilters = {low = 8}\n", r"'high' is missing"),
        ("[mbconv]\nfilters = {low = 8, high = 7}\n", r"low <= high"),
        ('[mbconv]\nwidth = "same as heigth"\n', r"no parameter 'heigth'.*did you mean 'height'"),
        ("mbconv = 3\n", r"must be a table"),
        ("[mbconv\n", r"is no TOML"),
    ],
)
def test_typos_say_what_was_meant(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=said):
        load_space(_write(tmp_path, text), blsm.block_family("mbconv"))


def test_unknown_spaces(tmp_path: Path) -> None:
    family = blsm.block_family("mbconv")
    with pytest.raises(DomainError, match=r"must be one of cifar10, imagenet, or a \.toml file"):
        load_space("imagenett", family)
    with pytest.raises(DomainError, match="No such file"):
        load_space(str(tmp_path / "missing.toml"), family)


def test_imagenet_reaches_further_and_leaves_out_what_nobody_deploys() -> None:
    for name in ("mbconv", "res_v1", "res_v2", "conv", "head"):
        family = blsm.block_family(name)
        sample = family.sample(300, space="imagenet")
        assert max(config.to_dict()["height"] for config in sample) == 112
        assert max(config.to_dict()["in_channels"] for config in sample) > 512
        assert max(config.macs for config in sample) <= 1e9
