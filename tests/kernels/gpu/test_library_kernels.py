"""Candidates that call cuBLASLt and cuDNN: which regions they take, and that what they ask for is what the region means."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strop.engine.library_calls import LibraryCall, Lying, call_of
from strop.ir import dtype as dt
from strop.ir.expr import Cast, Const, Expr, Input, call
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.kernels.base import In, Operand, Packed, Region, View
from strop.kernels.cuda_libraries import cublaslt, cudnn
from strop.kernels.cuda_libraries.calls import Rank, ending
from strop.kernels.oracle import difference, expected, random_operands
from strop.kernels.table import GPU_LIBRARIES, candidates, kernels_for
from strop.kernels.triton.emit import GpuEmitted
from strop.lower.pipeline import lower
from strop.ops.conv import Conv
from strop.ops.data import Concat
from strop.ops.elementwise import FUNCTIONS
from strop.ops.matmul import MatMul
from strop.ops.pool import MaxPool
from strop.target.detect import parse
from strop.trace import Trace
from tests.kernels.harness import buffer_for

TARGET = replace(parse("cuda:sm_90+libraries"), libraries=(("cublaslt", "13.1.0"), ("cudnn", "9.28.1")))
RNG = np.random.default_rng(8)
SUM = Input(0) + Input(1)


def _const(*shape: int, dtype: Any = dt.f16) -> Operand:
    array = RNG.standard_normal(shape).astype(dtype.numpy)
    return Operand(View.dense(shape, dtype), array)


def _bias(columns: int, shape: tuple[int, ...], axis: int) -> Operand:
    strides = tuple(int(k == axis) for k in range(len(shape)))
    return Operand(View(shape, strides, dt.f16), RNG.standard_normal(columns).astype(np.float16))


def matmul(epilogue: Expr = SUM, extras: int = 1, x: View | None = None, w: Operand | None = None, out: View | None = None, **op: bool) -> Region:
    """y[3, 10, 24] = x[3, 10, 16] w[16, 24], a bias, further operands like y."""
    y = out or View.dense((3, 10, 24), dt.f16)
    sides = [_bias(24, y.shape, len(y.shape) - 1), *(Operand(View.dense(y.shape, dt.f16)) for _ in range(extras - 1))][:extras]
    return Region("fc", MatMul(**op), (Operand(x or View.dense((3, 10, 16), dt.f16)), w or _const(16, 24), *sides), 2, epilogue, (y,))


def conv(epilogue: Expr = SUM, extras: int = 1, order: tuple[int, ...] = (0, 2, 3, 1), ins: int = 16, out: Any = dt.f16, **op: Any) -> Region:
    """y[2, 24, 4, 5] of x[2, 16, 8, 9] by a window of 3x3 that moves by 2."""
    given = Conv(**{"strides": (2, 2), "pads": (1, 1, 0, 1), "dilations": (1, 1), "groups": 1, **op})
    y = View.dense((2, 24, 4, 5), out, (0, 2, 3, 1))
    sides = [_bias(24, y.shape, 1), *(Operand(View.dense(y.shape, dt.f16, (0, 2, 3, 1))) for _ in range(extras - 1))][:extras]
    x = Operand(View.dense((2, ins, 8, 9), dt.f16, order))
    return Region("conv", given, (x, _const(24, ins // given.groups, 3, 3), *sides), 2, epilogue, (y,))


def _gelu(name: str, x: Expr) -> Expr:
    return FUNCTIONS[name].build(x)


SLICED = View((3, 10, 16), (640, 64, 1), dt.f16)
TAKEN = {
    "plain": (cublaslt, matmul(Input(0), 0)),
    "relu": (cublaslt, matmul(call("max", SUM, 0))),
    "gelu by tanh": (cublaslt, matmul(_gelu("gelu_tanh", SUM))),
    "a sum before ReLU": (cublaslt, matmul(call("max", Input(2) + SUM, 0.0), 2)),
    "a sum without a bias": (cublaslt, replace(matmul(SUM, 2), operands=(*matmul(SUM, 2).operands[:2], Operand(View.dense((3, 10, 24), dt.f16))))),
    "f32 behind f16": (cublaslt, matmul(Cast(dt.f32, SUM), out=View.dense((3, 10, 24), dt.f32))),
    "rows of a wider value": (cublaslt, matmul(x=SLICED, out=View((3, 10, 24), (320, 32, 1), dt.f16))),
    "both factors turned": (cublaslt, matmul(x=View.dense((16, 32), dt.f16), w=_const(24, 16), out=View.dense((32, 24), dt.f16), transpose_a=True, transpose_b=True)),
    "a batch": (cublaslt, matmul(Input(0), 0, w=Operand(View.dense((3, 16, 24), dt.f16)))),
    "one unknown matrix": (cublaslt, matmul(w=Operand(View.dense((24, 16), dt.f16)), transpose_b=True)),
    "one row": (cublaslt, matmul(x=View.dense((1, 16), dt.f16), out=View.dense((1, 24), dt.f16))),
    "an exact gelu": (cudnn, matmul(_gelu("gelu", SUM))),
    "a window": (cudnn, conv()),
    "a window and ReLU": (cudnn, conv(call("max", SUM, 0))),
    "a window and a sum": (cudnn, conv(call("max", Input(2) + SUM, 0), 2)),
    "a window in groups": (cudnn, conv(Input(0), 0, groups=2)),
    "a dilated window": (cudnn, conv(_gelu("gelu", SUM), strides=(1, 1), pads=(1, 0, 1, 0), dilations=(3, 2))),
}
REFUSED = {
    "a sigmoid": (cublaslt, matmul(1.0 / (1.0 + call("exp", -SUM))), "more than a bias"),
    "a product": (cublaslt, matmul(Input(0) * Input(1)), "more than a bias"),
    "a clip": (cublaslt, matmul(call("min", call("max", SUM, 0), 6.0)), "more than a bias"),
    "the same twice": (cublaslt, matmul(Input(0) + Input(0)), "more than a bias"),
    "no product": (cublaslt, matmul(Input(1)), "does not add"),
    "two sums": (cublaslt, matmul(SUM + Input(2) + Input(3), 3), "more than a bias"),
    "an exact gelu for cuBLASLt": (cublaslt, matmul(_gelu("gelu", SUM)), "more than a bias"),
    "what cuBLASLt does": (cudnn, matmul(), "cublaslt does it"),
    "9 terms": (cublaslt, matmul(x=View.dense((3, 10, 9), dt.f16), w=_const(9, 24)), "rows of 16 bytes"),
    "rows 9 apart": (cublaslt, matmul(out=View((3, 10, 24), (250, 25, 1), dt.f16)), "rows of 16 bytes"),
    "a result column by column": (cublaslt, matmul(x=View.dense((32, 16), dt.f16), out=View((32, 24), (1, 32), dt.f16)), "row by row"),
    "f32 without tf32": (cublaslt, matmul(Input(0), 0, x=View.dense((3, 10, 16), dt.f32), w=_const(16, 24, dtype=dt.f32), out=View.dense((3, 10, 24), dt.f32)), "tf32"),
    "two types": (cublaslt, matmul(w=_const(16, 24, dtype=dt.bf16)), "f16 and bf16"),
    "a vector": (cublaslt, matmul(x=View.dense((16,), dt.f16), out=View.dense((24,), dt.f16)), "no product of matrices"),
    "a convolution": (cublaslt, conv(), "no product of matrices"),
    "values channels-first": (cudnn, conv(order=(0, 1, 2, 3)), "channels-last"),
    "four channels": (cudnn, conv(ins=4), "rows of 16 bytes"),
    "a channel each": (cudnn, conv(groups=24, ins=24), "window of its own"),
    "a window to f32": (cudnn, conv(Cast(dt.f32, SUM), out=dt.f32), "its result is f32"),
}


def _laid(arrays: dict[str, np.ndarray], told: LibraryCall) -> dict[str, np.ndarray]:
    """Operands of a call out of memory, in f64."""
    found = {}
    for name, lies in told.operands.items():
        found[name] = _view(arrays[name], lies).astype(np.float64)
    return found


def _view(flat: np.ndarray, lies: Lying) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(flat, lies.shape, [s * lies.dtype.size for s in lies.strides])


def meaning(told: LibraryCall, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What a library computes."""
    a = _laid(arrays, told)
    if told.window is None:
        value, bias = a["x"] @ a["w"], (slice(None),)
    else:
        w, bias = told.window, (slice(None), None, None)  # type: ignore[assignment]
        op = Conv(w.strides, (*w.before, *w.after), w.dilations, a["x"].shape[1] // a["w"].shape[1])
        value = op.reference(a["x"], a["w"])[0]
    value = value + (a["bias"][bias] if "bias" in a else 0) + a.get("added", 0)
    acts = {
        "none": lambda v: v, "relu": lambda v: np.maximum(v, 0), "gelu": lambda v: 0.5 * v * (1 + np.vectorize(math.erf)(v / 2**0.5)),
        "gelu_tanh": lambda v: 0.5 * v * (1 + np.tanh((2 / math.pi) ** 0.5 * (v + 0.044715 * v**3))),
    }  # fmt: skip
    return np.asarray(acts[told.act](value))


@pytest.mark.parametrize(("module", "region"), TAKEN.values(), ids=TAKEN)
def test_a_call_means_what_the_region_means(module, region):
    assert module.KERNEL.accepts(region, TARGET) is None
    emitted = module.KERNEL.emit(region, module.KERNEL.space(region, TARGET)[2], TARGET)
    assert isinstance(emitted, GpuEmitted) and emitted.library is not None and not emitted.launches
    told = call_of(emitted.library)
    assert (told.rank, told.version) == (2, dict(TARGET.libraries)[module.KERNEL.name]) and told.names == emitted.names
    arrays = random_operands(region, RNG)
    memory: dict[str, np.ndarray] = {}
    for name, pointer in zip(emitted.names, emitted.pointers, strict=True):
        if isinstance(pointer, Packed):
            memory[name] = np.ascontiguousarray(pointer.array).reshape(-1)
        elif isinstance(pointer, In):
            operand = region.operand(pointer.index)
            array = operand.logical if operand.const is not None else arrays[pointer.index]
            flat = np.zeros(operand.view.span, operand.view.dtype.numpy)
            np.lib.stride_tricks.as_strided(flat, operand.view.shape, [s * operand.view.dtype.size for s in operand.view.strides])[...] = array
            memory[name] = flat
        else:
            memory[name] = np.zeros(region.out.span, region.out.dtype.numpy)
        assert memory[name].nbytes >= told.operands[name].reach
    _view(memory["y"], told.operands["y"])[...] = meaning(told, memory)
    found = np.lib.stride_tricks.as_strided(memory["y"], region.out.shape, [s * region.out.dtype.size for s in region.out.strides])
    assert buffer_for(region.out).size and difference(replace(region, outs=(replace(region.out, dtype=dt.f16),)), 0, found, expected(region, arrays)[0]) is None


@pytest.mark.parametrize(("module", "region", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_why(module, region, reason):
    assert reason in (module.KERNEL.accepts(region, TARGET) or "taken")


def test_tf32_is_asked_for():
    region = matmul(Input(0), 0, x=View.dense((3, 10, 16), dt.f32), w=_const(16, 24, dtype=dt.f32), out=View.dense((3, 10, 24), dt.f32))
    target = replace(TARGET, extras=("libraries", "tf32"))
    assert cublaslt.KERNEL.accepts(region, target) is None
    assert [bool(cublaslt.KERNEL.emit(region, Rank("1", 0), t).library["tf32"]) for t in (TARGET, target)] == [False, True]


def test_only_targets_that_allow_libraries_have_their_kernels():
    assert set(GPU_LIBRARIES) <= set(kernels_for(TARGET)) and not set(GPU_LIBRARIES) & set(kernels_for(parse("cuda:sm_90+libraries")))
    found = candidates(matmul(), TARGET)
    ranks = [c.label for c in found if not c.kernel.estimated]
    assert ranks == [f"cublaslt(version=13.1.0, rank={k})" for k in range(6)] == [c.label for c in found][-6:]  # no estimate puts them first


def test_endings_name_operands_of_the_region():
    region = matmul(call("max", Input(2) + SUM, 0), 2)
    found = ending(region, ("none", "relu"), 2)
    assert not isinstance(found, str) and (found.bias, found.added, found.act) == (2, 3, "relu")
    assert isinstance(ending(matmul(SUM + Const(1.0)), ("none",), 2), str)


@pytest.mark.parametrize(("first", "called"), [(8, True), (4, False)])
def test_a_result_that_begins_between_two_multiples_of_16_bytes_is_not_a_librarys(first, called):
    graph = Graph("parts")
    sides = [graph.add_input(f"s{k}", Type(dt.f16, (1, n, 6, 6))) for k, n in enumerate((first, 16 - first))]
    x = graph.add_input("x", Type(dt.f16, (1, 16, 6, 6)))
    weights = graph.add_const(RNG.standard_normal((8, 16, 3, 3)).astype(np.float16), "w")
    middle = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1)), [x, weights], name="conv").outputs[0]
    whole = graph.add(Concat(1), [sides[0], middle, sides[1]], name="whole").outputs[0]
    graph.set_outputs([graph.add(MaxPool((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)), [whole], name="pool").outputs[0]])
    step = next(s for s in lower(graph, TARGET, Trace()).steps if s.region.name == "conv")
    assert step.outputs[0].offset == first and any(not c.kernel.estimated for c in step.candidates) == called
