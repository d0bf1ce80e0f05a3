"""Custom layers in the native runtime: the C interface, and files that lie about them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.engine import custom_section as cs
from strop.engine.custom_section import (
    CustomKind,
    CustomStep,
    CustomTensor,
    decode_custom,
    encode_custom,
)
from strop.engine.format import Section, SectionKind, read_sections, write_engine
from strop.engine.plan import KERNEL_BY_NAME, Plan, Step
from strop.errors import CustomError, EngineFileError
from strop.ir import dtype as dt
from strop.runtime import callbacks, sources
from strop.runtime.session import Session
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux

VIEW = CustomTensor(dt.f32.code, syn.SHAPE, (64, 1))
STEPS = (
    CustomStep(0, CustomKind.CALLBACK, "test::scale", {"factor": 3}, "here", (VIEW,), (VIEW, None)),
    CustomStep(1, CustomKind.KERNEL, "test::increase", origin="f of lib.so"),
)
PLAN = Plan(
    inputs=(syn.tensor("x"),),
    outputs=(syn.tensor("y"),),
    steps=(
        Step("scale", KERNEL_BY_NAME, (syn.arena(0), syn.input_(0)), 1),
        Step("increase", KERNEL_BY_NAME, (syn.output(0), syn.arena(0)), syn.ROWS),
    ),
    arena_bytes=syn.BYTES,
    scratch_bytes=0,
    n_kernels=syn.N_KERNELS,
)


def write(path: Path, custom: bytes | None, plan: Plan = PLAN) -> Path:
    """An engine of the plan with a custom section."""
    syn.write(path, plan)
    sections = [Section(e.kind, e.name, [d], e.flags) for e, d in read_sections(path)]
    more = [] if custom is None else [Section(SectionKind.CUSTOM, "custom", [custom])]
    write_engine(path, sections + more)
    return path


def test_c_program(tmp_path: Path) -> None:
    files = [syn.HERE / "custom.c", *sources.source_files()]
    program = syn.compile_native(files, "custom-c", "-std=gnu11", "-O2", "-lpthread", "-ldl")
    engine = write(tmp_path / "e.strop", encode_custom(STEPS))
    done = subprocess.run([program, engine], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.slow  # the sanitizer's library is built first
def test_threads_race_for_nothing(tmp_path: Path) -> None:
    files = [syn.HERE / "custom.c", *sources.source_files()]
    program = syn.compile_native(files, "custom-tsan", "-std=gnu11", "-g", "-O1", "-fsanitize=thread", "-lpthread", "-ldl")
    engine = write(tmp_path / "e.strop", encode_custom(STEPS))
    done = subprocess.run([program, engine], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "ok\n" and not done.stderr, done.stderr


def patched(table: np.dtype[Any], index: int, field: str, value: Any) -> bytes:
    """The section with one field of one record changed."""
    data = bytearray(encode_custom(STEPS))
    at = {id(cs._HEADER): 0, id(cs._STEP): cs._HEADER.itemsize, id(cs._TENSOR): cs._HEADER.itemsize + 2 * cs._STEP.itemsize}[id(table)]
    row = np.frombuffer(data, table, 1, at + index * table.itemsize)
    row[0][field] = value
    return bytes(data)


LIES = [
    (None, "steps without code"),
    (b"", "shorter than"),
    (patched(cs._HEADER, 0, "abi", 9), "version 9"),
    (patched(cs._HEADER, 0, "n_steps", 1), "another number of steps"),
    (patched(cs._HEADER, 0, "n_tensors", 1 << 31), "too many tensors"),
    (patched(cs._HEADER, 0, "n_tensors", 2), "do not fill"),
    (encode_custom(STEPS)[:-1] + b"x", "names that do not end"),
    (encode_custom(STEPS) + b"\0", "do not fill"),
    (patched(cs._STEP, 1, "step", 0), "code of its own"),
    (patched(cs._STEP, 1, "step", 7), "code of its own"),
    (patched(cs._STEP, 0, "kind", 3), "unknown kind"),
    (patched(cs._STEP, 0, "name", 1 << 20), "without a name"),
    (patched(cs._STEP, 0, "attributes", 1 << 31), "without a name"),
    (patched(cs._STEP, 0, "first_tensor", 1), "tensors that are not there"),
    (patched(cs._STEP, 0, "n_inputs", 0xFFFFFFFF), "tensors that are not there"),
    (patched(cs._STEP, 0, "n_inputs", 1), None),  # the operand that is left out is no arg
    (patched(cs._STEP, 0, "n_inputs", 0), "another number of tensors"),
    (patched(cs._STEP, 0, "kind", 2), "another number of tensors"),
    (patched(cs._TENSOR, 0, "dtype", 99), "impossible tensor"),
    (patched(cs._TENSOR, 0, "rank", 9), "impossible tensor"),
    (patched(cs._TENSOR, 0, "is_absent", 2), "impossible tensor"),
    (patched(cs._TENSOR, 1, "is_absent", 1), "another number of tensors"),
    (patched(cs._TENSOR, 0, "rank", 1), "impossible shape"),
    (patched(cs._TENSOR, 0, "dims", (-1, 64, 0, 0, 0, 0, 0, 0)), "impossible shape"),
    (patched(cs._TENSOR, 0, "dims", (17, 64, 0, 0, 0, 0, 0, 0)), "leaves its arg"),
    (patched(cs._TENSOR, 1, "strides", (65, 1, 0, 0, 0, 0, 0, 0)), "leaves its arg"),
    (patched(cs._TENSOR, 0, "strides", (1 << 62, 1 << 62, 0, 0, 0, 0, 0, 0)), "leaves its arg"),
    (patched(cs._TENSOR, 0, "dtype", dt.f64.code), "leaves its arg"),
]


@pytest.mark.parametrize(("data", "message"), LIES, ids=[f"{k}-{m}" for k, (_, m) in enumerate(LIES)])
def test_files_that_lie(data: bytes | None, message: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "e.strop", data)
    try:
        found = decode_custom(data, PLAN)
    except EngineFileError as error:
        assert message is not None and "custom layers" in str(error)
    else:
        assert message is None and len(found) == 2
    if message is None:
        with pytest.raises(CustomError, match="test::scale"):
            Session(path)
    else:
        with pytest.raises(EngineFileError, match=message):
            Session(path)


def test_reading_is_the_inverse_of_writing() -> None:
    assert decode_custom(encode_custom(STEPS), PLAN) == STEPS
    assert decode_custom(None, syn.arithmetic_plan()) == ()


def test_a_section_that_no_step_asks_for(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="another number of steps"):
        Session(write(tmp_path / "e.strop", encode_custom(STEPS), syn.arithmetic_plan()))


def test_mutated_sections_are_refused_or_harmless(tmp_path: Path) -> None:
    """Whatever a byte says, views stay within the context's memory."""
    second = CustomStep(1, CustomKind.CALLBACK, "test::increase", {}, "", (VIEW,), (VIEW,))
    good = encode_custom((STEPS[0], second))
    seen: list[tuple[Any, ...]] = []

    def look(call: callbacks.CustomCall) -> None:
        for array in (*call.outputs, *call.inputs):
            seen.append(() if array is None else (array.shape, array.strides))
            if array is not None:
                float(np.nan_to_num(array.astype(np.float64)).sum())

    names = {f"test::{text}" for text in ("scale", "increase")}
    for name in names:
        callbacks.register_callback(name, look)
    rng = np.random.default_rng(0)
    x = np.ones(syn.SHAPE, np.float32)
    ran = 0
    try:
        for _ in range(100):
            data = bytearray(good)
            for _ in range(int(rng.integers(1, 3))):
                data[int(rng.integers(len(data)))] = int(rng.choice([0, 1, 2, 255, rng.integers(256)]))
            try:
                Session(write(tmp_path / "e.strop", bytes(data)), threads=1)(x)
                ran += 1
            except (CustomError, EngineFileError):
                pass
    finally:
        for name in names:
            callbacks.forget(name)
    assert ran > 3 and seen
