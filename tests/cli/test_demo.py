"""strop demo."""

from __future__ import annotations

import json

from strop import demo_data
from tests.cli.conftest import Strop


def test_json(strop: Strop) -> None:
    done = strop("demo", "--level", 0, "--seconds", 0.1, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    accuracy = found["accuracy"]
    assert accuracy["digits"] == len(demo_data.held_back_digits()[1]) >= 1000
    assert accuracy["top1"] == accuracy["right"] / accuracy["digits"] >= 0.985
    assert accuracy["low"] < accuracy["top1"] < accuracy["high"]
    sources = [step["source"] for step in found["engine"]["steps"]]
    assert ["fc1", "relu1"] in sources
    assert found["ratio"] == found["per_op_fp32_ms"] / found["bench"]["latency_ms"]["p50"]
    assert found["bench"]["threads"] == 1


def test_text(strop: Strop) -> None:
    done = strop("demo", "--level", 0, "--seconds", 0.1)
    assert done.code == 0, done.err
    for word in ("10 ops as read, 6 steps", "fc1, relu1", "95 % Wilson interval", "latency", "per-op FP32", "ratio"):
        assert word in done.out
