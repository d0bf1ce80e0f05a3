"""Comparing an engine with other runtimes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import strop
from strop.engine import versus
from strop.engine.peer_process import Peer, PeerProcess, python_of
from strop.engine.versus import TOLERANCES, Row, Settings, choose_cpus, compare, output_error
from strop.errors import OptionError
from tests import tiny_net
from tests.bench.conftest import MakePeer

QUICK = Settings(rounds=3, seconds=0.02)


def run(*peers: Peer, settings: Settings = QUICK) -> Row:
    return compare(tiny_net.engine(), tiny_net.model_file(), peers, python_of(None), settings)


def statuses(row: Row) -> dict[str, str]:
    return {e.name: e.status for e in row.entries}


def test_the_fastest_of_the_others_is_set_against_strop(make_peer: MakePeer) -> None:
    row = run(make_peer("sloth", "slow"), make_peer("hare"), settings=Settings(rounds=3, seconds=0.02, profile=2))
    assert row.status == "compared" and row.best == "hare"
    assert statuses(row) == {"strop": "timed", "sloth": "timed", "hare": "timed"}
    own, sloth, hare = row.entries
    assert own.ms is not None and own.low is not None and own.high is not None
    assert len(own.rounds) == len(hare.rounds) == 3
    assert own.low <= own.ms <= own.high
    assert own.error is not None and own.error < 1e-5 and sloth.error is None and hare.error is not None
    assert own.runs > hare.runs >= 9
    assert row.ratio == row.ratios["hare"]
    assert row.ratios["sloth"].median > 2 * row.ratios["hare"].median > 2
    assert hare.ms is not None and hare.ms >= 1
    assert [name for name, _ in row.steps] == [step.name for step in tiny_net.engine().session.steps]
    assert hare.call == "fast way" and hare.version == "1.2.3" and "threads=1" in hare.notes


def test_variables_are_carried_and_not_compared(make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, list[str]] = {}
    load = PeerProcess.ask

    def note(self: PeerProcess, do: str, **fields: Any) -> dict[str, Any]:
        if do == "load":
            given[self.peer.name] = [name for name, _ in fields["inputs"]]
        return load(self, do, **fields)

    monkeypatch.setattr(PeerProcess, "ask", note)
    x, v = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "v"))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("y", "v.next")]
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Add", ["v", "x"], ["v.next"])]
    whole = helper.make_model(helper.make_graph(nodes, "g", [x, v], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    alone = helper.make_model(helper.make_graph(nodes[:1], "g", [x], outputs[:1]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tiny_net.model_file().parent / "alone.onnx"
    path.write_bytes(alone.SerializeToString())
    inputs = {"x": np.ones(2, np.float32), "v": np.zeros(2, np.float32)}
    row = compare(strop.build(whole, level=0), path, [make_peer("peer")], python_of(None), QUICK, inputs=inputs, state={"v": "v.next"})
    assert row.status == "compared" and row.entries[0].call == "bind() there and back"
    assert given == {"strop": ["x", "v"], "peer": ["x"]}


def test_all_take_turns_and_begin_in_turn(make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    turn = versus._Side.turn

    def note(side: versus._Side, seconds: float) -> None:
        order.append(side.peer.name)
        turn(side, seconds)

    monkeypatch.setattr(versus._Side, "turn", note)
    run(make_peer("a"), make_peer("b"))
    assert order == ["strop", "a", "b", "a", "b", "strop", "b", "strop", "a"]


@pytest.mark.parametrize("mode", ["wrong", "nan"])
def test_who_differs_is_not_timed(mode: str, make_peer: MakePeer) -> None:
    row = run(make_peer("right"), make_peer("other", mode))
    assert statuses(row) == {"strop": "timed", "right": "timed", "other": "wrong"}
    other = row.entry("other")
    assert other is not None and other.ms is None and other.rounds == () and "differs from right" in other.reason
    assert set(row.ratios) == {"right"}


def test_strop_differs(make_peer: MakePeer) -> None:
    row = run(make_peer("reference", "wrong"))
    assert (row.status, row.ratio, row.best) == ("wrong", None, None)
    assert "differs from reference by 1.0e-03" in row.reason or "differs from reference by 9.9e-04" in row.reason
    assert row.entries[0].ms is None


def test_who_goes_wrong_while_it_is_measured_has_no_figures(make_peer: MakePeer) -> None:
    row = run(make_peer("right"), make_peer("other", "drifts"))
    assert statuses(row)["other"] == "wrong" and set(row.ratios) == {"right"}


def test_who_ends_while_it_is_measured_does_not_end_the_others(make_peer: MakePeer) -> None:
    row = run(make_peer("mortal", "dies"), make_peer("right"))
    assert statuses(row) == {"strop": "timed", "mortal": "failed", "right": "timed"}
    mortal = row.entry("mortal")
    assert mortal is not None and "ended with code 3" in mortal.reason
    assert row.best == "right" and row.ratio is not None


def test_nobody_to_compare_with(make_peer: MakePeer) -> None:
    row = run(make_peer("other", "cannot"))
    assert (row.status, row.ratio) == ("alone", None)
    assert statuses(row) == {"strop": "not timed", "other": "cannot"}


def test_an_engine_that_does_not_load(make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = tiny_net.engine()
    monkeypatch.setattr(engine, "path", tmp_path / "gone.strop")
    row = compare(engine, tiny_net.model_file(), [make_peer("right")], python_of(None), QUICK)
    assert row.status == "failed" and "gone.strop" in row.reason
    assert statuses(row) == {"strop": "failed", "right": "not timed"}


def test_limits(make_peer: MakePeer) -> None:
    row = run(make_peer("free"), make_peer("bound", avx2={"FAKE_LIMIT": "low"}), settings=Settings(1, 3, 0.02, avx2=True))
    assert statuses(row) == {"strop": "timed", "free": "cannot", "bound": "timed"}
    free, bound = row.entry("free"), row.entry("bound")
    assert free is not None and free.reason == "cannot be limited to AVX2: has no switch"
    assert bound is not None and {"limited to AVX2: by a variable", "limit=low"} <= set(bound.notes)
    unlimited = run(make_peer("bound", avx2={"FAKE_LIMIT": "low"})).entry("bound")
    assert unlimited is not None and "limit=None" in unlimited.notes


def test_other_precisions(make_peer: MakePeer) -> None:
    able = replace(make_peer("able"), precisions=("fp32", "bf16"))
    settings = Settings(1, 3, 0.02, precision="bf16")
    assert settings.limit > Settings().limit == TOLERANCES["fp32"] and replace(settings, tolerance=0.5).limit == 0.5
    row = run(make_peer("plain"), able, settings=settings)
    assert statuses(row) == {"strop": "timed", "plain": "cannot", "able": "timed"}
    plain, found = row.entry("plain"), row.entry("able")
    assert plain is not None and plain.reason == "does not compute in bf16"
    assert found is not None and "precision=bf16" in found.notes


def test_rows_become_plain_data(make_peer: MakePeer) -> None:
    found = run(make_peer("right")).to_json()
    assert found["entries"][0]["name"] == "strop" and found["ratio"]["median"] > 0


X = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) - 10


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (X, 0.0),
        (X.astype(np.float64) + 0.013, 0.001),
        (np.moveaxis(X, 1, -1), 0.0),  # channels last
        (X[0], 0.0),  # without the dim of 1
        (X.ravel(), np.inf),
        (X[..., :3], np.inf),
        (np.where(X > 5, np.nan, X), np.inf),
        (np.where(X > 5, np.inf, X), np.inf),
    ],
)
def test_output_error(array: np.ndarray, error: float) -> None:
    assert output_error([array], [X]) == pytest.approx(error, rel=1e-3)


def test_output_error_of_several() -> None:
    assert output_error([X, X], [X]) == np.inf
    assert output_error([X, X + 1.3], [X, X]) == pytest.approx(0.1)
    assert output_error([np.zeros(3)], [np.zeros(3)]) == 0.0
    assert output_error([np.zeros((0, 2))], [np.zeros((0, 2))]) == 0.0
    assert output_error([np.full(3, 1e-3)], [np.zeros(3)]) == 1e-3


@pytest.mark.parametrize("field", [{"threads": 0}, {"rounds": 0}, {"seconds": 0.0}, {"seconds": float("nan")}, {"profile": -1}])
def test_unusable_settings(field: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="unusable number"):
        Settings(**field)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_cores_are_the_last_of_those_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 1, 3})
    assert choose_cpus(1) == (5,)
    assert choose_cpus(2) == (3, 5)
    assert choose_cpus(4) is None
