"""Latency statistics, intervals, and the measurement of an engine."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from strop.engine import resident as module
from strop.engine import step_rates
from strop.engine.bench import Latency, bench, time_calls, wilson
from strop.engine.describe import describe
from strop.engine.roofline import precisions_of
from strop.errors import InputError, OptionError, ToolchainError
from strop.target.detect import host
from tests import tiny_net


def test_latency_in_milliseconds() -> None:
    found = Latency.of([n * 1_000_000 for n in range(1, 101)])
    assert (found.min, found.mean, found.max) == (1.0, 50.5, 100.0)
    assert found.p50 == pytest.approx(50.5)
    assert found.p90 == pytest.approx(90.1)
    assert found.p99 == pytest.approx(99.01)
    assert found.std == pytest.approx(np.std(np.arange(1, 101)))


def test_no_run_has_no_latency() -> None:
    with pytest.raises(OptionError):
        Latency.of([])


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [  # R. G. Newcombe, 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(right: int, of: int, low: float, high: float) -> None:
    assert wilson(right, of) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_narrows() -> None:
    low, high = wilson(3, 10)
    assert wilson(7, 10) == pytest.approx((1 - high, 1 - low))
    near_low, near_high = wilson(300, 1000)
    assert low < near_low < 0.3 < near_high < high


@pytest.mark.parametrize(("right", "of"), [(0, 0), (3, 2), (-1, 5)])
def test_no_proportion(right: int, of: int) -> None:
    with pytest.raises(OptionError):
        wilson(right, of)


def test_calls_are_counted_or_timed() -> None:
    calls: list[int] = []
    assert len(time_calls(lambda: calls.append(1), runs=7)) == 7 == len(calls)
    assert len(time_calls(lambda: None, seconds=0.0, least=3)) == 3
    many = time_calls(lambda: None, seconds=0.02)
    assert len(many) > 3 and sum(many) <= 0.1e9


def test_throughput_agrees_with_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    report = bench(tiny_net.engine(), runs=200, warmup=5, threads=1)
    assert (report.runs, report.warmup_runs, report.batch, report.threads) == (200, 5, 1, 1)
    assert report.qps == pytest.approx(report.runs / report.seconds)
    assert report.samples_per_s == pytest.approx(report.qps)
    assert report.latency.mean * report.runs <= report.seconds * 1e3
    assert report.steps == ()


def test_memory_is_the_engines() -> None:
    engine = tiny_net.engine()
    memory = bench(engine, runs=3, warmup=0).memory
    assert memory["weights"] == engine.memory.weights > 0
    assert memory["arena"] == engine.memory.arena > 0
    assert memory["code"] == engine.manifest["memory"]["code"] > 0
    peak = memory["host_peak"]
    assert peak is None or peak > 1 << 20


def test_the_peak_is_that_of_the_measurement() -> None:
    if not module.reset_peak():
        pytest.skip("the system keeps no peak")
    before = module.peak()
    ballast = np.ones(64 << 20, np.uint8)
    during = module.peak()
    assert before is not None and during is not None
    assert during - before > ballast.nbytes * 0.9
    del ballast
    assert module.reset_peak()
    after = module.peak()
    assert after is not None and after < during - (32 << 20)


def test_report_is_json() -> None:
    found = json.loads(json.dumps(bench(tiny_net.engine(), runs=2, warmup=0, per_step=True).to_json()))
    assert found["model"] == "tiny" and found["runs"] == 2
    assert {"min", "mean", "p50", "p90", "p95", "p99", "max", "std", "low", "high"} == set(found["latency_ms"])
    assert [step["name"] for step in found["steps"]] == ["conv1", "conv2", "fc"]


def test_steps_are_set_against_the_peak_of_their_precision() -> None:
    engine = tiny_net.engine()
    report = bench(engine, runs=10, warmup=0, per_step=True)
    steps = describe(engine).steps
    assert set(report.peaks) == set(precisions_of(host()))
    for rate, step in zip(report.steps, steps, strict=True):
        assert rate.kernel == step.kernel and rate.precision == "fp32"
        assert 0 < rate.operations <= step.flops  # an epilogue is no part of a product
        assert rate.of_peak == pytest.approx(1e9 * rate.operations / rate.nanoseconds / report.peaks["fp32"])
        assert 0 < rate.of_peak < 4  # Winograd's algorithm saves multiplications
    assert not bench(engine, runs=1, warmup=0).peaks


def test_without_a_compiler_there_are_times_and_no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ToolchainError("no C compiler")

    engine = tiny_net.engine()
    monkeypatch.setattr(step_rates, "MultiplyAdds", missing)
    report = bench(engine, runs=2, warmup=0, per_step=True)
    assert not report.peaks and all(step.of_peak is None and step.nanoseconds > 0 for step in report.steps)


@pytest.mark.parametrize(
    ("kind", "inputs", "out", "wanted"),
    [
        ("integer_conv", ("u8[1,64,56,56]:(200704,1,3584,64)", "i8[256,64,1,1]:(64,1,1,1)"), "u8[1,256,56,56]:(802816,1,14336,256)", 2 * 256 * 64 * 56 * 56),
        ("conv", ("f32[2,8,9,9]:(648,81,9,1)", "f32[16,4,3,3]:(36,9,3,1)"), "f32[2,16,7,7]:(784,49,7,1)", 2 * 2 * 16 * 49 * 36),
        ("matmul", ("bf16[3,5,7]:(35,7,1)", "bf16[7,11]:(11,1)"), "bf16[3,5,11]:(55,11,1)", 2 * 3 * 5 * 7 * 11),
        ("matmul", ("f32[n,7]:(7,1)", "f32[7,11]:(11,1)"), "f32[n,11]:(11,1)", 0),
        ("max_pool", ("f32[1,4,8,8]:(256,64,8,1)", None), "f32[1,4,4,4]:(64,16,4,1)", 0),
    ],
)
def test_operations_of_a_product(kind: str, inputs: tuple[str | None, ...], out: str, wanted: int) -> None:
    step = replace(describe(tiny_net.engine()).steps[0], kind=kind, inputs=inputs, outputs=(out,))
    assert step_rates._operations(step) == wanted


def test_given_inputs_are_checked() -> None:
    with pytest.raises(InputError, match="wrong shape"):
        bench(tiny_net.engine(), {"x": np.zeros((1, 3, 8, 9), np.float32)}, runs=1)


@pytest.mark.parametrize("option", [{"runs": 0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"warmup": -1}, {"runs": 1 << 30}])
def test_unusable_numbers(option: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="unusable number"):
        bench(tiny_net.engine(), **option)  # type: ignore[arg-type]
