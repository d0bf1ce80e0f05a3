"""The file of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.results import load, merge, save
from strop.errors import OptionError
from tests.bench import made


def some() -> made.Results:
    return made.results(
        made.result(made.row("first", (1.0, 2.0), a=(2.0, 4.0)), layers=made.LAYERS),
        made.result(made.bad("second", "wrong"), peaks=None),
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    save(some(), tmp_path / "r.json")
    assert load(tmp_path / "r.json") == some()
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("format"),
        lambda d: d.update(format=99),
        lambda d: d.pop("results"),
        lambda d: d.update(results=[3]),
        lambda d: d["results"][0].pop("row"),
        lambda d: d["results"][0].update(more=1),
        lambda d: d["results"][0]["row"]["entries"][0].update(rounds="fast"),
        lambda d: d["results"][0]["row"]["ratio"].update(median=-1.0),
        lambda d: d["results"][0]["row"]["ratio"].update(low=float("nan")),
        lambda d: d["results"][0]["row"]["ratios"]["a"].update(high="x"),
        lambda d: d["results"][0]["peaks"].pop("flops"),
        lambda d: d["results"][0]["layers"].append({}),
    ],
)
def test_a_damaged_file_is_named(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    save(some(), path)
    found = json.loads(path.read_text("utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(OptionError, match="not a file of results") as error:
        load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000])
def test_a_file_that_is_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match="not a file of results"):
        load(tmp_path / "r.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot read"):
        load(tmp_path / "r.json")
    with pytest.raises(OptionError, match="cannot write"):
        save(some(), tmp_path / "no" / "r.json")


def test_later_runs_replace_earlier_ones() -> None:
    first, again = made.row("net", (1.0,), a=(2.0,)), made.row("net", (1.0,), a=(3.0,))
    other = made.row("net", (1.0,), 2, a=(2.0,))
    found = merge([made.results(made.result(first), made.result(other)), made.results(made.result(again))])
    assert [(r.row.threads, r.row.ratio.median) for r in found.results if r.row.ratio] == [(1, 3.0), (2, 2.0)]


def test_machines_are_not_mixed() -> None:
    with pytest.raises(OptionError, match="different machines"):
        merge([made.results(), made.results(cpu="another")])
