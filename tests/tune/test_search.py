"""Which candidates are measured, dropped and chosen, and what is remembered. Nothing here depends
on which one is fast."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from strop.errors import KernelError
from strop.kernels.base import Candidate
from strop.target.detect import TARGETS, host, runs_here
from strop.trace import Trace
from strop.tune import records as rec
from strop.tune import search
from strop.tune.records import Key, Records
from strop.tune.search import tune
from tests.tune.planted import (
    candidate,
    chosen,
    distinct,
    label,
    ordered,
    planted,
    program,
    quiet,
    relu_region,
    step,
)

GOOD = ["right", "right too"]
BAD = {
    "wrong": "its result is wrong",
    "wrong at one place": "its result is wrong",
    "nothing": "its result is wrong",
    "past its result": "its result is wrong",
    "before its result": "its result is wrong",
    "past its scratch": "its result is wrong",
    "scratch taken for zero": "its result is wrong",
    "reads around its operand": "its result is wrong",
    "tasks in order": "its result is wrong",
    "crash": "it crashes",
    "trap": "it crashes",
    "crash when the caches are cold": "it crashes",
    "hang": "it does not end",
    "does not compile": "it does not compile",
    "does not link": "it does not compile",
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_candidate_is_dropped(bad: str, records: Path, request: pytest.FixtureRequest) -> None:
    """The favourite is harmful: it loses only itself, is noted and recorded, and not tried
    again."""
    trace = quiet()
    lowered = planted(bad, *GOOD)
    tune(lowered, 3, 60.0, trace)
    (only,) = lowered.steps
    assert [c.params.body for c in only.candidates] == GOOD
    assert only.chosen.params.body in GOOD and only.seconds is not None and only.seconds > 0
    assert trace.notes == [f"tune: {label(bad)} is not used for relu: {BAD[bad]}"]

    request.getfixturevalue("no_worker")
    again, later = planted(bad, *GOOD), quiet()
    tune(again, 3, 60.0, later)
    assert chosen(again) == chosen(lowered) and later.notes == trace.notes


def test_many_bad_candidates_at_once() -> None:
    lowered = planted(
        "hang", "right", "crash", "does not compile", "wrong", "trap", "right too", "nothing"
    )
    tune(lowered, 5, 120.0, quiet())
    assert [c.params.body for c in lowered.steps[0].candidates] == GOOD


def test_a_crash_is_not_blamed_on_the_next_candidate(started: list[int]) -> None:
    lowered = planted("leaves damage", "suffers damage")
    tune(lowered, 3, 60.0, quiet())
    assert [c.params.body for c in lowered.steps[0].candidates] == [
        "leaves damage",
        "suffers damage",
    ]
    assert len(started) > 1


def test_all_wrong_is_an_error() -> None:
    with pytest.raises(KernelError) as caught:
        tune(planted("wrong", "crash"), 3, 60.0, quiet())
    error = caught.value
    assert error.where == "relu" and error.hint
    assert error.got == f"{label('wrong')}: its result is wrong; {label('crash')}: it crashes"


def test_overwriting_an_operand_is_checked_where_promised() -> None:
    honest = planted("writes early", "right")
    tune(honest, 3, 60.0, quiet())
    assert [c.params.body for c in honest.steps[0].candidates] == ["writes early", "right"]
    promised = planted("writes early", "right", in_place=True)
    promised.steps[0].region = relu_region("in place", (1000, 1))
    tune(promised, 3, 60.0, quiet())
    assert [c.params.body for c in promised.steps[0].candidates] == ["right"]


def test_level_0_measures_nothing(no_worker: None, records: Path) -> None:
    trace = quiet()
    lowered = planted("wrong", *GOOD)
    tune(lowered, 0, None, trace)
    assert chosen(lowered) == [(label("wrong"), None, [label(b) for b in ("wrong", *GOOD)])]
    assert not records.exists() and trace.notes == []


@pytest.mark.parametrize(("level", "count"), [(1, 2), (2, 3), (5, 3)])
def test_level_is_how_many_are_measured(level: int, count: int, records: Path) -> None:
    lowered = planted("right", "right too", "right again")
    tune(lowered, level, 60.0, quiet())
    assert len(stored(records)) == count


def test_a_dropped_candidate_makes_room_for_the_next(records: Path) -> None:
    lowered = planted("wrong", "nothing", "right", "right too", "right again")
    tune(lowered, 1, 60.0, quiet())
    results = {key.candidate: result for key, result in stored(records).results.items()}
    assert results.keys() == {label(b) for b in ("wrong", "nothing", "right", "right too")}
    assert results[label("wrong")] == results[label("nothing")] == "wrong"


def test_equal_regions_are_measured_once(records: Path) -> None:
    lowered = program(*(step(relu_region(name), ordered(GOOD)) for name in ("one", "two")))
    tune(lowered, 3, 60.0, quiet())
    assert len(stored(records)) == 2
    assert lowered.steps[0].chosen.label == lowered.steps[1].chosen.label
    assert lowered.steps[0].seconds == lowered.steps[1].seconds


def test_a_region_without_choice_is_measured_from_level_3(
    records: Path, request: pytest.FixtureRequest
) -> None:
    tune(planted("right"), 3, 60.0, quiet())
    assert len(stored(records)) == 1
    (records / f"{host()}.txt").unlink()
    request.getfixturevalue("no_worker")
    tune(planted("right"), 2, 60.0, quiet())


def test_budget_0_keeps_the_favourites(no_worker: None) -> None:
    trace = quiet()
    lowered = distinct(3, *GOOD)
    tune(lowered, 3, 0.0, trace)
    assert [s.chosen.params.body for s in lowered.steps] == ["right"] * 3
    assert trace.notes == [
        "tune: the budget of 0 s ended with 3 of 3 distinct regions not fully measured; "
        "they keep the fastest candidate known, or the estimate's favourite"
    ]


def test_budget_ends_after_the_region_being_measured(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(search.time, "monotonic", lambda: now[0])
    trace = quiet()

    def progress(stage: str, done: int, total: int) -> None:
        now[0] += 40.0 if done else 0.0

    trace.progress = progress
    lowered = distinct(4, *GOOD)
    tune(lowered, 3, 50.0, trace)
    assert [s.seconds is not None for s in lowered.steps] == [True, True, False, False]
    assert "2 of 4 distinct regions" in trace.notes[0]

    trace = quiet()
    tune(distinct(4, *GOOD), 3, 50.0, trace)  # goes on where the last one ended
    assert trace.notes == [] and len(stored(records)) == 8


def test_the_largest_share_comes_first() -> None:
    """Three steps of one kind weigh more than one of another; a region without choice comes
    last."""
    seen: list[str] = []
    alone = step(relu_region("alone"), [candidate("right")])
    single = step(relu_region("single", (1000, 1)), ordered(GOOD))
    many = [step(relu_region(f"many{k}", (1, 1000)), ordered(GOOD)) for k in range(3)]
    tasks = search._tasks(program(alone, single, *many))
    seen = [task.region.name for task in tasks]
    assert seen == ["many0", "single", "alone"]
    assert [len(task.steps) for task in tasks] == [3, 1, 1]


def test_rivals_are_tried_early() -> None:
    class Other(type(candidate("right").kernel)):  # type: ignore[misc]
        name = "other"

    first = [candidate(b) for b in ("right", "right too", "right again")]
    rival = Candidate(Other(), first[0].params)
    tried = search._order([*first, rival], [1.0, 1.1, 1.2, 2.9])
    assert [c.label for c in tried] == [c.label for c in (first[0], rival, first[1], first[2])]
    tried = search._order([*first, rival], [1.0, 1.1, 1.2, 3.1])
    assert tried[-1] is rival


def test_interrupt_keeps_what_is_known(records: Path, started: list[int]) -> None:
    trace = quiet()

    def progress(stage: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    trace.progress = progress
    lowered = distinct(3, *GOOD)
    tune(lowered, 3, 60.0, trace)
    assert [s.seconds is not None for s in lowered.steps] == [True, False, False]
    assert len(stored(records)) == 2
    assert trace.notes == [
        "tune: measuring was interrupted with 2 of 3 distinct regions not fully measured; "
        "they keep the fastest candidate known, or the estimate's favourite"
    ]
    assert len(started) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_swallowed_interrupt_is_noticed(records: Path) -> None:
    """Extension modules may drop the exception while they are imported."""
    trace = quiet()

    def progress(stage: str, done: int, total: int) -> None:
        if done == 1:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    trace.progress = progress
    before = signal.getsignal(signal.SIGINT)
    tune(distinct(3, *GOOD), 3, 60.0, trace)
    assert "measuring was interrupted with 2 of 3" in trace.notes[0]
    assert signal.getsignal(signal.SIGINT) is before


_SCRIPT = """
import sys
from strop.trace import Trace
from strop.tune import measure, search
from tests.tune.planted import planted
measure.PATIENCE = 300.0
search.path_of = lambda target: __import__("pathlib").Path(sys.argv[1]) / "r.txt"
open_ = search.Bench.open
def opened(self, library):
    found = open_(self, library)
    print("measuring", flush=True)
    return found
search.Bench.open = opened
lowered, trace = planted("hang", "right"), Trace()
search.tune(lowered, 3, 600.0, trace)
print(trace.notes[0], lowered.steps[0].chosen.params.body)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process group")
def test_ctrl_c_while_a_kernel_runs(tmp_path: Path) -> None:
    """As a terminal does it: the whole process group gets the signal."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "src")])
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "measuring was interrupted with 1 of 1" in out and out.endswith("hang\n")


# ---- records decide


def key(body: str, region_digest: str, **changes: object) -> Key:
    target = host().with_cores(1)
    kernel = candidate(body).kernel
    plain: dict[str, object] = {
        "digest": region_digest,
        "cpu": rec.cpu_of(target),
        "threads": 1,
        "weights": "l2",
        "candidate": label(body),
        "code": rec.code_of(kernel),
    }
    return Key(**{**plain, **changes})  # type: ignore[arg-type]


def stored(folder: Path) -> Records:
    return Records.read(folder / f"{host()}.txt", lambda note: pytest.fail(note))


def store(folder: Path, results: dict[Key, int | str], name: str = "") -> None:
    records = Records()
    for k, result in results.items():
        records.put(k, result)
    records.write(folder / f"{name or host()}.txt")


def test_the_fastest_record_is_chosen(records: Path, no_worker: None) -> None:
    digest = relu_region().digest()
    store(
        records,
        {key("right", digest): 900, key("right too", digest): 700, key("right again", digest): 700},
    )
    lowered = planted("right", "right too", "right again")
    tune(lowered, 3, None, quiet())
    assert (
        lowered.steps[0].chosen.label == label("right too") and lowered.steps[0].seconds == 700e-9
    )


def test_a_record_beyond_the_level_counts(records: Path, no_worker: None) -> None:
    digest = relu_region().digest()
    store(
        records,
        {key("right", digest): 900, key("right too", digest): 800, key("right again", digest): 100},
    )
    lowered = planted("right", "right too", "right again")
    tune(lowered, 1, None, quiet())
    assert lowered.steps[0].chosen.label == label("right again")


@pytest.mark.parametrize(
    "change",
    [{"code": "01234567"}, {"cpu": "other/1K/1K/1K"}, {"threads": 2}, {"weights": "memory"}],
)
def test_records_of_something_else_do_not_count(
    change: dict[str, object], records: Path, started: list[int]
) -> None:
    digest = relu_region().digest()
    store(records, {key(b, digest, **change): 5 for b in GOOD})
    tune(planted(*GOOD), 3, 60.0, quiet())
    assert len(started) == 1 and len(stored(records)) == 4


def test_another_program_s_lines_stay(records: Path) -> None:
    other = key("right", "0123456789abcdef")
    store(records, {other: 5})
    tune(planted(*GOOD), 3, 60.0, quiet())
    assert stored(records).results[other] == 5 and len(stored(records)) == 3


def test_foreign_target_uses_records_of_its_processor(records: Path, no_worker: None) -> None:
    foreign = next(t for t in TARGETS.values() if not runs_here(t))
    digest = relu_region().digest()
    results: dict[Key, int | str] = {
        key("right", digest, cpu="board/1K/2K/3K"): 900,
        key("right too", digest, cpu="board/1K/2K/3K"): 800,
        key("right", digest, cpu="another/1K/2K/3K"): 100,
    }
    store(records, results, str(foreign))
    trace = quiet()
    lowered = planted(*GOOD)
    lowered.target = foreign.with_cores(1)
    tune(lowered, 3, None, trace)
    assert lowered.steps[0].chosen.label == label("right too") and trace.notes == []


def test_foreign_target_without_records_is_noted(no_worker: None) -> None:
    foreign = next(t for t in TARGETS.values() if not runs_here(t))
    trace = quiet()
    lowered = planted(*GOOD)
    lowered.target = foreign.with_cores(1)
    tune(lowered, 3, None, trace)
    assert lowered.steps[0].chosen.label == label("right")
    assert trace.notes == [
        "tune: 1 of 1 distinct regions are chosen by estimate, because this machine does not run "
        f"{foreign} and the records do not cover them"
    ]


# ---- what it tells


def test_progress_and_debug_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    trace = Trace(tmp_path / "dump", debug=2)
    trace.progress = lambda stage, done, total: told.append((done, total))
    lowered = distinct(2, "wrong", *GOOD)
    tune(lowered, 3, 60.0, trace)
    assert told == [(0, 2), (1, 2), (2, 2)]
    text = capsys.readouterr().err
    winner = lowered.steps[0].chosen.label
    assert f"* {winner}: " in text and f"  {label('wrong')}: wrong, estimated" in text
    dump = (tmp_path / "dump" / "00_tune.choices.txt").read_text()
    assert dump.count("*") == 2 and dump in text
