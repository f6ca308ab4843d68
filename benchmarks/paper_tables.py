"""The paper's Tables 3 and 4 on the devices at hand, with what they lack: errors in percent, intervals, baselines.

Table 3: rank correlation of predicted and measured blocks, family by family, four regressors. Table 4: correlation on
random MBConv networks measured whole, of random depth (3 to 12 blocks) and of equal depth (8), whose latencies span a
narrower range; after calibration by 20 other networks, the share within 5 % and 10 %, and the share inside the 90 %
interval. Where isolated blocks don't add up, from what each adds after another, and isolated for comparison. Beside
them: the same networks measured twice, multiply-accumulates, and the layer-wise approach, every Keras layer timed alone
and summed. Each device has a store of its own: run again to continue. On 2 quiet cores 15 minutes a device (LiteRT on
one thread) to 100 (in chains, on all cores) before networks were visited longer, and some 20 more since (LiteRT).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import write_result

import blsm
from blsm.additivity import Additivity, parts
from blsm.calibration import calibrate
from blsm.cli.additivity import study
from blsm.cli.common import print_table, quiet
from blsm.cli.networks import CALIBRATION_SEED, measure
from blsm.errors import BlsmError, DeviceError
from blsm.evaluation import Comparison, compare_blocks, compare_networks
from blsm.files import write_atomically
from blsm.fitting import fit_cold, fit_latency_model, verdict
from blsm.hypermodels import sample_networks
from blsm.latency_model import LatencyModel
from blsm.metrics import Agreement
from blsm.profiles import Chain, ProfileStore, latencies
from blsm.profiling import Device, Protocol, device, machine
from blsm.report.figures import predicted_versus_measured
from blsm.sampling import in_turn, sample_blocks
from blsm.surrogates import DEFAULT_REGRESSOR

if TYPE_CHECKING:
    import keras

DEVICES = "edge_cpu,edge_cpu_int8,cloud_cpu,tensorflow_cpu,openvino_cpu,onnx_cpu,asic,gpu"
REGRESSORS = ("boosted_trees", "random_forest", "linear", "dense_nas")
FAMILIES = ("mbconv", "res_v1", "res_v2")
#: A network's first and last block; the paper has no table of these.
ENDS = ("conv", "head")
SETS = {"random depth": (0, (3, 12)), "equal depth": (1, (8, 8))}
#: Spearman of Table 4, boosted trees, of the devices that come nearest to ours.
PAPER = {"cloud_cpu": 0.96, "edge_cpu": 0.89, "asic": 0.70, "gpu": 0.57}
#: Of the networks whose pairs of neighbours tell what blocks add after others.
PAIRS_SEED = 777
#: Of calibration networks, for the figures that do not depend on which they happen to be.
_DRAWS = 15
#: Between two visits of the sentinel, seconds: longer, and nothing was measured.
_BREAK_S = 60.0
_LAYER_PROTOCOL = Protocol(visits=1)


def main() -> None:
    """Measures device after device and prints both tables of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--devices", default=DEVICES, help="names, separated by commas; those not usable here are named"
    )
    parser.add_argument("--stores", type=Path, default=Path("build/paper"), help="folder of the stores")
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"), help="folder of the pictures")
    parser.add_argument("--regressors", default=",".join(REGRESSORS))
    parser.add_argument("--samples", type=int, default=1715, help="configs of each family, 70 %% of them for training")
    parser.add_argument("--ends", type=int, default=500, help="configs of stem and head each")
    parser.add_argument("--pairs", type=int, default=150, help="networks whose pairs of blocks are profiled")
    parser.add_argument("--networks", type=int, default=200, help="networks of each set")
    parser.add_argument("--calibration", type=int, default=20, help="networks to calibrate by")
    parser.add_argument("--layerwise", type=int, default=20, help="networks whose layers are timed one by one")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: to see it work, not for figures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.quick:
        options.samples, options.networks, options.calibration, options.layerwise = 150, 20, 8, 3
        options.ends, options.pairs = 150, 15
    options.stores.mkdir(parents=True, exist_ok=True)
    for name in options.devices.split(","):
        target = device(name)
        if (lacking := target.missing()) is not None:
            print(f"{name} is not usable here: {lacking}")
            continue
        figures = tables(target, options)
        if not options.quick:
            write_result(f"paper_tables_{name}", figures)


def tables(target: Device, options: argparse.Namespace) -> dict[str, Any]:
    """Both tables of one device."""
    seed = options.seed
    networks = {
        name: sample_networks(options.networks, seed + number, families=["mbconv"], depth=depth)
        for name, (number, depth) in SETS.items()
    }
    for_calibration = sample_networks(options.calibration, CALIBRATION_SEED + seed, families=["mbconv"])
    with ProfileStore(options.stores / f"{target.name}.db", create=True) as store:
        additivity = judged(target, store, options)
        whole = [network for chains in (*networks.values(), for_calibration) for network in chains]
        # All in one campaign, in turn: over hours this machine drifts by several percent, and blocks and networks must
        # drift alike. Networks take long to compile, too, and blocks keep the device busy meanwhile.
        known_ms = measure(target, store, in_turn([*to_profile(additivity.context, options), whole]), seed, "all")
        took = cost(store, target.name)
        measured = {name: {n: known_ms[n] for n in chains if n in known_ms} for name, chains in networks.items()}
        calibration_ms = {network: known_ms[network] for network in for_calibration if network in known_ms}
        reasons: dict[str, str] = {}
        models: dict[tuple[str, str], LatencyModel] = {}
        for regressor in options.regressors.split(","):
            for context in dict.fromkeys(["isolated", additivity.context]):
                families = [*ENDS, *FAMILIES] if context == "isolated" else [*ENDS, "mbconv"]
                model = fitted(store, target.name, regressor, families, seed, context)
                if isinstance(model, str):
                    reasons[f"{regressor}, {context}"] = model
                else:
                    models[regressor, context] = model
        compared = {key: compare(model, measured, calibration_ms) for key, model in models.items()}
        best = models.get((DEFAULT_REGRESSOR, additivity.context))
        draws = over_draws(best, measured, options.calibration, seed) if best else {}
        shown = DEFAULT_REGRESSOR, "isolated"
        if not options.quick and shown in models:
            networks_shown = compared.get((DEFAULT_REGRESSOR, additivity.context), {})
            draw(target.name, compare_blocks(models[shown], store), networks_shown, options.pictures)
    blocks = {
        regressor: {name: dict(model.surrogates[name].metrics) for name in FAMILIES}
        for (regressor, context), model in models.items()
        if context == "isolated"
    }
    predicted: dict[str, Any] = {
        f"{regressor}, {context}": {
            name: {**found.agreement.to_json(), "inside_interval": found.inside} for name, found in networks_of.items()
        }
        for (regressor, context), networks_of in compared.items()
    } | reasons
    baselines = {
        "measured twice": retest(target, measured["random depth"], options),
        "MACs": macs_figures(measured),
        "layer-wise": layerwise(target, measured["random depth"], options),
    }
    print(f"\n{target.name}: {took['chains']} chains, {took['visits']} visits in {took['hours']:.2f} hours")
    print_tables(target.name, additivity, blocks, predicted, baselines)
    print_table([(name, json.dumps(found)) for name, found in draws.items()], (f"mean of {_DRAWS} calibrations", ""))
    return {
        "device": target.name,
        "fingerprint": target.fingerprint().to_json(),
        "samples_per_family": options.samples,
        "profiling": took,
        "additivity": {"context": additivity.context, **additivity.to_json()},
        "blocks": blocks,
        "networks": predicted,
        "mean_of_calibrations": draws,
        "baselines": baselines,
        "paper_spearman": PAPER.get(target.name),
    }


def judged(target: Device, store: ProfileStore, options: argparse.Namespace) -> Additivity:
    """How the device's blocks add up, studied unless the store knows."""
    store.register_device(target.name, target.fingerprint())
    profiles = store.profiles(target.name)
    known = verdict(latencies(profiles), fit_cold(profiles))
    if known is not None and known.complete:
        return known
    return study(target, store, list(FAMILIES), 20 if not options.quick else 8, options.seed)


def cost(store: ProfileStore, name: str) -> dict[str, float]:
    """What the store took to fill, all runs together: chains, visits, and hours in which the sentinel was visited."""
    profiles = store.profiles(name)
    gaps_s = np.diff([visit.started_s for visit in store.sentinel_visits(name)])
    hours = float(gaps_s[gaps_s < _BREAK_S].sum() / 3600)
    return {"chains": len(profiles), "visits": sum(len(profile.visits) for profile in profiles), "hours": hours}


def to_profile(context: str, options: argparse.Namespace) -> list[list[Chain]]:
    """Isolated blocks of each family; pairs of them too, where the device's blocks add up better so."""
    counts = {**dict.fromkeys(FAMILIES, options.samples), **dict.fromkeys(ENDS, options.ends)}
    blocks: list[list[Chain]] = [
        [(config,) for config in sample_blocks(name, count, options.seed)] for name, count in counts.items()
    ]
    networks = [] if context == "isolated" else sample_networks(options.pairs, PAIRS_SEED, families=["mbconv"])
    return [*blocks, parts(networks, context)]


def fitted(
    store: ProfileStore, name: str, regressor: str, families: Sequence[str], seed: int, context: str
) -> LatencyModel | str:
    """The latency model, or why there is none."""
    try:
        return fit_latency_model(store, name, regressor=regressor, seed=seed, families=families, context=context)
    except BlsmError as error:
        return str(error)


def compare(
    model: LatencyModel, measured: dict[str, dict[Chain, float]], calibration_ms: dict[Chain, float]
) -> dict[str, Comparison]:
    """Table 4: set of networks -> predictions of the model as it is, and calibrated."""
    models = {"plain": model, "calibrated": calibrate(model, calibration_ms)}
    return {
        f"{name}, {kind}": compare_networks(judged, networks_ms)
        for name, networks_ms in measured.items()
        for kind, judged in models.items()
    }


def over_draws(
    model: LatencyModel, measured: dict[str, dict[Chain, float]], count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Set of networks -> mean figures after calibration by other `count` networks, and how far the coverage varies.

    Twenty networks are few: what they happen to be moves the figures of a single calibration by several percent.
    """
    drawn_from = list(measured["random depth"].items())
    if len(drawn_from) < 2 * count:
        return {}
    rng = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in measured}
    for _ in range(_DRAWS):
        chosen = [drawn_from[index] for index in rng.choice(len(drawn_from), count, replace=False)]
        judged = calibrate(model, dict(chosen))
        for name, networks_ms in measured.items():
            compared = compare_networks(judged, networks_ms)
            figures = compared.agreement
            assert compared.inside is not None  # networks always have intervals
            found[name].append((figures.mape, figures.within_5, figures.within_10, compared.inside))
    names = ("mape", "within_5", "within_10", "inside_interval")
    return {
        name: {**dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)), "inside_deviation": np.std(rows, 0)[3]}
        for name, rows in found.items()
    }


def draw(name: str, blocks: dict[str, Comparison], networks: dict[str, Comparison], folder: Path) -> None:
    """The paper's Figure 4 of one device: held-out blocks, and networks after calibration."""
    chosen = {f"{family} blocks": blocks[family] for family in FAMILIES if family in blocks}
    chosen |= {kind: found for kind, found in networks.items() if kind.endswith("calibrated")}
    folder.mkdir(parents=True, exist_ok=True)
    paper = f"; the paper's networks: Spearman {PAPER[name]}" if name in PAPER else ""
    predicted_versus_measured(chosen, folder / f"{name}.png", f"{name}, {DEFAULT_REGRESSOR}{paper}")


def retest(target: Device, networks_ms: dict[Chain, float], options: argparse.Namespace) -> dict[str, float]:
    """The same networks measured once more: no prediction can be expected to agree better."""
    with ProfileStore(options.stores / f"{target.name}.again.db", create=True) as store:
        again_ms = measure(target, store, list(networks_ms), options.seed + 1, "measuring again")
    return Agreement.of(list(again_ms.values()), [networks_ms[network] for network in again_ms]).to_json()


def macs_figures(measured: dict[str, dict[Chain, float]]) -> dict[str, Any]:
    """How multiply-accumulates alone rank networks."""
    figures = {}
    for name, networks_ms in measured.items():
        macs = [sum(config.macs for config in network) for network in networks_ms]
        agreement = Agreement.of(macs, list(networks_ms.values()))
        figures[name] = {"spearman": agreement.spearman, "pearson": agreement.pearson}
    return figures


def layerwise(target: Device, networks_ms: dict[Chain, float], options: argparse.Namespace) -> dict[str, float] | str:
    """Every Keras layer timed alone, and summed: the lookup table of today."""
    cache = options.stores / f"{target.name}.layers.json"
    known: dict[str, float] = json.loads(cache.read_text()) if cache.exists() else {}
    sums = []
    chosen = list(networks_ms)[: options.layerwise]
    try:
        with target.open(machine.split_cores()[0]) as session, tempfile.TemporaryDirectory() as folder:
            for network in chosen:
                keys = {key: layer for layer in blsm.build_network(network).layers if (key := layer_key(layer))}
                for key, layer in keys.items():
                    if key not in known:
                        artifact = Path(folder) / f"layer{target.suffix}"
                        with quiet():  # converters are chatty
                            target.compile(alone(layer), artifact)
                        known[key] = session.visit(artifact, _LAYER_PROTOCOL).minimum_ns / 1e6
                write_atomically(cache, json.dumps(known).encode())
                layers = blsm.build_network(network).layers
                sums.append(sum(known[key] for layer in layers if (key := layer_key(layer))))
    except DeviceError as error:
        return f"a layer can't be measured alone: {error}"
    if len(chosen) < 2:
        return f"{len(chosen)} network is too few to compare"
    return Agreement.of(sums, [networks_ms[network] for network in chosen]).to_json()


def layer_key(layer: keras.Layer) -> str:
    """A name of what a layer does; equal layers share it, and an input has none."""
    if type(layer).__name__ == "InputLayer":
        return ""
    config = {name: value for name, value in layer.get_config().items() if name != "name"}
    shapes = [tuple(tensor.shape) for tensor in inputs_of(layer)]
    text = json.dumps([type(layer).__name__, config, shapes], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def inputs_of(layer: keras.Layer) -> list[Any]:
    """The input tensors of a layer."""
    return layer.input if isinstance(layer.input, list) else [layer.input]


def alone(layer: keras.Layer) -> keras.Model:
    """A model of one layer, weights random so that nothing is folded away."""
    import keras

    copy = type(layer).from_config(layer.get_config())
    inputs = [keras.Input(tensor.shape[1:], batch_size=1) for tensor in inputs_of(layer)]
    model = keras.Model(inputs, copy(inputs if len(inputs) > 1 else inputs[0]))
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.05, 0.15, weight.shape) for weight in model.weights])
    return model


def print_tables(
    name: str, additivity: Additivity, blocks: dict[str, Any], predicted: dict[str, Any], baselines: dict[str, Any]
) -> None:
    """Prints what `tables` found."""
    print(f"\n{name}: sums of measured blocks over networks")
    print_table([(context, asdict(s)) for context, s in additivity.sums.items()], ("context", "figures"))
    print(f"\n{name}, Table 3: Spearman (MAPE %) of isolated blocks")
    rows = [(regressor, *(_cell(found[family]) for family in FAMILIES)) for regressor, found in blocks.items()]
    print_table(rows, ("regressor", *FAMILIES))
    paper = f" (paper: Spearman {PAPER[name]})" if name in PAPER else ""
    print(f"\n{name}, Table 4: random MBConv networks{paper}")
    table: list[tuple[str, ...]] = []
    for regressor, found in predicted.items():
        if isinstance(found, str):
            table.append((regressor, found))
            continue
        for kind, f in found.items():
            share = f"{f['within_5']:.1%}", f"{f['within_10']:.1%}", f"{f['inside_interval']:.1%}"
            table.append((f"{regressor}, {kind}", *(f"{f[k]:.4f}" for k in ("spearman", "pearson")), _mape(f), *share))
    print_table(table, ("", "Spearman", "Pearson", "MAPE %", "within 5 %", "within 10 %", "in interval"))
    print_table([(kind, json.dumps(figures)) for kind, figures in baselines.items()], ("baseline", "figures"))


def _cell(figures: dict[str, float]) -> str:
    return f"{figures['spearman']:.4f} ({_mape(figures)})"


def _mape(figures: dict[str, float]) -> str:
    return f"{figures['mape']:.2f}"


if __name__ == "__main__":
    main()
