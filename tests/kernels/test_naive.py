"""The kernel that is right for any op; the sweep runs it on every op's samples."""

from __future__ import annotations

import re

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Cast, Const, Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c.naive import KERNEL
from strop.ops.conv import Conv
from strop.ops.data import Reshape
from strop.ops.index import TopK
from strop.ops.pool import MaxPool
from strop.ops.reduce import Reduce
from strop.ops.softmax import Softmax
from strop.target.detect import TARGETS, host
from tests import golden
from tests.kernels.harness import check, check_all, execute, expected

TARGET = host()


def dense(*shape, dtype=dt.f32):
    return Operand(View.dense(shape, dtype))


X = Input(0)


def region(op, operands, out, epilogue=X, **kwargs):
    return Region(str(op), op, tuple(operands), kwargs.pop("anchors", len(operands)), epilogue, (View.dense(*out),), **kwargs)


def test_stages_that_look_only_at_their_own_row_are_split_into_tasks():
    rng = np.random.default_rng(0)
    soft = region(Softmax(-1), [dense(40, 7)], ((40, 7), dt.f32))
    emitted = KERNEL.emit(soft, None, TARGET.with_cores(2))
    assert emitted.tasks == 40
    assert emitted.scratch < 40 * 7 * 4
    check(KERNEL, soft, [rng.standard_normal((40, 7)).astype(np.float32)], TARGET)
    across = region(Softmax(0), [dense(40, 7)], ((40, 7), dt.f32))
    assert KERNEL.emit(across, None, TARGET).tasks == 1
    check(KERNEL, across, [rng.standard_normal((40, 7)).astype(np.float32)], TARGET)


def test_tasks_in_any_number_of_calls_give_the_same_result():
    rng = np.random.default_rng(1)
    op = MaxPool((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    pool = region(op, [dense(3, 5, 6, 7)], ((3, 5, 6, 7), dt.f32))
    x = [rng.standard_normal((3, 5, 6, 7)).astype(np.float32)]
    emitted = KERNEL.emit(pool, None, TARGET.with_cores(4))
    assert emitted.tasks > 15
    for splits in (1, 3, emitted.tasks):
        np.testing.assert_array_equal(execute(emitted, pool, x, TARGET, splits)[0], expected(pool, x)[0])


def test_constants_and_strides():
    rng = np.random.default_rng(2)
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), 1)
    w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    x = View((1, 3, 5, 6), (400, 1, 60, 7), dt.f32)
    out = View.dense((1, 4, 5, 6), dt.f32, (0, 2, 3, 1))
    operands = (Operand(x), Operand(View.dense(w.shape, dt.f32), w), Operand(View.dense((1, 4, 1, 1), dt.f32).broadcast(out.shape)))
    bias = rng.standard_normal((1, 4, 1, 1)).astype(np.float32)
    case = Region("conv", op, operands, 2, call("max", Input(0) + Input(1), 0.0), (out,))
    check(KERNEL, case, [rng.standard_normal(x.shape).astype(np.float32), None, bias], TARGET)


def test_epilogue_may_change_the_dtype():
    rng = np.random.default_rng(3)
    sign = region(Reduce("sum", (1,)), [dense(6, 9)], ((6, 1), dt.boolean), Input(0) > 0.0)
    check(KERNEL, sign, [rng.standard_normal((6, 9)).astype(np.float32)], TARGET)
    half = region(Reduce("max", (1,)), [dense(6, 9)], ((6, 1), dt.bf16), Cast(dt.bf16, Input(0) * 3.0))
    check(KERNEL, half, [rng.standard_normal((6, 9)).astype(np.float32)], TARGET)


def test_prologue_is_applied_where_the_first_operand_is_read():
    rng = np.random.default_rng(4)
    shape = (2, 3, 8)
    scale = Operand(View.dense((1, 3, 1), dt.f32).broadcast(shape))
    case = region(
        Reduce("sum", (2,), False), [dense(*shape), scale], ((2, 3), dt.f32), anchors=1,
        prologue=call("max", Input(0) * Input(1), 0.0), prologues=1,
    )  # fmt: skip
    check(KERNEL, case, [rng.standard_normal(shape).astype(np.float32), rng.standard_normal((1, 3, 1)).astype(np.float32)], TARGET)


def test_several_results_that_read_each_other():
    x = np.random.default_rng(5).integers(0, 5, (4, 3, 9)).astype(np.float32)
    outs = (View.dense((4, 3, 5), dt.f32), View.dense((4, 3, 5), dt.i64))
    case = Region("topk", TopK(2, 5), (dense(4, 3, 9),), 1, Input(0), outs)
    assert KERNEL.emit(case, None, TARGET).tasks > 1
    check(KERNEL, case, [x], TARGET)


@pytest.mark.parametrize("kind", [dt.i32, dt.i8, dt.u8, dt.i64])
def test_integer_quotients_never_trap(kind):
    """A quotient by zero is 0 and the smallest number by -1 is itself, as numpy has it; shifts past the width empty the number."""
    low = np.iinfo(kind.numpy).min
    a = np.array([7, -7 if low else 7, low, low, 5, 0, 1, 100], kind.numpy)
    b = np.array([0, 2, -1 if low else 1, 0, 3, 0, 70, 8], kind.numpy)
    for name in ("div", "fmod", "floormod", "floordiv", "shl", "shr"):
        case = region(Reduce("sum", ()), [dense(8, dtype=kind), Operand(View.dense((8,), kind))], ((8,), kind),
                      call(name, Input(0), Input(1)), anchors=1)  # fmt: skip
        with np.errstate(all="ignore"):
            check(KERNEL, case, [a, b], TARGET)


def test_refusals():
    assert "no anchor" in KERNEL.accepts(region(None, [dense(3)], ((3,), dt.f32), anchors=0), TARGET)
    assert "no loop program" in KERNEL.accepts(region(Reshape((3,)), [dense(1, 3)], ((3,), dt.f32)), TARGET)


def test_nan_wins_arg_reductions():
    from strop.ops.reduce import ArgReduce

    x = np.array([[1, np.nan, 3, np.nan], [2, 2, 1, 0]], np.float32)
    cases = [
        (Region(f"{kind} {last}", ArgReduce(kind, 1, False, last), (dense(2, 4),), 1, Input(0), (View.dense((2,), dt.i64),)), [x])
        for kind in ("max", "min")
        for last in (False, True)
    ]
    check_all(KERNEL, cases, TARGET)


def test_shared_parts_of_an_epilogue_are_named_once():
    deep = Input(0)
    for _ in range(12):
        deep = deep * call("exp", deep) + Const(1.0)
    case = region(Reduce("sum", (1,)), [dense(3, 4)], ((3, 1), dt.f32), deep)
    assert len(KERNEL.emit(case, None, TARGET).body) < 5000


def test_c_text(request):
    op = MaxPool((3,), (2,), (1, 0), (1,))
    case = region(op, [dense(1, 2, 9)], ((1, 2, 4), dt.f32), call("max", Input(0), 0.0))
    body = KERNEL.emit(case, None, TARGETS["x86-64-v4"]).body
    assert not re.search(r"\bi\d+ \* 1\b", body)
    golden.check("c/naive.c", body + "\n", request.config)
