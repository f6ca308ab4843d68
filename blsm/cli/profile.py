"""blsm profile"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from blsm.cli import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blsm.blocks import BlockConfig
    from blsm.profiles import Chain, ProfileStore
    from blsm.profiling import CampaignReport, Device

NAME = "profile"
HELP = "measure sampled blocks on a device into a profile store; run again to continue"
#: Added to the seed for the networks whose pairs are profiled: those that a model is judged by are others.
_PAIRS_SEED = 3_000_000
#: How many networks `--context auto` studies where nothing is known.
_STUDY_NETWORKS = 10


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what to profile, where to, and how long."""
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--block",
        metavar="NAME[,NAME...]",
        help="block families, see `blsm blocks`; `all` for every one",
    )
    what.add_argument(
        "--hypermodel",
        metavar="PACKAGE:NAME|FILE.py:NAME",
        help="the blocks that a search of this hypermodel can propose, such as blsm.hypermodels:Cifar10",
    )
    common.add_device(command)
    common.add_hosts(command, several=True)
    command.add_argument(
        "--samples", type=common.positive, default=2000, help="configs of each family (default: 2000, or all there are)"
    )
    command.add_argument(
        "--space",
        default="cifar10",
        metavar="NAME|FILE.toml",
        help="what to sample from: cifar10 (default), imagenet, or domains in a TOML file",
    )
    command.add_argument(
        "--active",
        action="store_true",
        help="batch by batch, measure next what is least like anything measured, by what latencies depend on as far as "
        "is known by then, until there are --samples",
    )
    command.add_argument(
        "--context",
        choices=("isolated", "chain", "auto"),
        default="isolated",
        help="time blocks alone (default), also --samples pairs of them joined as in a network, or as `blsm "
        "additivity` recommends, which auto runs first on 10 networks if the store holds no verdict",
    )
    common.add_seed(command, "sampling and the order of visits")
    common.add_store(command)
    command.add_argument(
        "--budget", type=common.duration, metavar="TIME", help="stop cleanly after this time, e.g. 20m or 1h30m"
    )
    common.add_protocol(command)
    command.add_argument("--retry-failed", action="store_true", help="try blocks again that failed before")


def run(options: argparse.Namespace) -> None:
    """Profiles and reports."""
    from blsm.active import POOL_FACTOR
    from blsm.checking import DRIFTING, drift_of
    from blsm.cli.active import run_active
    from blsm.errors import BlsmError
    from blsm.profiles import ProfileStore

    target = common.measured_device(options)
    samples = options.samples * POOL_FACTOR if options.active else options.samples
    if options.hypermodel is None:
        chains = sample_chains(options.block, samples, options.seed, options.space)
    else:
        with common.quiet():
            chains = hypermodel_chains(options.hypermodel, samples, options.seed, options.space)
    with ProfileStore(options.store, create=True) as store:
        if options.retry_failed:
            store.clear_failures(target.name)
        if _context(options, target, store) == "chain":
            chains = joined(chains, options)

        def measure(some: Sequence[Chain], budget_s: float | None) -> CampaignReport:
            return common.run_campaign(
                target,
                store,
                some,
                protocol=common.protocol(options),
                seed=options.seed,
                budget_s=budget_s,
                description=f"profiling on {target.name}",
            )

        if options.active:
            report = run_active(
                store, target.name, chains, options.samples, options.seed, budget_s=options.budget, measure=measure
            )
        else:
            report = measure(chains, options.budget)
        drift = drift_of(store.sentinel_visits(target.name)) if report.visits else 0.0
    print(summary(report, target.name, str(options.store)))
    if drift > DRIFTING:
        print(f"the device itself varied by {drift:.0%} (sentinel block): use a quieter machine, or more --visits")
    if report.stopped == "interrupted":
        raise BlsmError("interrupted; every finished visit is stored, run the same command again to continue")


def _context(options: argparse.Namespace, target: Device, store: ProfileStore) -> str:
    """The context that --context asks for; `auto` studies how blocks add up unless the store knows."""
    if options.context != "auto":
        return str(options.context)
    from blsm.cli.additivity import study
    from blsm.fitting import fit_cold, verdict
    from blsm.hypermodels.random_networks import FAMILIES
    from blsm.profiles import latencies

    profiles = store.profiles(target.name)
    known = verdict(latencies(profiles), fit_cold(profiles))
    if known is None or not known.complete:
        asked = (options.block or "").split(",")
        families = [name for name in FAMILIES if name in asked] or list(FAMILIES)
        known = study(target, store, families, _STUDY_NETWORKS, options.seed)
    print(f"context {known.context}: so blocks add up to networks on {target.name}")
    return known.context


def joined(chains: list[Chain], options: argparse.Namespace) -> list[Chain]:
    """What to profile with pairs of neighbouring blocks added, in turn with the blocks.

    Raises:
        DomainError: active sampling.
    """
    from blsm.additivity import parts
    from blsm.errors import DomainError
    from blsm.sampling import in_turn

    if options.active:
        raise DomainError("--active times blocks alone, not in the context chain: leave out one of the two")
    if options.hypermodel is None:
        pairs = random_pairs(chains, options.samples, options.seed, options.space)
    else:
        from blsm.hypermodels.loading import load_hypermodel
        from blsm.hypermodels.reach import reachable_pairs

        with common.quiet():
            pairs = reachable_pairs(load_hypermodel(options.hypermodel), options.samples, options.seed)
    return in_turn([chains, [part for pair in pairs for part in parts([pair], "chain")]])


def random_pairs(chains: Sequence[Chain], count: int, seed: int, space: str = "cifar10") -> list[Chain]:
    """Pairs of neighbours in random networks of the families that are profiled; networks need a stem and a head too."""
    from itertools import pairwise

    from blsm.blocks.base import DEFAULT_SPACE
    from blsm.hypermodels import sample_networks
    from blsm.hypermodels.random_networks import FAMILIES

    profiled = {config.family for chain in chains for config in chain}
    families = [name for name in FAMILIES if name in profiled] or list(FAMILIES)
    shape = (32, 32, 3) if space == DEFAULT_SPACE else None
    # The least network has four pairs.
    enough = -(-count // 4)
    networks = sample_networks(enough, _PAIRS_SEED + seed, families=families, input_shape=shape, space=space)
    pairs: dict[Chain, None] = {pair: None for network in networks for pair in pairwise(network)}
    return list(pairs)[:count]


def sample_chains(block: str, samples: int, seed: int, space: str = "cifar10") -> list[Chain]:
    """The chains to profile: samples of each family, all families advancing together, after the dispatch probe."""
    from blsm.blocks import block_families, block_family
    from blsm.profiles import DISPATCH_PROBE
    from blsm.sampling import in_turn, sample_blocks
    from blsm.spaces import load_space

    names = list(block_families()) if block == "all" else list(dict.fromkeys(block.split(",")))
    families = [block_family(name.strip()) for name in names]
    sampled = []
    for family in families:
        blocks = sample_blocks(family.name, samples, seed, load_space(space, family))
        sampled.append([(config,) for config in blocks])
    return in_turn([[DISPATCH_PROBE], *sampled])


def hypermodel_chains(name: str, samples: int, seed: int, space: str = "cifar10") -> list[Chain]:
    """The chains to profile for a hypermodel: samples of the blocks that it reaches, after the dispatch probe.

    Of a family of which it reaches too few blocks to fit a surrogate, such as the output, some of `space` are added.
    """
    from blsm.blocks import block_family
    from blsm.fitting import LEAST_PROFILES
    from blsm.hypermodels.loading import load_hypermodel
    from blsm.hypermodels.reach import reachable_blocks, spread
    from blsm.profiles import DISPATCH_PROBE
    from blsm.sampling import MOST_SEARCHED, in_turn, with_rare_work
    from blsm.spaces import load_space

    reached: dict[str, list[BlockConfig]] = {}
    for config in reachable_blocks(load_hypermodel(name), seed):
        reached.setdefault(config.family, []).append(config)
    sampled = []
    for key, configs in reached.items():
        chosen = with_rare_work(spread(configs, max(samples, MOST_SEARCHED), seed), samples)
        if (lacking := min(2 * LEAST_PROFILES, samples) - len(chosen)) > 0:
            family = block_family(key)
            others = family.sample(len(chosen) + lacking, seed, load_space(space, family))
            chosen += [config for config in others if config not in chosen][:lacking]
        sampled.append([(config,) for config in chosen])
    return in_turn([[DISPATCH_PROBE], *sampled])


def summary(report: CampaignReport, device: str, store: str) -> str:
    """How a campaign went, in a few lines."""
    lines = [
        f"{report.complete} of {report.asked} blocks on {device} are complete in {store}; "
        f"{report.visits} visits in {report.total_s:.0f} s: measuring {report.measuring_s:.0f} s, "
        f"transfer {report.transfer_s:.0f} s, idle {report.idle_s:.0f} s ({report.idle_share:.0%}), "
        f"compiling {report.compiling_s:.0f} s"
    ]
    if report.waited_s >= 1:
        lines.append(f"waited {report.waited_s:.0f} s while the device was slow or busy with something else")
    lines += [f"lost: {reason}" for reason in report.lost]
    if report.failed:
        chain, reason = next(iter(report.failed.items()))
        lines.append(f"{len(report.failed)} failed, e.g. {chain[0]}: {reason}; try them again with --retry-failed")
    if report.stopped == "budget":
        lines.append("the budget ran out; run the same command again to continue")
    return "\n".join(lines)
