from __future__ import annotations

import json
from dataclasses import replace

import blsm
from blsm.estimates import estimate_from_json, estimate_to_json
from blsm.network import UnmatchedLayer


def test_an_estimate_survives_json(fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]) -> None:
    whole = fake_model.latency(network)
    partial = replace(whole, coverage=0.5, unmatched=(UnmatchedLayer("pool", "MaxPooling2D"),))
    for estimate in (whole, partial):
        assert estimate.blocks
        assert estimate_from_json(json.loads(json.dumps(estimate_to_json(estimate)))) == estimate
