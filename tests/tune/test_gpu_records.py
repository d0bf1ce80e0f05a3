"""Records of GPUs on a machine that has none."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.lower.pipeline import lower
from strop.ops.matmul import MatMul
from strop.target.detect import parse
from strop.trace import Trace
from strop.tune import search
from strop.tune.records import Key, Records, code_of


@pytest.mark.parametrize("verdict", [False, True])
def test_a_region_that_the_usual_gpu_does_not_know_takes_another_one_s_time(monkeypatch, tmp_path, verdict):
    path = tmp_path / "records.txt"
    monkeypatch.setattr(search, "path_of", lambda target: path)
    monkeypatch.setattr(search.gpu, "runs_here", lambda target: False)
    graph, target = Graph("g"), parse("cuda:sm_90")
    x = graph.add_input("x", Type(dt.f16, (256, 64)))
    w = graph.add_const(np.random.default_rng(0).standard_normal((64, 128)).astype(np.float16), "w")
    graph.set_outputs([graph.add(MatMul(), [x, w]).output], ["y"])
    lowered = lower(graph, target, Trace())
    (step,) = lowered.steps
    slow = step.candidates[-1]
    assert step.chosen.label != slow.label
    weights, _ = search._weights_from(lowered)
    key = Key(step.region.digest(), "Rare-GPU", target.cores, weights, slow.label, code_of(slow.kernel))
    records = Records()
    records.put(key, 1000)
    for number in range(3):
        records.put(Key(f"{number:016x}", "Usual-GPU", target.cores, weights, slow.label, key.code), 5)
    if verdict:
        records.put(Key(key.digest, "Usual-GPU", target.cores, weights, slow.label, key.code), "wrong")
    records.write(path)
    search.tune(lowered, 1, 0.0, Trace())
    assert (lowered.steps[0].chosen.label == slow.label) is not verdict
