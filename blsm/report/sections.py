"""From what a folder holds to what the page shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from blsm.checking import StoreCheck, check_store
from blsm.errors import BlsmError
from blsm.evaluation import Comparison, compare_blocks, compare_networks
from blsm.feasibility import Feasibility, feasibility, front
from blsm.latency_model import LatencyEstimate, LatencyModel
from blsm.metrics import Agreement
from blsm.network import load_keras_model
from blsm.profiles import ProfileStore, latencies
from blsm.remeasured import AS_GOOD
from blsm.report import model_charts, search_charts, store_charts
from blsm.report.chart import Chart
from blsm.report.contents import Contents
from blsm.report.page import Section, Table
from blsm.searches import FinishedSearch, SearchTrial


def sections(contents: Contents) -> tuple[list[Section], list[str]]:
    """The sections of the report, and what is missing in it, a sentence each."""
    missing = list(contents.notes)
    found = [
        *_searches(contents, missing),
        *_breakdown(contents, missing),
        *_accuracy(contents, missing),
        *_profiling(contents, missing),
    ]
    return _with_keys_of_their_own(found), missing


def _with_keys_of_their_own(found: list[Section]) -> list[Section]:
    """The same sections, no two charts of which share a key; those of several devices did."""
    seen: Counter[str] = Counter()

    def renamed(chart: Chart) -> Chart:
        seen[chart.key] += 1
        return chart if seen[chart.key] == 1 else replace(chart, key=f"{chart.key}_{seen[chart.key]}")

    return [replace(section, charts=tuple(map(renamed, section.charts))) for section in found]


def _searches(contents: Contents, missing: list[str]) -> list[Section]:
    searches = contents.searches
    if not searches:
        missing.append("No search: run `blsm search` or `blsm compare` for accuracy against latency.")
        return []
    remeasured: Mapping[SearchTrial, float] = {}
    facts: tuple[tuple[str, str], ...] = ()
    text = badge = colour = ""
    if len(searches) < 2:
        other = "a search by measurement (HIL)" if "sm" in searches else "a search by surrogate (SM)"
        missing.append(f"No verdict on the surrogate: it needs {other} too; `blsm compare` runs both.")
    else:
        try:
            verdict = feasibility(searches["hil"], searches["sm"])
        except BlsmError as error:
            missing.append(f"No verdict on the surrogate: {error}.")
        else:
            remeasured = _remeasured(contents, verdict)
            again = contents.verdict.get("remeasured", {}).get("sentence")
            text = " ".join(f"{part[0].upper()}{part[1:]}." for part in (verdict.sentence, again) if part)
            facts = _facts(verdict, contents.verdict.get("remeasured"))
            badge, colour = _badge(verdict, contents.verdict.get("remeasured") if remeasured else None)
            if not remeasured:
                missing.append(
                    "The surrogate's front was not re-measured: `blsm feasibility ... --device DEVICE --json FILE`."
                )
    charts = (
        search_charts.accuracy_latency(searches, remeasured),
        search_charts.score_density(searches),
        search_charts.progress(searches),
    )
    title = "Is the surrogate good enough?" if len(searches) == 2 else "The search"
    tables = [_front_table(searches, remeasured), _trial_table(searches)]
    return [Section(title, text, facts, charts, tuple(tables), badge, colour)]


def _badge(verdict: Feasibility, remeasured: Mapping[str, Any] | None) -> tuple[str, str]:
    """The verdict in a few words, and its colour; where HNQ can't tell, the front that was measured again may."""
    if verdict.verdict == "feasible":
        return verdict.verdict, "good"
    if verdict.verdict == "not feasible" and not verdict.alike:
        return verdict.verdict, "bad"
    ratio = None if remeasured is None else remeasured["hypervolume_ratio"]
    if ratio is None:
        return "HNQ can't tell", "muted"
    return ("its front is as good", "good") if ratio >= AS_GOOD else ("its front is not as good", "bad")


def _facts(verdict: Feasibility, remeasured: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    facts = [
        ("HNQ = W_optimal / W_overall", f"{verdict.hnq:.3f}"),
        ("90 % interval", f"{verdict.low:.2f} to {verdict.high:.2f}"),
        ("W_overall", f"{verdict.w_overall:.4g}"),
        ("W_optimal", f"{verdict.w_optimal:.4g}"),
        ("W_overall by chance, up to", f"{verdict.w_chance:.2g}"),
        ("trials, HIL and SM", f"{len(verdict.hil.trials)} and {len(verdict.sm.trials)}"),
        ("failed, HIL and SM", f"{verdict.hil.failed} and {verdict.sm.failed}"),
    ]
    if remeasured and remeasured["hypervolume_ratio"] is not None:
        facts.append(("hypervolume re-measured, SM / HIL", f"{remeasured['hypervolume_ratio']:.3f}"))
    return tuple(facts)


def _remeasured(contents: Contents, verdict: Feasibility) -> dict[SearchTrial, float]:
    """What the verdict file says of the surrogate's front."""
    measured_ms = contents.verdict.get("remeasured", {}).get("measured_ms", {})
    return {trial: float(measured_ms[trial.name]) for trial in verdict.sm_front if trial.name in measured_ms}


def _front_table(searches: Mapping[str, FinishedSearch], remeasured: Mapping[SearchTrial, float]) -> Table:
    rows = []
    for role, search in searches.items():
        for trial in front(search.trials):
            again = remeasured.get(trial)
            off = None if again is None else trial.latency_ms / again - 1
            figures = (trial.accuracy, trial.latency_ms, trial.score, again, off)
            rows.append((role.upper(), trial.name, *figures, _said(trial.setting)))
    names = ("accuracy", "latency, ms", "HA-score", "re-measured, ms", "predicted / measured - 1")
    formats = ("", "", ".2%", ".4g", ".4f", ".4g", "+.1%", "")
    return Table(("search", "trial", *names, "hyperparameters"), rows, formats, "Pareto-optimal trials")


def _said(setting: str) -> str:
    """A setting's hyperparameters, without the braces of JSON."""
    return ", ".join(f"{name} {value}" for name, value in json.loads(setting or "{}").items())


def _trial_table(searches: Mapping[str, FinishedSearch]) -> Table:
    rows = [
        (role.upper(), number, trial.name, trial.accuracy, trial.latency_ms, trial.score)
        for role, search in searches.items()
        for number, trial in enumerate(search.trials, start=1)
    ]
    headers = ("search", "number", "trial", "accuracy", "latency, ms", "HA-score")
    return Table(headers, rows, ("", "d", "", ".2%", ".4g", ".4f"), "All completed trials")


def _breakdown(contents: Contents, missing: list[str]) -> list[Section]:
    """What each block of the best network costs: as the search was told, or by the first latency model."""
    try:
        found = _best_of_search(contents) or _predicted(contents)
    except (BlsmError, ValueError, TypeError) as error:
        missing.append(f"No breakdown of the best network: {error}.")
        return []
    if found is None:
        missing.append(
            "No breakdown of the best network: it needs a search by surrogate, or a model file (.keras) and a latency "
            "model (.blsm)."
        )
        return []
    what, text, estimate = found
    rows = [
        (
            number,
            block.config.family,
            "x".join(map(str, block.config.input_shape)),
            block.latency_ms,
            block.latency_ms / estimate.latency_ms,
            block.low_ms,
            block.high_ms,
            "" if block.in_domain else "outside the profiled domain",
        )
        for number, block in enumerate(estimate.blocks, start=1)
    ]
    rest = (len(rows) + 1, "dispatch", "", estimate.dispatch_ms, estimate.dispatch_ms / estimate.latency_ms)
    headers = ("number", "block", "input", "latency, ms", "share", "low, ms", "high, ms", "")
    formats = ("d", "", "", ".5f", ".1%", ".5f", ".5f", "")
    table = Table(headers, [*rows, (*rest, None, None, "")], formats, "Blocks of the network")
    unmatched = ", ".join(map(str, estimate.unmatched))
    text += f" Not covered, counted as 0 ms: {unmatched}." if unmatched else ""
    return [Section("Where the time goes", text, charts=(model_charts.breakdown(estimate, what),), tables=(table,))]


def _best_of_search(contents: Contents) -> tuple[str, str, LatencyEstimate] | None:
    """What the network of the surrogate search's best trial is called, said of it, and predicted to take."""
    search = contents.searches.get("sm")
    estimate = None if search is None else search.estimate(search.best)
    if search is None or estimate is None:
        return None
    what = f"Trial {search.best.name}"
    return what, f"{what}, the best of the surrogate search, as predicted on {search.device}.", estimate


def _predicted(contents: Contents) -> tuple[str, str, LatencyEstimate] | None:
    """The same of a model file, by the first latency model."""
    if contents.network is None or not contents.models:
        return None
    what = contents.network.name
    name, model = next(iter(contents.models.items()))
    estimate = model.latency(load_keras_model(contents.network), allow_partial=True)
    return what, f"{what} on {model.device}, predicted by {name}.", estimate


def _accuracy(contents: Contents, missing: list[str]) -> list[Section]:
    """How well latency models predict what they were not fitted on."""
    comparisons: dict[str, dict[str, Comparison]] = {}
    for name, model in contents.models.items():
        for subject, comparison in _compare(name, model, contents, missing).items():
            comparisons.setdefault(subject, {})[name] = comparison
    rows = [
        (subject, name, *_figures(comparison.agreement))
        for subject, found in comparisons.items()
        for name, comparison in found.items()
    ]
    for name, evaluation in contents.evaluations.items():
        rows += [(subject, name, *_figures(_agreement(data))) for subject, data in evaluation["figures"].items()]
    if not comparisons:
        # What `blsm evaluate` kept stands in for profiles; with both, it would show the same points twice.
        for name, evaluation in contents.evaluations.items():
            for subject, points in evaluation.get("points", {}).items():
                found = Comparison(np.array(points["predicted_ms"]), np.array(points["measured_ms"]))
                comparisons.setdefault(subject, {})[name] = found
    charts = []
    if comparisons:
        charts = [model_charts.predicted_versus_measured(comparisons), model_charts.normal_probability(comparisons)]
    elif contents.models:
        missing.append(
            "No profiles that a latency model was not fitted on: put the profile store (.db) into the folder, or "
            "what `blsm evaluate --json` writes."
        )
    else:
        missing.append(
            "No latency model and its errors: put what `blsm evaluate --json` writes into the folder, or the .blsm "
            "bundle of `blsm fit` and its profile store."
        )
    if not rows:
        return []
    headers = ("subject", "latency model", "n", "Spearman", "MAPE %", "within 5 %", "within 10 %", "sum ratio")
    formats = ("", "", "d", ".4f", ".2f", ".1%", ".1%", ".3f")
    table = Table(headers, rows, formats, "Agreement of predictions with measurements")
    text = "Blocks and networks that the latency models were not fitted on."
    return [Section("How well latency is predicted", text, charts=tuple(charts), tables=(table,))]


def _compare(name: str, model: LatencyModel, contents: Contents, missing: list[str]) -> dict[str, Comparison]:
    """Block family or `networks` -> comparison, from the first store with profiles that the model was not fitted on."""
    reasons = []
    for path in contents.stores:
        try:
            with ProfileStore(path) as store:
                found = compare_blocks(model, store)
                networks = {
                    chain: latency_ms
                    for chain, latency_ms in latencies(store.profiles(model.device)).items()
                    if len(chain) > 1 and all(config.family in model.surrogates for config in chain)
                }
            if len(networks) > 1:
                found["networks"] = compare_networks(model, networks)
            return found
        except BlsmError as error:
            reasons.append(str(error))
    if reasons:
        missing.append(f"No comparison of {name} with measurements: {'; '.join(reasons)}.")
    return {}


def _figures(agreement: Agreement) -> tuple[int | float, ...]:
    return (
        agreement.count,
        agreement.spearman,
        agreement.mape,
        agreement.within_5,
        agreement.within_10,
        agreement.bias,
    )


def _agreement(data: Mapping[str, Any]) -> Agreement:
    """Of what `blsm evaluate --json` wrote, which has more in it."""
    return Agreement.from_json({part.name: data[part.name] for part in fields(Agreement)})


def _profiling(contents: Contents, missing: list[str]) -> list[Section]:
    found = []
    for path in contents.stores:
        try:
            with ProfileStore(path) as store:
                checks = check_store(store)
        except BlsmError as error:
            missing.append(f"Profiles: {error}.")
            continue
        found += [_device_section(check, path.name, missing) for check in checks]
    if not contents.stores:
        missing.append("No profile store: put the .db file of `blsm profile` into the folder for cost and drift.")
    return found


def _device_section(check: StoreCheck, store: str, missing: list[str]) -> Section:
    profiles = (*check.measured, *check.failed)
    charts = [store_charts.profiling_cost(profiles, check.device)]
    if check.sentinel:
        charts.append(store_charts.drift(check.sentinel, check.device))
    else:
        missing.append(f"No drift of {check.device}: {store} holds no visits of the sentinel block.")
    facts = (
        ("profiles", str(len(check.measured))),
        ("failed", str(len(check.failed))),
        ("without two visits that agree", str(len(check.unconfirmed))),
        ("drift, 95th percentile", f"{check.drift:.1%}"),
    )
    failures = [(str(profile.blocks[0]), profile.failure or "") for profile in check.failed]
    tables = (Table(("block", "why"), failures, ("", ""), "Failed blocks"),) if failures else ()
    title = f"Profiling on {check.device}"
    return Section(title, f"{store}: {check.verdict}.", facts, tuple(charts), tables)
