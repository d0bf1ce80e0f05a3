"""Plans survive encoding, and no number of a decoded plan leaves what it points into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.engine import plan as pl
from strop.engine.plan import Arg, Plan, Space, Step, Tensor, decode_plan, encode_plan
from strop.errors import EngineFileError
from strop.ir import dtype as dt

WEIGHTS = 1000
PLAN = Plan(
    inputs=(Tensor("x", dt.f32, (2, 3)), Tensor("größe", dt.i64, ())),
    outputs=(Tensor("x", dt.bf16, (7,)),),
    steps=(
        Step("conv", 1, (Arg(Space.INPUT, 4, 20), Arg(Space.WEIGHTS, 0, 1000), Arg(Space.ARENA, 64, 0)), 12, 4),
        Step("conv", 0, (), 0),
        Step("out", 0, (Arg(Space.INPUT, 0, 8, 1), Arg(Space.OUTPUT, 0, 14)), 1),
    ),
    arena_bytes=64,
    scratch_bytes=100,
    n_kernels=2,
)


def test_round_trip() -> None:
    assert decode_plan(encode_plan(PLAN, WEIGHTS), WEIGHTS) == PLAN
    flushing = replace(PLAN, flush_denormals=True)
    assert decode_plan(encode_plan(flushing, WEIGHTS), WEIGHTS) == flushing
    empty = Plan((), (), (), 0, 0, 0)
    assert decode_plan(encode_plan(empty, 0), 0) == empty


names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
args = st.integers(0, 50).flatmap(lambda at: st.builds(Arg, st.just(Space.ARENA), st.just(at), st.integers(0, 50)))
tensors = st.lists(
    st.builds(Tensor, names, st.sampled_from(dt.ALL), st.lists(st.integers(0, 9), max_size=8).map(tuple)),
    max_size=4,
    unique_by=lambda t: t.name,
).map(tuple)
steps = st.builds(
    Step, names, st.integers(0, 4), st.lists(args, max_size=4).map(tuple), st.integers(0, 1 << 40), st.integers(1, 99)
)


@settings(max_examples=100, deadline=None)
@given(tensors, tensors, st.lists(steps, max_size=5).map(tuple), st.integers(100, 1 << 44), st.integers(0, 1 << 30))
def test_round_trip_of_any_plan(
    inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], steps: tuple[Step, ...], arena: int, scratch: int
) -> None:
    plan = Plan(inputs, outputs, steps, arena, scratch, 5)
    assert decode_plan(encode_plan(plan, 0), 0) == plan


def first_step(**changes: object) -> Plan:
    return replace(PLAN, steps=(replace(PLAN.steps[0], **changes), *PLAN.steps[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (first_step(kernel=2), "kernel 2"),
        (first_step(kernel=-1), "out of bounds"),
        (first_step(n_tasks=-1), "-1 tasks"),
        (first_step(grain=0), "grain 0"),
        (first_step(args=(Arg(Space.ARENA, 0, 65),)), "65 bytes at 0 of arena"),
        (first_step(args=(Arg(Space.ARENA, 65, 0),)), "0 bytes at 65 of arena"),
        (first_step(args=(Arg(Space.WEIGHTS, 1000, 1),)), "of weights"),
        (first_step(args=(Arg(Space.INPUT, 0, 9, 1),)), "9 bytes at 0 of input 1"),
        (first_step(args=(Arg(Space.OUTPUT, 0, 1, 1),)), "index 1"),
        (first_step(args=(Arg(Space.ARENA, 0, 1, 1),)), "index 1"),
        (first_step(name="a\0b"), "without NUL"),
        (replace(PLAN, inputs=PLAN.inputs[:1] * 2), "two inputs of one name"),
        (replace(PLAN, inputs=(*PLAN.inputs, Tensor("r", dt.f32, (1,) * 9))), "rank 9"),
        (replace(PLAN, inputs=(*PLAN.inputs, Tensor("r", dt.f32, (-2, -2)))), "dims"),
        (replace(PLAN, inputs=(*PLAN.inputs, Tensor("r", dt.f32, (1 << 43,)))), "dims"),
        (replace(PLAN, arena_bytes=(1 << 44) + 1), "arena_bytes"),
        (replace(PLAN, scratch_bytes=(1 << 36) + 1), "scratch_bytes"),
    ],
)
def test_impossible_plans_are_not_encoded(plan: Plan, message: str) -> None:
    with pytest.raises(EngineFileError, match=message):
        encode_plan(plan, WEIGHTS)


def patched(dtype: np.dtype[np.void], offset: int, field: str, value: int) -> Callable[[bytearray], None]:
    def patch(data: bytearray) -> None:
        np.frombuffer(data, dtype, 1, offset)[field] = value

    return patch


TENSORS = pl._HEADER.itemsize
STEPS = TENSORS + 3 * pl._TENSOR.itemsize


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (patched(pl._HEADER, 0, "abi", 3), "version 3"),
        (patched(pl._HEADER, 0, "flags", 2), "flags 0x2"),
        (patched(pl._HEADER, 0, "n_steps", 4), "bytes"),
        (patched(pl._HEADER, 0, "n_steps", 1 << 31), "n_steps"),
        (patched(pl._HEADER, 0, "n_string_bytes", 1), "bytes"),
        (patched(pl._TENSOR, TENSORS, "dtype", 8), "dtype number 8"),
        (patched(pl._TENSOR, TENSORS, "rank", 1), "dims"),
        (patched(pl._TENSOR, TENSORS, "flags", 1), "flags"),
        (patched(pl._TENSOR, TENSORS, "bytes", 25), "25 bytes"),
        (patched(pl._TENSOR, TENSORS, "name", 1000), "a name at 1000"),
        (patched(pl._STEP, STEPS, "n_dims", 1), "1 dims at 0"),
        (patched(pl._STEP, STEPS, "n_args", 6), "6 args"),
        (patched(pl._STEP, STEPS, "first_arg", 1 << 31), "args at"),
        (lambda data: data.__setitem__(-1, 65), "names that do not end"),
        (lambda data: data.__setitem__(-2, 255), "UTF-8"),
        (lambda data: data.append(0), "bytes"),
        (lambda data: data.__delitem__(slice(40, None)), "40 bytes"),
    ],
)
def test_malformed_plans_are_refused(patch: Callable[[bytearray], None], message: str) -> None:
    data = bytearray(encode_plan(PLAN, WEIGHTS))
    patch(data)
    with pytest.raises(EngineFileError, match=message):
        decode_plan(data, WEIGHTS)
