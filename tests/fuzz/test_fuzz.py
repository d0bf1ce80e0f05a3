"""A slice of fuzzing with a fresh seed, and the fuzzer's own tests: planted defects are found, made small and written as tests."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from strop.ir import text
from strop.kernels.c import elementwise
from strop.ops.elementwise import make
from strop.optimize.pipeline import PASSES
from tests.fuzz import examine
from tests.fuzz.examine import Finding, Setup
from tests.fuzz.generate import labels, make_case
from tests.fuzz.meaning import difference, evaluate, meaning
from tests.fuzz.reduce import reduce_case
from tests.fuzz.replay import replay, write_test
from tests.fuzz.run import Fuzzer, fails_alike


def test_random_graphs_agree_with_their_meaning(fuzz_seed: int | None, fuzz_seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    seed = fuzz_seed if fuzz_seed is not None else secrets.randbelow(1 << 31)
    with capsys.disabled():
        print(f"\nfuzzing from batch {seed}; STROP_FUZZ_SEED={seed} repeats it")
    fuzzer = Fuzzer(seed, batch=48, reduces=False)
    fuzzer.run(fuzz_seconds)
    with capsys.disabled():
        print(fuzzer.line(seed))
    again = f"python -m tests.fuzz --seed {seed} --batch 48 --write-tests DIR"
    assert not fuzzer.findings, f"{again} makes these small:\n" + "\n".join(map(str, fuzzer.findings))


def test_the_generator_reaches_every_op() -> None:
    reached = {label for seed in range(400) for label in make_case(seed).labels}
    assert len(reached) > 0.9 * len(labels())
    for label in sorted(set(labels()) - reached):
        assert any(label in make_case(seed, (label,)).labels for seed in range(5)), label


def test_a_case_is_decided_by_its_seed() -> None:
    for seed in range(20):
        a, b = make_case(seed), make_case(seed)
        assert text.show(a.graph) == text.show(b.graph)
        assert all(np.array_equal(a.feed[n], b.feed[n], equal_nan=False) or a.feed[n].tobytes() == b.feed[n].tobytes() for n in a.feed)


def test_roundings_that_decide_are_not_compared() -> None:
    case = make_case(3)
    meant = meaning(case.graph, case.feed)
    assert difference(meant.wanted, meant) is None
    for name, array in meant.wanted.items():
        if array.size and array.dtype == np.float32:
            wrong = {**meant.wanted, name: array + np.float32(0.01) * max(1.0, np.abs(array).max())}
            assert difference(wrong, meant) is not None


def planted_pass() -> ModuleType:
    """A pass that takes every tanh for a sin where it is added to something."""

    def run(graph, trace, options):
        for node in list(graph.nodes):
            if node.op.label == "tanh" and any(u.op.label == "add" for u in node.output.users):
                new = graph.add(make("sin"), node.inputs, source=node.source, before=node)
                graph.replace_uses(node.output, new.output)

    return SimpleNamespace(NAME="planted", run=run)  # type: ignore[return-value]


def test_a_planted_pass_is_found_made_small_and_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examine, "PASSES", (planted_pass(), *PASSES))
    setup = Setup(1, examine.HERE[0].name)
    for seed in range(400):
        case = make_case(seed)
        if "tanh" in case.labels and (found := _pass_finding(case, setup)) is not None:
            break
    small = reduce_case(case, lambda c: _pass_finding(c, setup) is not None, seconds=60)
    assert sorted(set(small.labels)) == ["add", "tanh"] and len(small.graph.nodes) <= 3
    assert all(array.size <= 4 for array in small.feed.values())
    path = write_test(tmp_path, small, found, setup)
    space: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    (name,) = (n for n in space if n.startswith("test_"))
    with pytest.raises(AssertionError, match="differs"):
        space[name]()
    monkeypatch.setattr(examine, "PASSES", PASSES)
    space[name]()


def _pass_finding(case, setup) -> Finding | None:
    result = examine.Result()
    examine._prepared(case, setup, result)
    return next((f for f in result.findings if f.kind == "pass"), None)


def test_a_planted_kernel_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    emit = type(elementwise.KERNEL).emit

    def wrong(self, region, params, target):
        emitted = emit(self, region, params, target)
        return replace(emitted, body=emitted.body.replace("begin", "(begin + 1)", 1)) if region.out.count > 6 else emitted

    monkeypatch.setattr(type(elementwise.KERNEL), "emit", wrong)
    setup = Setup(1, examine.HERE[0].name, kernel="elementwise")
    cases = [make_case(seed, ("tanh", "add", "mul")) for seed in range(4)]
    found = [f for f in examine.examine(cases, setup).findings if f.kind == "kernel elementwise"]
    assert found
    case = next(c for c in cases if c.seed == found[0].seed)
    small = reduce_case(case, lambda c: fails_alike(c, found[0], setup), seconds=6)
    assert len(small.graph.nodes) < len(case.graph.nodes)
    assert not [f for f in examine.examine(cases[:2], replace(setup, kernel="naive")).findings if f.kind == "kernel naive"]


def test_a_written_case_reads_back_as_it_was(tmp_path: Path) -> None:
    for seed in range(6):
        case = make_case(seed)
        path = write_test(tmp_path, case, Finding("engine", seed, 'a """ and a \\'), Setup(seed, examine.HERE[-1].name))
        space: dict = {"__name__": "written"}
        exec(compile(path.read_text(), str(path), "exec"), space)
        assert space["GRAPH"].strip() == text.show(case.graph).strip()
        assert set(case.feed) <= set(space["ARRAYS"])
    replay(space["GRAPH"], space["ARRAYS"], Setup(1, examine.HERE[0].name))


def test_rounded_runs_stay_near() -> None:
    case = make_case(11)
    meant = meaning(case.graph, case.feed)
    moved = evaluate(case.graph, case.feed, np.random.default_rng(5))
    assert difference(moved, meant) is None
