"""The gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gate
from bench.gate import Record, judge, record
from bench.results import Result, Results, save
from strop.engine.versus import Entry
from strop.errors import OptionError
from tests.bench import made

KEY = "net threads=1 batch=1 target=x86-64-v4"


def run(*ratios: float, net: str = "net") -> Results:
    """One net with these ratios round by round."""
    return made.results(made.result(made.row(net, (1.0,) * len(ratios), a=ratios)))


def verdict(results: Results, ratio: float, noise: float) -> str:
    (found,) = judge(results, {KEY: Record(ratio, noise)})
    return found.verdict


@pytest.mark.parametrize(
    ("now", "noise", "expected"),
    [
        (2.0, 0.0, "ok"),
        (3.0, 0.0, "ok"),  # faster is never wrong
        (1.95, 0.0, "ok"),  # 2.5 % less
        (1.93, 0.0, "slower"),  # 3.5 % less
        (1.93, 0.012, "ok"),  # three times 1.2 % is allowed
        (1.92, 0.012, "slower"),  # 4 % less
        (1.95, 0.001, "ok"),  # never less than 3 %
    ],
)
def test_more_than_its_noise(now: float, noise: float, expected: str) -> None:
    assert verdict(run(now), 2.0, noise) == expected


def test_what_is_missing_or_bad_does_not_hold() -> None:
    assert verdict(run(2.0, net="other"), 2.0, 0.0) == "missing"
    for status in ("wrong", "failed", "alone"):
        assert verdict(made.results(made.result(made.bad("net", status))), 2.0, 0.0) == status


def test_other_threads_and_batches_are_other_nets() -> None:
    for fields in ({"batch": 8}, {"target": "x86-64-v3"}):
        other = made.results(made.result(made.row("net", (1.0,), a=(2.0,)), **fields))
        assert verdict(other, 2.0, 0.0) == "missing"
    assert verdict(made.results(made.result(made.row("net", (1.0,), 2, a=(2.0,)))), 2.0, 0.0) == "missing"


def test_disturbed_figures_are_marked() -> None:
    busy = made.row("net", (1.0,), 1, Entry("b", "timed", ms=1.0, waited=0.5), a=(2.0,))
    (found,) = judge(made.results(made.result(busy)), {KEY: Record(2.0, 0.0)})
    assert found.disturbed and found.verdict == "ok"


def test_noise_of_one_run_is_that_of_its_rounds() -> None:
    assert record([run(2.0, 2.02, 1.98)])[KEY] == Record(2.0, pytest.approx(1.482602 * 0.01))


def test_noise_of_several_runs_is_that_between_them() -> None:
    found = record([run(2.0), run(1.9), run(2.04)])[KEY]
    assert found.ratio == 2.0
    assert found.noise == pytest.approx((2.04 - 1.9) / 2 / 2.0)


@pytest.mark.parametrize("status", ["wrong", "failed"])
def test_bad_results_are_not_recorded(status: str) -> None:
    with pytest.raises(OptionError, match="bad result"):
        record([made.results(made.result(made.bad("net", status)))])


def test_noise_that_lets_anything_through_is_not_recorded() -> None:
    with pytest.raises(OptionError, match=r"too noisy to record[\s\S]*net threads=1"):
        record([run(1.5, 2.0, 2.5)])


def test_record_and_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("first.json", "slow.json", "recorded.json")]
    first, slow, recorded = map(str, files)
    save(run(2.0, 2.0), files[0])
    save(run(1.5, 1.5), files[1])
    assert gate.main([first, "--recorded", recorded]) == 2
    assert "nothing is recorded" in capsys.readouterr().err
    assert gate.main(["--update", first, "--recorded", recorded]) == 0
    assert gate.main([first, "--recorded", recorded]) == 0
    assert "all 1 hold" in capsys.readouterr().out
    assert gate.main([slow, "--recorded", recorded]) == 1
    shown = capsys.readouterr().out
    assert "slower" in shown and "-25.0" in shown and "1 of 1 do not hold" in shown


def test_updates_keep_other_nets(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.json"
    for name, net in (("a.json", "net"), ("b.json", "other")):
        save(run(2.0, net=net), tmp_path / name)
        assert gate.main(["--update", str(tmp_path / name), "--recorded", str(recorded)]) == 0
    assert [key.split()[0] for key in gate.read(recorded)[1]] == ["net", "other"]


def test_another_processor_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded, other = tmp_path / "recorded.json", tmp_path / "other.json"
    save(run(2.0), tmp_path / "here.json")
    gate.update(recorded, [tmp_path / "here.json"])
    results: list[Result] = list(run(2.0).results)
    save(made.results(*results, cpu="another"), other)
    assert gate.main([str(other), "--recorded", str(recorded)]) == 2
    assert "another processor" in capsys.readouterr().err


@pytest.mark.parametrize(
    "found",
    [[], {}, {"format": 1}, {"format": 1, "cpu": "x", "records": {"k": {"ratio": -1, "noise": 0}}},
     {"format": 1, "cpu": "x", "records": {"k": {"ratio": "nan", "noise": 0}}}, {"format": 9, "cpu": "x", "records": {}}],
)  # fmt: skip
def test_a_damaged_record_is_named(found: object, tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(OptionError, match="not a file of recorded ratios"):
        gate.read(path)
