"""Plans survive encoding, and no number of a decoded plan leaves what it points into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.engine import plan as pl
from strop.engine.dims import DIM, SYM
from strop.engine.format import PLAN_ABI
from strop.engine.plan import Arg, Jump, Plan, Space, Step, Tensor, decode_plan, encode_plan
from strop.errors import EngineFileError
from strop.ir import dtype as dt
from tests.runtime.synthetic import computed_plan, dynamic_plan, jump_plan

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
        (patched(pl._HEADER, 0, "abi", PLAN_ABI + 1), f"version {PLAN_ABI + 1}"),
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


# ---- numbers that the shape decides

DYNAMIC = dynamic_plan()
#: Where the records of the dynamic plan begin: symbols, then dims.
SYMS = (
    pl._HEADER.itemsize + 5 * pl._TENSOR.itemsize + len(DYNAMIC.steps) * pl._STEP.itemsize
    + sum(len(s.args) for s in DYNAMIC.steps) * pl._ARG.itemsize
)  # fmt: skip
DIMS = SYMS + len(DYNAMIC.symbols) * SYM.itemsize


def test_round_trip_with_dims() -> None:
    assert decode_plan(encode_plan(DYNAMIC, 0), 0) == DYNAMIC
    assert [s.name for s in DYNAMIC.symbols] == ["rows", "quads"] and DYNAMIC.inputs[0].n_bytes == 0


def entry(op: str) -> int:
    """Offset of the first dim of a kind."""
    return DIMS + DIM.itemsize * next(k for k, d in enumerate(DYNAMIC.dims) if d.op == op)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (patched(pl._HEADER, 0, "n_syms", 1), "bytes"),
        (patched(pl._HEADER, 0, "n_dims", 1 << 30), "n_dims"),
        (patched(pl._HEADER, 0, "n_step_dims", 1 << 30), "n_step_dims"),
        (patched(SYM, SYMS, "min", 0), "'rows' of 0..8"),
        (patched(SYM, SYMS, "max", 1), "'rows' of 1..1"),
        (patched(SYM, SYMS, "max", 1 << 40), "'rows'"),
        (patched(SYM, SYMS, "set_by", 1), "a dim that a step finds"),
        (patched(SYM, SYMS, "set_by", 1 << 20), "a size in arg"),
        (patched(SYM, SYMS, "name", 1 << 20), "a name at"),
        (patched(SYM, SYMS + SYM.itemsize, "max", 1 << 31), "of arena|tensor '"),
        (patched(DIM, DIMS, "op", 8), "kind 8"),
        (patched(DIM, DIMS, "zero", 1), "dim 0"),
        (patched(DIM, DIMS, "value", 3), "only a constant has a value"),
        (patched(DIM, DIMS, "a", 2), "symbol 2 of 2"),
        (patched(DIM, entry("mul"), "a", 1 << 20), "operands"),
        (patched(DIM, entry("mul"), "op", 4), "computed dim"),
        (patched(DIM, entry("const"), "value", 1 << 62), "dims that cannot be computed|computed dim"),
        (patched(DIM, entry("const"), "value", 0), "computed dim"),
        (patched(DIM, entry("const"), "value", 5), "of arena|within"),
        (patched(pl._TENSOR, pl._HEADER.itemsize, "bytes", 4), "4 bytes"),
        (patched(pl._STEP, pl._HEADER.itemsize + 5 * pl._TENSOR.itemsize, "n_tasks", -100), "-100 tasks"),
        (patched(pl._STEP, pl._HEADER.itemsize + 5 * pl._TENSOR.itemsize, "first_dim", 99), "dims at 99"),
    ],
)  # fmt: skip
def test_malformed_dims_are_refused(patch: Callable[[bytearray], None], message: str) -> None:
    data = bytearray(encode_plan(DYNAMIC, 0))
    patch(data)
    with pytest.raises(EngineFileError, match=message):
        decode_plan(data, 0)


# ---- sizes that steps find

COMPUTED = computed_plan()


def test_round_trip_with_sizes_that_steps_find() -> None:
    assert decode_plan(encode_plan(COMPUTED, 0), 0) == COMPUTED
    assert [s.setter for s in COMPUTED.symbols] == [None, (0, 2), (2, 2)]


def changed_step(index: int, **changes: object) -> Plan:
    steps = list(COMPUTED.steps)
    steps[index] = replace(steps[index], **changes)  # type: ignore[arg-type]
    return replace(COMPUTED, steps=tuple(steps))


def changed_symbol(**changes: object) -> Plan:
    first, second, third = COMPUTED.symbols
    return replace(COMPUTED, symbols=(first, replace(second, **changes), third))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (changed_step(0, n_tasks=COMPUTED.steps[1].n_tasks), "step 0 'keep' with dim .*, which step 0 finds"),
        (changed_step(1, dims=(-1 - COMPUTED.steps[3].n_tasks,)), "step 1 'double' with dim .*, which step 2 finds"),
        (changed_step(0, args=(*COMPUTED.steps[0].args[:2], Arg(Space.ARENA, 0, 4))), "a size in 4 bytes of arena"),
        (changed_step(0, args=(*COMPUTED.steps[0].args[:2], Arg(Space.INPUT, 0, 4))), "a size in 4 bytes of input"),
        (changed_symbol(min=-1), "'kept' of -1"),
        (changed_symbol(max=40), "160 bytes at 64 of arena"),
        (changed_symbol(setter=None, min=1), "symbols that no input has"),
        (replace(COMPUTED, inputs=(Tensor("x", dt.f32, COMPUTED.outputs[0].shape),)), "a dim that a step finds"),
    ],
)
def test_sizes_that_are_not_found_in_time_are_refused(plan: Plan, message: str) -> None:
    with pytest.raises(EngineFileError, match=message):
        encode_plan(plan, 0)


# ---- jumps

JUMPS = jump_plan()


def test_round_trip_with_jumps() -> None:
    assert decode_plan(encode_plan(JUMPS, 0), 0) == JUMPS


@pytest.mark.parametrize(
    ("jump", "message"),
    [
        (Jump(0, 2, False, 4), "jump 0 after step 0 to 4"),
        (Jump(0, 0, False, 2), "jump 0 by arg 0"),
        (Jump(1, 2, False, 2), "jump 0 by arg"),
        (Jump(0, 3, False, 2), "jump 0 by arg 3"),
    ],
)
def test_impossible_jumps_are_refused(jump: Jump, message: str) -> None:
    with pytest.raises(EngineFileError, match=message):
        encode_plan(replace(JUMPS, jumps=(jump,)), 0)


def test_a_step_has_one_jump() -> None:
    with pytest.raises(EngineFileError, match="jump 1 after step 0"):
        encode_plan(replace(JUMPS, jumps=JUMPS.jumps * 2), 0)
    data = bytearray(encode_plan(JUMPS, 0))
    patched(pl._HEADER, 0, "zero", 1)(data)
    with pytest.raises(EngineFileError, match="kept free"):
        decode_plan(data, 0)


def test_every_symbol_is_told_by_an_input() -> None:
    with pytest.raises(EngineFileError, match="symbols that no input has"):
        encode_plan(replace(DYNAMIC, symbols=(*DYNAMIC.symbols, pl.Symbol("free", 1, 1, 2))), 0)
