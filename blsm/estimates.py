"""Latency estimates as JSON data: for `blsm predict --json`, and for what a search leaves of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blsm.blocks import block_family
from blsm.latency_model import BlockLatency, LatencyEstimate
from blsm.network import UnmatchedLayer


def estimate_to_json(estimate: LatencyEstimate) -> dict[str, Any]:
    """An estimate, block by block, as JSON data."""
    return {
        "latency_ms": estimate.latency_ms,
        "low_ms": estimate.low_ms,
        "high_ms": estimate.high_ms,
        "coverage": estimate.coverage,
        "dispatch_ms": estimate.dispatch_ms,
        "unmatched": [{"name": layer.name, "kind": layer.kind} for layer in estimate.unmatched],
        "blocks": [
            {
                "family": block.config.family,
                "config": block.config.to_dict(),
                "latency_ms": block.latency_ms,
                "low_ms": block.low_ms,
                "high_ms": block.high_ms,
                "in_domain": block.in_domain,
            }
            for block in estimate.blocks
        ],
    }


def estimate_from_json(data: Mapping[str, Any]) -> LatencyEstimate:
    """Inverse of `estimate_to_json`; other keys are left alone."""
    blocks = tuple(
        BlockLatency(
            block_family(block["family"]).config(**block["config"]),
            block["latency_ms"],
            block["low_ms"],
            block["high_ms"],
            block["in_domain"],
        )
        for block in data["blocks"]
    )
    return LatencyEstimate(
        data["latency_ms"],
        data["low_ms"],
        data["high_ms"],
        data["coverage"],
        blocks,
        data["dispatch_ms"],
        tuple(UnmatchedLayer(layer["name"], layer["kind"]) for layer in data["unmatched"]),
    )
