"""strop knobs."""

from __future__ import annotations

import json

import pytest

from strop.knobs import inventory
from tests.cli.conftest import Strop


def test_every_knob_with_its_value(strop: Strop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_THREADS", "7")
    rows = {row["name"]: row for row in json.loads(strop("knobs", "--json").out)}
    assert set(rows) == {knob.name for knob in inventory()}
    assert (rows["STROP_THREADS"]["value"], rows["STROP_THREADS"]["default"]) == (7, 0)
    text = strop("knobs").out
    assert all(knob.name in text and knob.doc in text for knob in inventory())


def test_an_unusable_value_is_named(strop: Strop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_JOBS", "two")
    done = strop("knobs")
    assert done.code == 1 and "STROP_JOBS" in done.err and "'two'" in done.err
