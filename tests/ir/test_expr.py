"""Scalar expressions: numpy meaning, types, substitution."""

from __future__ import annotations

import math

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir.expr import Acc, Axis, Cast, Const, Input, Load, call

A, B = Input(0), Input(1)


def test_operators_build_calls() -> None:
    built = (A + 1) * (2 - B) / -A
    assert ex.show(built) == "div(mul(add($0, 1), sub(2, $1)), neg($0))"
    assert ex.show((A < B) & (A >= 0.5) | (A <= 1)) == "or(and(lt($0, $1), ge($0, 0.5)), le($0, 1))"
    assert ex.show(A % 2 // 3 > 1) == "gt(floordiv(floormod($0, 2), 3), 1)"
    with pytest.raises(ValueError, match="takes 1 arguments"):
        call("neg", A, B)
    with pytest.raises(KeyError):
        call("nonsense", A)


@pytest.mark.parametrize("name", ex.PRIMITIVES)
def test_primitives_keep_their_type(name: str) -> None:
    primitive = ex.PRIMITIVES[name]
    whole = name.startswith(("bit", "sh"))
    kind = np.int32 if whole else np.bool_ if name in ("and", "or", "xor", "not") else np.float32
    arrays = [np.array([0, 1, 1], kind) for _ in range(primitive.arity)]
    if name == "ldexp":
        arrays[1] = arrays[1].astype(np.int32)
    if name == "select":
        arrays[0] = np.array([True, False, True])
    result = ex.evaluate(call(name, *(Input(i) for i in range(primitive.arity))), arrays)
    assert result.dtype == (np.bool_ if primitive.result == "bool" else kind)
    assert result.shape == (3,)


def test_values() -> None:
    x = np.array([-2.0, 0.5, 3.0], np.float32)
    got = ex.evaluate(call("max", A * 2.0, 0.0) + 1, [x])
    np.testing.assert_array_equal(got, np.float32([1, 2, 7]))
    assert ex.evaluate(call("erf", A), [x])[1] == np.float32(math.erf(0.5))
    chosen = ex.evaluate(call("select", A > 0, 1.0, A), [x])
    np.testing.assert_array_equal(chosen, np.float32([-2, 1, 1]))
    assert chosen.dtype == np.float32


def test_integer_division_truncates_and_modulo_floors() -> None:
    a, b = np.array([-7, 7, -7, 7], np.int32), np.array([2, 2, -2, -2], np.int32)
    np.testing.assert_array_equal(ex.evaluate(A / B, [a, b]), [-3, 3, 3, -3])
    np.testing.assert_array_equal(ex.evaluate(A % B, [a, b]), [1, 1, -1, -1])
    np.testing.assert_array_equal(ex.evaluate(call("fmod", A, B), [a, b]), [-1, 1, -1, 1])


def test_broadcasting_and_literals_take_the_operands_type() -> None:
    half = np.ones((2, 1), np.float16)
    got = ex.evaluate(A + B * 0.5, [half, np.ones(3, np.float16)])
    assert got.dtype == np.float16 and got.shape == (2, 3)


def test_types() -> None:
    types = [dt.f16, dt.i32]
    assert ex.type_of(A + 1, types) is dt.f16 and ex.type_of(1 + B, types) is dt.i32
    assert ex.type_of(A < 1, types) is dt.boolean and ex.type_of(Const(1.0), types) is None
    assert ex.type_of(Cast(dt.f32, B), types) is dt.f32 and ex.type_of(Axis("i"), types) is dt.i64
    assert ex.type_of(Load("s", ()), types, {"s": dt.u8}) is dt.u8
    assert ex.type_of(Acc() + 1, types, {"acc": dt.f64}) is dt.f64
    assert ex.type_of(call("select", A < 1, 0.0, A), types) is dt.f16


def test_casts_truncate() -> None:
    got = ex.evaluate(Cast(dt.i32, A), [np.array([-1.7, 1.7], np.float32)])
    np.testing.assert_array_equal(got, np.int32([-1, 1]))


def test_literals_tell_zeros_and_nans_apart() -> None:
    assert Const(0.0) != Const(-0.0) and Const(math.nan) == Const(math.nan)
    assert Const(1) != Const(1.0) and Const(1) != Const(True)
    assert len({Const(0.0), Const(-0.0), Const(math.nan), Const(math.nan)}) == 3


def test_walking_and_substitution() -> None:
    shared = A * A
    whole = shared + shared
    assert [ex.show(e) for e in ex.walk(whole)] == [
        "$0",
        "mul($0, $0)",
        "add(mul($0, $0), mul($0, $0))",
    ]
    assert ex.inputs_of(whole + B) == [0, 1]
    replaced = ex.substitute(whole, lambda e: B + 1 if e == A else None)
    assert ex.inputs_of(replaced) == [1]
    assert len(ex.walk(replaced)) == 5
    load = Load(0, (Axis("i") + 1,))
    moved = ex.substitute(load, lambda e: Axis("j") if e == Axis("i") else None)
    assert ex.show(moved) == "@0[add(j, 1)]"
