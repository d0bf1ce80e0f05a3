"""What measurements, budgets of arenas, reports and sweeps refuse, and how they say so."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from strop.cli.output import parse_size
from strop.engine.engine import Engine
from strop.engine.report import report
from strop.engine.streams import bench_streams
from strop.engine.sweep import sweep
from strop.errors import EngineFileError, OptionError, RuntimeFailure, StropError
from strop.runtime.arena_pool import ArenaPool
from strop.runtime.error_struct import ErrorStruct
from tests import tiny_net


def told(error: pytest.ExceptionInfo[StropError], *words: str) -> None:
    text = str(error.value)
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"


def test_a_budget_that_is_too_small() -> None:
    with pytest.raises(OptionError) as error:
        bench_streams([tiny_net.engine()], 2, budget=4096)
    told(error, "the budget of arenas is too small for the engine", "4096 bytes", "at least", "--arena-budget")


def test_budgets_that_are_none() -> None:
    for size, words in ((0, "bytes, more than 0"), (1 << 62, "the system has no such budget of arenas")):
        with pytest.raises(OptionError) as error:
            ArenaPool(size)
        told(error, words)
    with pytest.raises(OptionError) as error:
        parse_size("much", "--arena-budget")
    told(error, "unusable number of bytes", "--arena-budget", "much", "K, M or G")
    assert [parse_size(t, "") for t in ("4096", "1.5K", "64M", "2 GiB", "3kb")] == [4096, 1536, 64 << 20, 2 << 30, 3072]


def test_an_engine_whose_runtime_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_net.engine_file())
    monkeypatch.delattr(engine.session._lib, "strop_context_create_lean")
    with pytest.raises(EngineFileError) as error:
        engine.context(arenas=ArenaPool(1 << 20))
    told(error, "the runtime in the engine file cannot share arenas", "build the engine again")


def test_the_runtime_refuses_memory_that_does_not_fit() -> None:
    engine = Engine(tiny_net.engine_file())
    library, where = engine.session._lib, str(engine.path)
    pool = ArenaPool(1 << 20)
    lean, own, error = engine.context(threads=1, arenas=pool), engine.context(threads=1), ErrorStruct()

    def lend(context: object, address: int | None, size: int) -> str:
        code = library.strop_context_lend(context._handle, address, size, ctypes.byref(error))  # type: ignore[attr-defined]
        with pytest.raises(RuntimeFailure) as failure:
            library.check(code, error, where)
        return str(failure.value)

    assert "has memory of its own" in lend(own, pool._base, pool.size)
    assert f"{lean.room} are needed" in lend(lean, pool._base, lean.room - 1)
    assert "aligned to 64" in lend(lean, pool._base + 8, pool.size - 8)
    slots = (ctypes.c_void_p * 1)(pool._base), (ctypes.c_void_p * 1)(pool._base)
    code = library.strop_context_call(lean._handle, *slots, ctypes.byref(error))
    with pytest.raises(RuntimeFailure, match="was lent no memory"):
        library.check(code, error, where)


@pytest.mark.parametrize("streams", [0, 257])
def test_impossible_numbers_of_streams(streams: int) -> None:
    with pytest.raises(OptionError) as error:
        bench_streams([tiny_net.engine()], streams)
    told(error, "unusable number of streams", "1 to 256")


def test_reports_of_no_engine_and_of_too_many(tmp_path: Path) -> None:
    for engines in ([], [tiny_net.engine()] * 13):
        with pytest.raises(OptionError) as error:
            report(engines)
        told(error, "unusable number of engines for a report", "1 to 12")
    with pytest.raises(OptionError) as error:
        report(tiny_net.engine(), run=False).save(tmp_path / "no" / "page.html")
    told(error, "cannot write the report", "write elsewhere")


@pytest.mark.parametrize("value", ["all", [["x", 0, 4, 2, 1]], [["x", 0, 4, 0, 99]], [["x", 0, 4]], [[1, 0, 4, 0, 0]]])
def test_a_report_of_a_spoilt_manifest(value: object) -> None:
    engine = Engine(tiny_net.engine_file())
    engine._manifest = {**engine.manifest, "buffers": value}
    with pytest.raises(EngineFileError) as error:
        report(engine, run=False)
    told(error, "the manifest of the engine is malformed", "buffers")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precisions": ["fp31"]}, ("unknown precision", "fp31", "int8")),
        ({"precisions": []}, ("nothing to sweep",)),
        ({"goal": "beauty"}, ("unknown goal", "latency, throughput")),
        ({"threads": [0]}, ("unusable threads", "1 to 4096")),
        ({"batches": [5000]}, ("unusable batch",)),
        ({"targets": ["aarch64"]}, ("cannot measure the target", "aarch64", "strop check")),
        ({"max_drop": float("nan")}, ("unusable max_drop",)),
    ],
)
def test_sweeps_that_cannot_be(options: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(OptionError) as error:
        sweep(tiny_net.model_file(), **options)  # type: ignore[arg-type]
    told(error, *words)
