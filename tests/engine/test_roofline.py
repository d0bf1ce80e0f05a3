"""The measured limits of the machine."""

from __future__ import annotations

import re

import pytest

from bench import roofline as command
from strop.codegen import toolchain
from strop.engine import roofline
from strop.errors import TargetError
from strop.target.detect import TARGETS, host, parse, runs_here

X86 = [t for t in TARGETS.values() if t.arch == "x86_64" and t.isa in ("avx2", "avx512")]


@pytest.mark.parametrize("target", X86, ids=str)
def test_the_loop_is_nothing_but_multiply_adds(target: object) -> None:
    text = toolchain.assembly(roofline.source(target), target)  # type: ignore[arg-type]
    body = text[text.index("peak_fp32:") : text.index("peak_copy:")]
    register, count = {"avx2": ("ymm", 12), "avx512": ("zmm", 24)}[target.isa]  # type: ignore[attr-defined]
    loops = re.findall(r"^(\.LBB\w+):[^\n]*\n(.*?)^\s+j\w+\s+\1$", body, re.M | re.S)
    assert any(len(re.findall(rf"vfmadd\w+ps.*{register}", loop)) == count and "(%r" not in loop for _, loop in loops), body
    copy = text[text.index("peak_copy:") :]
    stored = [{"y": 32, "z": 64}[kind] for kind in re.findall(r"vmovnt\w+\s+%([yz])mm", copy)]
    assert sum(stored) == 4 * {"ymm": 32, "zmm": 64}[register], copy  # a loop of four vectors, all past the caches


@pytest.mark.parametrize(
    ("name", "precision", "instruction", "count"),
    [
        ("x86-64-v4+avx512bf16", "bf16", r"vdpbf16ps[^\n]*zmm", 24),
        ("x86-64-v4+avx512vnni", "int8", r"vpdpbusd[^\n]*zmm", 24),
        ("x86-64-v3+avxvnni", "int8", r"vpdpbusd[^\n]*ymm", 12),
    ],
)
def test_dot_products_are_measured_where_there_are_some(name: str, precision: str, instruction: str, count: int) -> None:
    target = parse(name)
    text = toolchain.assembly(roofline.source(target), target)
    body = text[text.index(f"peak_{precision}:") :]
    assert len(re.findall(instruction, body)) >= count and not re.findall(rf"{instruction[:8]}[^\n]*\(%r", body)
    assert not roofline.has_dots(parse("x86-64-v3"), precision)
    if runs_here(target):
        peak = getattr(roofline._library(target), f"peak_{precision}")
        assert peak(3) == sum(range(count))


def test_multiply_adds_of_every_precision_in_turns() -> None:
    here = host()
    adds = roofline.MultiplyAdds(here, 1, None)
    adds.measure(2)
    assert set(adds.rates) == set(roofline.precisions_of(here)) >= {"fp32"}
    assert all(1e9 < rate < 1e14 for rate in adds.rates.values())
    before = dict(adds.rates)
    adds.measure()
    assert all(adds.rates[precision] >= rate for precision, rate in before.items())


def test_every_target_has_kernels() -> None:
    for target in TARGETS.values():
        assert toolchain.compile_all([roofline.source(target)], target)


def test_peaks_are_those_of_a_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "COPY_BYTES", 8 << 20)
    monkeypatch.setattr(roofline, "FMA_REPEATS", 3)
    monkeypatch.setattr(roofline, "COPY_REPEATS", 2)
    one = roofline.measure(host(), 1, None)
    assert 1e9 < one.flops < 1e13 and 1e8 < one.bandwidth < 1e13


def test_another_machine_is_refused() -> None:
    foreign = next(t for t in TARGETS.values() if not runs_here(t))
    with pytest.raises(TargetError, match="does not run the target"):
        roofline.measure(foreign, 1, None)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--target", "vax"]) == 1
    assert "unknown target" in capsys.readouterr().err
