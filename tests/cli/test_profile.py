from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from blsm.cli.main import main
from blsm.cli.profile import hypermodel_chains
from blsm.fitting import fit_latency_model
from blsm.hypermodels import Cifar10
from blsm.hypermodels.reach import check_covered
from blsm.profiles import DISPATCH_PROBE, ProfileStore
from blsm.testing import fill_store

NAME = "blsm.hypermodels:Cifar10"


def test_what_a_hypermodel_reaches_is_profiled_and_then_covered(tmp_path: Path) -> None:
    chains = hypermodel_chains(NAME, samples=90, seed=0)
    assert chains[0] == DISPATCH_PROBE
    assert len(set(chains)) == len(chains)
    counts = Counter(chain[0].family for chain in chains)
    # It reaches few stems, heads, and one input scaling and output: these get company, so that they can be fitted.
    assert counts == {
        "mbconv": 90, "res_v1": 90, "res_v2": 90, "rescale": 60, "conv": 60, "head": 60, "output": counts["output"],
    }  # fmt: skip
    assert counts["output"] in (60, 61)  # the dispatch probe may be in the sample
    reachable = set(Cifar10().reachable())
    assert all(chain[0] in reachable for chain in chains if chain[0].family in ("mbconv", "res_v1", "res_v2"))
    assert {config for config in reachable if counts[config.family] < 90} <= {chain[0] for chain in chains}
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        fill_store(store, chains)
        model = fit_latency_model(store, "fake", regressor="roofline")
    check_covered(model, Cifar10().domains())


def test_the_seed_decides() -> None:
    assert hypermodel_chains(NAME, 20, 1) == hypermodel_chains(NAME, 20, 1)
    assert hypermodel_chains(NAME, 20, 1) != hypermodel_chains(NAME, 20, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hypermodel", "Cifar10"], "package.module:name or file.py:name"),
        (["--hypermodel", "blsm.hypermodels:Cifar"], "did you mean 'Cifar10'"),
        (["--hypermodel", NAME, "--space", "large"], "unknown space 'large'"),
    ],
)
def test_wrong_names(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["profile", *arguments, "--store", str(tmp_path / "p.db")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "p.db").exists()


def test_either_blocks_or_a_hypermodel(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["profile", "--block", "conv", "--hypermodel", NAME])
    assert "not allowed with argument --block" in capsys.readouterr().err
