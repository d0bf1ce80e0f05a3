"""The tables of nets on a GPU, and the comparison with the processor beside it, without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench import deck, gpu
from bench.deck import Rate
from bench.nets import find

SIDES = {
    "32-bit": {"ms": 10.0, "images": 4000.0, "error": 3e-6, "p50_ms": 10.0, "p99_ms": 10.5},
    "16-bit": {"ms": 1.4, "images": 28000.0, "error": 7e-4, "p50_ms": 1.4, "p99_ms": 1.5},
}
RATES = [Rate("strop", "32-bit", 4, 200.0), Rate("strop", "32-bit", 16, 160.0), Rate("onnxruntime", "32-bit", 8, 140.0), Rate("strop", "16-bit", 16, 400.0)]


def results(**more: Any) -> dict[str, Any]:
    mine = {"error": 7e-4, "right": True, "ms": 1.0, "p99_ms": 1.1, "joules": 0.1}
    rows = [
        {"net": "a", "batch": 1, "ours": mine, "peers": {"graph": {"ms": 4.0}, "compile": {"ms": 2.0}, "compile-max": {"error": "no"}}},
        {"net": "b", "batch": 1, "ours": {**mine, "right": False}, "peers": {"compile": {"ms": 9.0}}},
        {"net": "c", "batch": 1, "ours": {"failed": "KernelError: why\nmore"}, "peers": {"compile": {"ms": 9.0}}},
    ]
    return {"gpu": "A card", "precision": "fp16", "peers": ["graph", "compile", "compile-max"], "rows": rows, **more}


def test_the_best_peer_counts_and_wrong_results_do_not() -> None:
    text = gpu.table(results())
    assert "| a | 1 | 7.0e-04 | 1.000 | 1.100 | 1000 | 10.0 | 4.000 | 2.000 | - | 2.00 |" in text
    assert "| c | 1 | KernelError: why |" in text and "7.0e-04 WRONG" in text
    assert "Geometric mean over 1 nets at batch 1: 2.00 times the best peer." in text


def test_ratios_are_with_the_processors_best_runtime_and_batch() -> None:
    assert deck.ratios(SIDES, RATES) == {"16-bit by 32-bit": 140.0, "32-bit by 32-bit": 20.0, "16-bit by 16-bit": 70.0}
    assert deck.ratios(SIDES, RATES[3:]) == {"16-bit by 16-bit": 70.0}


def test_the_comparison_with_the_processor_is_part_of_the_table() -> None:
    found = {"net": "a", "batch": 39, "cores": 16, "sides": SIDES, "processor": [vars(r) for r in RATES], "ratios": deck.ratios(SIDES, RATES)}
    text = gpu.table(results(deck=found))
    assert "a, the GPU at batch 39 against 16 cores at the best batch:" in text
    assert "- GPU, 16-bit: 28000 images/s, p99 1.50 ms, error 7.0e-04" in text
    assert "- processor, 32-bit, strop: 200.0 images/s at batch 4" in text and "- processor, 32-bit, onnxruntime: 140.0 images/s at batch 8" in text
    assert "16-bit by 32-bit: 140.0 times." in text


def test_every_runtime_of_the_processor_is_timed_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape]) for name, shape in (("x", (3, 8, 8)), ("y", (4, 6, 6)))]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "small", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "small.onnx")
    (net,) = find(tmp_path)

    def absent(path: Path, x: np.ndarray, precision: str, cores: int, level: int) -> Any:
        raise ImportError("No module named 'absent'")

    monkeypatch.setattr(deck, "BATCHES", (1, 2))
    monkeypatch.setattr(deck, "_SPAN", 0.01)
    monkeypatch.setattr(deck, "RUNTIMES", {"strop": deck.RUNTIMES["strop"], "absent": absent})
    rates = list(deck.processor(net, 1, 0, tmp_path))
    assert [(r.runtime, r.width, r.batch) for r in rates] == [("strop", w, b) for w in ("32-bit", "16-bit") for b in (1, 2)]
    assert all(r.images > 0 for r in rates)
    assert "absent, 32-bit: ImportError: No module named 'absent'" in capsys.readouterr().out
