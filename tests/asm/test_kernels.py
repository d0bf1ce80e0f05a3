"""What the inner loops of emitted kernels are made of, and that kernels compile for processors that cannot be run here."""

from __future__ import annotations

import re

import numpy as np
import pytest

from strop.codegen.c import Module
from strop.codegen.toolchain import assembly, compile_all
from strop.ir import dtype as dt
from strop.ir.expr import Cast, Input, call
from strop.kernels.base import Operand, Region, View
from strop.kernels.c import (
    conv_bf16,
    conv_direct,
    conv_int8,
    copy,
    elementwise,
    gather,
    naive,
    pool,
    reduce,
    reduce_arg,
    resize,
)
from strop.ops.conv import Conv
from strop.ops.elementwise import make
from strop.ops.index import Gather
from strop.ops.integer import IntegerConv
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.quantize import saturated
from strop.ops.reduce import ArgReduce, Reduce
from strop.ops.resize import Resize
from strop.target.detect import TARGETS, parse
from tests.asm.test_mnemonics import bodies

X = Input(0)
NHWC = (0, 2, 3, 1)


def region(op, x, out, expr=X, *more):
    operands = (Operand(x), *(Operand(v) for v in more))
    anchors = 0 if op is None else 2 if isinstance(op, Gather) else 1
    return Region("case", op, operands, anchors, expr, (out,))


def nhwc(*shape):
    return View.dense(shape, dt.f32, NHWC)


def problems():
    """name -> (kernel, region)."""
    big = (1, 64, 20, 20)
    window = ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    up = Resize((1, 64, 40, 40), (1.0, 1.0, 2.0, 2.0), "linear")
    rows = View.dense((30, 1000), dt.f32)
    picks = View.dense((9,), dt.i64)
    return {
        "relu": (elementwise.KERNEL, region(None, nhwc(*big), nhwc(*big), call("max", X, 0.0))),
        "silu": (elementwise.KERNEL, region(None, nhwc(*big), nhwc(*big), make("silu").expr())),
        "gelu": (elementwise.KERNEL, region(None, nhwc(*big), nhwc(*big), make("gelu").expr())),
        "copy": (copy.KERNEL, region(None, View.dense(big, dt.f32), nhwc(*big))),
        "max_pool": (pool.KERNEL, region(MaxPool(*window), nhwc(*big), nhwc(*big))),
        "average_pool": (pool.KERNEL, region(AveragePool(*window), nhwc(*big), nhwc(*big))),
        "mean": (reduce.KERNEL, region(Reduce("mean", (2, 3)), nhwc(*big), nhwc(1, 64, 1, 1))),
        "l2": (reduce.KERNEL, region(Reduce("l2", (1,)), rows, View.dense((30, 1), dt.f32))),
        "argmax": (reduce_arg.KERNEL, region(ArgReduce("max", 1), rows, View.dense((30, 1), dt.i64))),
        "resize": (resize.KERNEL, region(up, nhwc(*big), nhwc(1, 64, 40, 40))),
        "gather": (gather.KERNEL, region(Gather(0), rows, View.dense((9, 1000), dt.f32), X, picks)),
        "naive": (naive.KERNEL, region(Reduce("sum", (1,)), rows, View.dense((30, 1), dt.f32))),
    }


def unit(names, target, best=True):
    """One C unit with the first candidate of each problem, in order."""
    module = Module(target)
    for name in names:
        kernel, case = problems()[name]
        assert kernel.accepts(case, target) is None
        module.add(kernel.emit(case, kernel.space(case, target)[0], target), f"{kernel.name}_{name}()", name)
    return "\n".join(module.units()[:1]) if len(names) == 1 else module.units()


#: problem -> what its assembly must contain and must not, per instruction set.
WANTED = {
    "relu": {"x86-64-v4": ("vmaxps.*%zmm", "call"), "x86-64-v3": ("vmaxps.*%ymm", "call")},
    "silu": {"x86-64-v4": ("vscalefps.*%zmm", "expf"), "x86-64-v3": ("vfmadd.*%ymm", "expf")},
    "gelu": {"x86-64-v4": ("vperm[it]2ps.*%zmm", "erff"), "x86-64-v3": ("vdivps.*%ymm", "erff")},
    "copy": {"x86-64-v4": ("(vunpck|vperm|vshuf).*%zmm", "call"), "x86-64-v3": ("(vunpck|vperm|vshuf).*%ymm", "call")},
    "max_pool": {"x86-64-v4": ("vmaxps.*%zmm", "call"), "x86-64-v3": ("vmaxps.*%ymm", "call")},
    "average_pool": {"x86-64-v4": ("vaddps.*%zmm", "call"), "x86-64-v3": ("vaddps.*%ymm", "call")},
    "mean": {"x86-64-v4": ("vaddps.*%zmm", "call"), "x86-64-v3": ("vaddps.*%ymm", "call")},
    "l2": {"x86-64-v4": ("vfmadd.*%zmm", "sqrtf$"), "x86-64-v3": ("vfmadd.*%ymm", "sqrtf$")},
    "argmax": {"x86-64-v4": ("vcmp\\w*ps.*%zmm", "call"), "x86-64-v3": ("vblendvps.*%ymm", "call")},
    "resize": {"x86-64-v4": ("vfmadd.*%zmm", "call"), "x86-64-v3": ("vfmadd.*%ymm", "call")},
}


@pytest.mark.parametrize("name", WANTED)
def test_inner_loops(name):
    for target_name, (wanted, unwanted) in WANTED[name].items():
        target = TARGETS[target_name].with_cores(1)
        (text,) = bodies(assembly(unit([name], target), target)).values()
        assert re.search(wanted, text), f"{name} on {target}: no {wanted}\n{text}"
        calls = [line for line in text.splitlines() if re.search(r"\b(call|jmp)q?\s+[a-z]", line) and re.search(unwanted, line)]
        assert not calls, f"{name} on {target}: {calls}"


#: kernel, type and target -> what the inner loop is made of, per tile of the smallest problem.
HALVES = [
    (conv_bf16.KERNEL, dt.bf16, "x86-64-v4+avx512bf16", r"vdpbf16ps.*%zmm"),
    (conv_bf16.KERNEL, dt.bf16, "x86-64-v4+avx512bf16", r"vcvtneps2bf16"),
    (conv_bf16.KERNEL, dt.bf16, "x86-64-v3", r"vfmadd.*%ymm"),
    (conv_bf16.KERNEL, dt.bf16, "aarch64+bf16", r"bfdot\s+v"),
    (conv_bf16.KERNEL, dt.bf16, "aarch64", r"fmla\s+v"),
    (conv_direct.KERNEL, dt.f16, "x86-64-v4", r"vcvtph2ps.*%zmm"),
    (conv_direct.KERNEL, dt.f16, "x86-64-v3", r"vcvtph2ps.*%ymm"),
    (conv_direct.KERNEL, dt.f16, "aarch64", r"fcvtl\s+v"),
]


@pytest.mark.parametrize(("kernel", "kind", "name", "wanted"), HALVES, ids=[f"{kernel.name}-{kind}-{name}" for kernel, kind, name, _ in HALVES])
def test_products_of_halves(kernel, kind, name, wanted):
    target = parse(name).with_cores(1)
    weight = np.ones((64, 32, 1, 1), kind.numpy)
    case = Region(
        "case", Conv((1, 1), (0, 0, 0, 0), (1, 1)), (Operand(View.dense((1, 32, 14, 14), kind, NHWC)), Operand(View.dense(weight.shape, kind), weight)), 2, X,
        (View.dense((1, 64, 14, 14), kind, NHWC),),
    )  # fmt: skip
    module = Module(target)
    module.add(kernel.emit(case, kernel.space(case, target)[0], target), "case()", "case")
    assert module.used.extras == target.extras
    text = assembly("\n".join(module.units()[:1]), target)
    assert re.search(wanted, text), f"{kernel.name} on {name}: no {wanted}"
    assert not re.search(r"(call|bl)q?\s+\w*(extendhf|truncsf|gnu_h2f|gnu_f2h)", text), "16-bit floats are converted by a function"


@pytest.mark.parametrize("zero", [0.0, 7.0, 7.5, None])
@pytest.mark.parametrize("name", ["x86-64-v4+avx512vnni", "x86-64-v3"])
def test_bytes_are_packed_from_several_vectors(name, zero):
    """None: no zero point is added; what is no whole number is none, and is added in floats."""
    target, shape, out = parse(name).with_cores(1), (1, 32, 14, 14), (1, 64, 14, 14)
    rounded = call("round", Cast(dt.f32, X) * 0.01)
    weight, added = np.ones((64, 32, 1, 1), np.int8), np.asarray(zero or 0.0, np.float32)
    operands = [Operand(View.dense(shape, dt.u8, NHWC)), Operand(View.dense(weight.shape, dt.i8), weight)]
    operands += [Operand(View.dense((), dt.f32).broadcast(out), added)] if zero is not None else []
    expr = saturated(rounded if zero is None else rounded + Input(1), dt.f32, dt.u8)
    op = IntegerConv((1, 1), (0, 0, 0, 0), (1, 1))
    case = Region("case", op, tuple(operands), 2, expr, (View.dense(out, dt.u8, NHWC),))
    params = next(p for p in conv_int8.KERNEL.space(case, target) if p.nv in (2, 4))
    module = Module(target)
    module.add(conv_int8.KERNEL.emit(case, params, target), "case()", "case")
    text = assembly("\n".join(module.units()[:1]), target)
    assert ("vpackssdw" in text) == (zero != 7.5)
    assert ("vpaddsw" in text, "vaddps" in text) == (zero in (0.0, 7.0), zero == 7.5)


@pytest.mark.parametrize("target", [t for t in TARGETS.values() if t.arch != "x86_64"], ids=str)
def test_kernels_compile_for_other_processors(target):
    objects = compile_all(unit(list(problems()), target), target)
    assert all(o.stat().st_size > 0 for o in objects)
    listing = assembly(unit(["silu"], target), target)
    assert re.search(r"\bfmla\s+v\d+\.4s", listing), "no vector multiply-add"


def test_emitting_twice_gives_the_same_text():
    for target in TARGETS.values():
        for kernel, case in problems().values():
            for params in kernel.space(case, target):
                first, second = kernel.emit(case, params, target), kernel.emit(case, params, target)
                assert (first.body, first.helpers, first.tasks, first.scratch) == (second.body, second.helpers, second.tasks, second.scratch)
                assert "case" not in first.body, "a layer's name keeps equal kernels apart"
                assert len(first.pointers) == len(second.pointers)
                assert all(np.array_equal(a.array, b.array) for a, b in zip(first.pointers, second.pointers) if hasattr(a, "array"))
