"""A slice of hostile files with a fresh seed, and that the attack notices what it looks for."""

from __future__ import annotations

import os
import secrets
import signal
import time
from random import Random

import numpy as np
import pytest

from tests.fuzz import files, mutate


def test_hostile_files_are_refused_or_read(fuzz_seed: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    first = fuzz_seed if fuzz_seed is not None else secrets.randbelow(1 << 31)
    with capsys.disabled():
        print(f"\nmutations from {first}; STROP_FUZZ_SEED={first} repeats them")
    report = files.attack(first, 1000)
    assert not report.defects, report.defects
    assert sum(report.done.values()) == 1000 and set(report.done) == set(files.KINDS)
    assert report.refused > 300 and report.accepted > 50


def test_crashes_hangs_memory_and_other_errors_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(rng: Random, folder: object) -> None:
        what = rng.seen  # type: ignore[attr-defined]
        if what == 1:
            raise KeyError("nothing")
        if what == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == 3:
            time.sleep(60)
        if what == 4:
            np.ones(1 << 33, np.uint8)

    class Seen(Random):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self.seen = seed

    monkeypatch.setattr(files, "Random", Seen)
    monkeypatch.setattr(files, "PATIENCE", 1.0)
    monkeypatch.setitem(files._ACTIONS, "records", act)
    report = files.attack(0, 6, ("records",))
    text = "\n".join(report.defects)
    assert sum(map(len, report.defects.values())) == 4 and report.accepted == 2
    assert "KeyError" in text and "ended with -9" in text and "no answer" in text and "MemoryError" in text


def test_mutations_are_decided_by_their_generator() -> None:
    (engine, *_), model = files._engines(), files._models()[0]
    for seed in range(30):
        assert mutate.mutated_engine(engine, Random(seed)) == mutate.mutated_engine(engine, Random(seed))
        assert mutate.mutated_model(model, Random(seed)) == mutate.mutated_model(model, Random(seed))


def test_most_engine_mutations_pass_the_checksums() -> None:
    engine = files._engines()[0]
    errors: list[str] = []
    for seed in range(60):
        data = mutate.mutated_engine(engine, Random(seed))
        try:
            files.EngineFile(data)
        except files.StropError as error:
            errors.append(str(error))
    assert len(errors) < 30
