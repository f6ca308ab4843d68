"""blsm search"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blsm.cli import common

if TYPE_CHECKING:
    from blsm.accuracy_prior import AccuracyPredictor
    from blsm.images import Images
    from blsm.latency_sources import LatencySource
    from blsm.oracle import LatencyOracle
    from blsm.trials import TrialResult

NAME = "search"
HELP = "search for networks that are accurate and fast; run again with the same folder to continue"

#: What may differ when a search is continued.
_FREE = ("max_trials", "output", "run")
#: KerasTuner's project, and the options that it was started with, inside the output folder.
_PROJECT, _OPTIONS = "search", "options.json"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what to search, on what, where latency comes from, limits, and the output."""
    command.add_argument(
        "--hypermodel",
        default="blsm.hypermodels:Cifar10",
        metavar="PACKAGE:NAME|FILE.py:NAME",
        help="a keras_tuner.HyperModel (default: blsm.hypermodels:Cifar10)",
    )
    command.add_argument("--data", default="cifar10", metavar="cifar10|digits|FILE.npz", help="default: cifar10")
    command.add_argument("--images", type=common.positive, metavar="N", help="train on N images only")
    command.add_argument("--latency-model", type=Path, metavar="FILE.blsm", help="latency as predicted, see `blsm fit`")
    command.add_argument(
        "--hil",
        metavar="DEVICE",
        help="latency as measured on this device, see `blsm devices`; with --latency-model, of unsure candidates only",
    )
    command.add_argument("--max-trials", type=common.positive, default=50, help="networks to train (default: 50)")
    command.add_argument("--strategy", default="bayesian", help="bayesian (default), evolution, greedy or random")
    command.add_argument(
        "--accuracy-prior",
        type=Path,
        nargs="+",
        metavar="DIR|FILE",
        help="folders of finished searches, also of other data and hypermodels, whose accuracies guide the bayesian "
        "strategy; or a saved blsm.AccuracyPredictor",
    )
    common.add_seed(command, "everything random")
    command.add_argument("--epochs", type=common.positive, default=20, help="of each training (default: 20)")
    command.add_argument("--batch-size", type=common.positive, default=64, help="default: 64")
    command.add_argument("--reference-accuracy", type=float, default=1.0, metavar="A", help="default: 1")
    command.add_argument(
        "--reference-latency-ms",
        default="auto",
        metavar="MS",
        help="latency bound of the score; auto (default) for twice the median of random candidates",
    )
    command.add_argument("--max-latency-ms", type=float, metavar="MS", help="slower candidates are not trained")
    command.add_argument("--max-params", type=common.positive, metavar="N", help="nor larger ones")
    command.add_argument("--max-macs", type=common.positive, metavar="N", help="nor costlier ones")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of all results")


def run(options: argparse.Namespace) -> None:
    """Searches, prints the results, draws the Pareto front, saves the best model."""
    from blsm.errors import BlsmError
    from blsm.files import write_atomically
    from blsm.images import load_images

    source = latency_source(options.latency_model, options.hil)
    folder: Path = options.output
    continues = has_trials(folder)
    settings = settings_of(options)
    if continues:
        check_same(folder, settings)
    with common.quiet():
        from blsm.hypermodels.loading import load_hypermodel

        hypermodel = load_hypermodel(options.hypermodel)
        prior = accuracy_prior(options.accuracy_prior or [])
        images = load_images(options.data, limit=options.images, seed=options.seed)
    check_fits(hypermodel, images)
    check_source(source, hypermodel, options.hypermodel)
    with _one_line_warnings():
        tuner = make_tuner(hypermodel, source, prior, options, overwrite=not continues)
        write_atomically(folder / _OPTIONS, json.dumps(settings, indent=1).encode())
        try:
            tuner.search(
                images.x_train,
                images.y_train,
                validation_data=(images.x_validation, images.y_validation),
                epochs=options.epochs,
                batch_size=options.batch_size,
                verbose=0,
            )
        except KeyboardInterrupt:
            raise BlsmError("interrupted; run the same command again to continue") from None
    report(tuner, folder)


def latency_source(bundle: Path | None, hil: str | None) -> LatencySource:
    """The source that --latency-model and --hil ask for.

    Raises:
        SearchError: neither is given.
        DeviceError: the device is not usable here.
        FingerprintError: bundle and device are of different devices or machines.
    """
    from blsm import bundle as bundles
    from blsm.errors import DeviceError, SearchError
    from blsm.latency_sources import HardwareInTheLoop, Hybrid

    if bundle is None and hil is None:
        raise SearchError("where shall latency come from? give --latency-model FILE.blsm, --hil DEVICE, or both")
    hardware = None if hil is None else HardwareInTheLoop(hil)
    if hardware is not None and (lacking := hardware.hardware.missing()) is not None:
        raise DeviceError(f"{hil} is not usable here: {lacking}")
    if bundle is None:
        assert hardware is not None
        return hardware
    model = bundles.load(bundle)
    return model if hardware is None else Hybrid(model, hardware)


def accuracy_prior(paths: Sequence[Path]) -> AccuracyPredictor | None:
    """The predictor that --accuracy-prior asks for: a saved one, or one that learns from folders of `blsm search`.

    Raises:
        FileError: something else, or a folder that is no finished search.
        FitError: a search that can't be learned from.
        SearchError: its hypermodel is not what it was.
    """
    from blsm.accuracy_prior import AccuracyPredictor
    from blsm.errors import FileError
    from blsm.hypermodels.loading import load_hypermodel

    if not paths:
        return None
    if len(paths) == 1 and paths[0].is_file():
        return AccuracyPredictor.load(paths[0])
    hypermodels = []
    for path in paths:
        try:
            hypermodels.append(json.loads((path / _OPTIONS).read_text())["hypermodel"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"--accuracy-prior {path} is no folder of `blsm search`, its {_OPTIONS} can't be read ({error}): give "
                "such folders, or one file that AccuracyPredictor.save wrote"
            ) from None
    return AccuracyPredictor.fit(paths, list(map(load_hypermodel, hypermodels)))


def check_fits(hypermodel: Any, images: Images) -> None:
    """Raises SearchError where a hypermodel says that it takes other images."""
    from blsm.errors import SearchError

    shape, classes = getattr(hypermodel, "input_shape", images.shape), getattr(hypermodel, "classes", images.classes)
    if tuple(shape) != images.shape or classes < images.classes:
        raise SearchError(
            f"the hypermodel takes images of {tuple(shape)} in {classes} classes, the data has {images.shape} in "
            f"{images.classes}: choose other --data, or a hypermodel for these"
        )


def check_source(source: LatencySource, hypermodel: Any, name: str) -> None:
    """Raises CoverageError, with the command that helps, where a surrogate does not cover a hypermodel."""
    from blsm.errors import CoverageError
    from blsm.hypermodels.reach import check_covered
    from blsm.latency_model import LatencyModel

    domains = getattr(hypermodel, "domains", None)
    if isinstance(source, LatencyModel) and callable(domains):
        try:
            check_covered(source, domains(), name)
        except CoverageError as error:
            raise CoverageError(f"{error}, or add --hil DEVICE to measure what is not covered") from None


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options that decide what a search finds, as JSON data."""
    settings = {name: value for name, value in vars(options).items() if name not in _FREE}
    settings["latency_model"] = options.latency_model and str(options.latency_model)
    settings["accuracy_prior"] = options.accuracy_prior and list(map(str, options.accuracy_prior))
    return settings


def has_trials(folder: Path) -> bool:
    """Whether a search in this folder has come to a trial; one that has not may start anew with other options.

    Raises:
        FileError: the folder can't be used.
    """
    from blsm.errors import FileError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror}") from None
    return any((folder / _PROJECT).glob("trial_*"))


def check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Raises SearchError if the search in a folder was started with other options."""
    from blsm.errors import FileError, SearchError

    try:
        saved = json.loads((folder / _OPTIONS).read_text())
        different = [
            f"--{name.replace('_', '-')} {saved.get(name)!r}, now {value!r}"
            for name, value in settings.items()
            if saved.get(name) != value
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise FileError(
            f"cannot continue the search in {folder}: its {_OPTIONS} is missing or damaged ({error}); choose another -o"
        ) from None
    if different:
        raise SearchError(
            f"{folder} holds a search with other options ({'; '.join(different)}): choose another -o, or the same ones"
        )


def make_tuner(
    hypermodel: Any,
    source: LatencySource,
    prior: AccuracyPredictor | None,
    options: argparse.Namespace,
    *,
    overwrite: bool,
) -> Any:
    """A LatencyTuner that says on standard error how it goes; `overwrite` starts anew."""
    with common.quiet():
        import keras

        from blsm.oracle import LatencyOracle
        from blsm.tuner import LatencyTuner

    # TensorFlow warns that each model is traced anew: in a search it must be.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    oracle = LatencyOracle(
        source,
        max_trials=options.max_trials,
        reference_accuracy=options.reference_accuracy,
        reference_latency_ms=options.reference_latency_ms,
        max_latency_ms=options.max_latency_ms,
        max_params=options.max_params,
        max_macs=options.max_macs,
        strategy=options.strategy,
        accuracy_prior=prior,
        seed=options.seed,
    )

    class Tuner(LatencyTuner):
        def on_trial_begin(self, trial: Any) -> None:
            # The same weights and batches, also where a search was interrupted in between.
            keras.utils.set_random_seed(1000 * options.seed + int(trial.trial_id))
            super().on_trial_begin(trial)

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            print(progress_line(oracle, trial.trial_id), file=sys.stderr, flush=True)

    # KerasTuner says on standard output that it continues.
    with contextlib.redirect_stdout(io.StringIO()):
        # Only KerasTuner's own folder is ever emptied.
        overwrite = overwrite and (options.output / _PROJECT / "oracle.json").exists()
        return Tuner(hypermodel, oracle, directory=options.output, project_name=_PROJECT, overwrite=overwrite)


def progress_line(oracle: LatencyOracle, trial_id: str) -> str:
    """How a trial ended, and the best so far."""
    results = {result.trial_id: result for result in oracle.results()}
    trial = results[trial_id]
    outcome = trial.status.lower() if trial.score is None else f"accuracy {trial.accuracy:.4f}"
    score = "" if trial.score is None else f", score {trial.score:.4f}"
    scored = [result for result in results.values() if result.score is not None]
    best = max(scored, key=_score, default=None)
    best_so_far = "" if best is None else f"; best so far {best.score:.4f} (trial {best.trial_id})"
    return (
        f"trial {trial_id} ({len(oracle.end_order)} of {oracle.max_trials}): {outcome}, "
        f"{trial.latency_ms:.4g} ms{score}{best_so_far}; {sum(oracle.refused.values())} rejected"
    )


def report(tuner: Any, folder: Path) -> None:
    """Prints the trials, best first, and writes the picture, the best model and its artifact.

    Raises:
        SearchError: no trial was completed.
    """
    from blsm.errors import SearchError
    from blsm.report.picture import save_picture
    from blsm.report.search_charts import accuracy_latency
    from blsm.searches import read_search

    oracle: LatencyOracle = tuner.oracle
    results = sorted((result for result in oracle.results() if result.score is not None), key=_score, reverse=True)
    if not results:
        raise SearchError("no trial was completed")
    front = {trial.trial_id for trial in oracle.pareto_front()}
    rows = [
        (
            result.trial_id,
            f"{result.accuracy:.4f}",
            f"{result.latency_ms:.4g}",
            f"{result.low_ms:.4g} to {result.high_ms:.4g}",
            f"{result.score:.4f}",
            "yes" if result.trial_id in front else "",
        )
        for result in results
    ]
    common.print_table(rows, ("trial", "accuracy", "latency, ms", "90 % interval", "score", "Pareto front"))
    reasons = ", ".join(f"{count} {reason}" for reason, count in oracle.refused.items() if count)
    print(
        f"\n{len(results)} of {oracle.max_trials} trials on {oracle.source.device}; reference latency "
        f"{oracle.reference_latency_ms:.4g} ms; rejected before training: {reasons or 'none'}"
    )
    search = read_search(folder)
    save_picture(accuracy_latency({"hil" if search.measured else "sm": search}), folder / "pareto.png")
    with common.quiet():
        model = tuner.get_best_models(1)[0]
        model.save(folder / "best.keras")
    artifact = save_artifact(model, oracle.source.device, folder)
    print(f"written: {folder / 'pareto.png'}, {folder / 'best.keras'}, {artifact}")


def save_artifact(model: Any, device_name: str, folder: Path) -> str:
    """Compiles a model for a device; returns the file, or why there is none."""
    from blsm.errors import DeviceError, UnknownDeviceError
    from blsm.profiling import device

    try:
        target = device(device_name)
        if (lacking := target.missing()) is not None:
            raise DeviceError(f"{device_name} is not usable here: {lacking}")
        artifact = folder / f"best{target.suffix}"
        with common.quiet():
            target.compile(model, artifact)
    except (DeviceError, UnknownDeviceError) as error:
        return f"no artifact: {error}"
    return str(artifact)


def _score(result: TrialResult) -> float:
    return -float("inf") if result.score is None else result.score


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Warnings in the form of this command's other messages."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"blsm: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.showwarning = show
        yield
