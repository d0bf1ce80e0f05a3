"""Every vector instruction of every instruction set the host runs, against its numpy meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from strop.errors import ToolchainError
from strop.target.detect import TARGETS, runs_here
from strop.target.isa.base import Instr
from strop.target.isa.table import ISAS
from tests.target import instr_calls

HERE = [t for t in TARGETS.values() if runs_here(t)]

#: Allowed error in units in the last place where it is not 0. ``None``: see the test.
ULPS = {
    "vexp": 1.5, "vexpm1": 2, "vlog": 1.5, "vlog1p": 1.5, "vtanh": 3, "verf": 3.5, "vsin": 2, "vcos": 2, "vturn": 2, "vpow": 1,
    "vtan": 4, "vasin": 4, "vacos": 4, "vatan": 4, "vsinh": 4, "vcosh": 4, "vasinh": 4, "vacosh": 4, "vatanh": 4,
    "vhadd": 16, "vhmul": 16, "vfma": 1, "vfma_half": 1, "vdot2_bf16": 2,
}  # fmt: skip
#: Values an instruction's first operands must keep to: name -> (low, high). Others get any value, infinities and NaN included.
RANGES = {
    "vscale": (-8, 8), "vmantissa": (1e-42, 1e38), "vexponent": (1e-42, 1e38), "vturn": (-50, 50), "vcvt_i": (-1e9, 1e9),
    "vcvt_f": (-1e9, 1e9), "vhadd": (0, 9), "vhmul": (0.5, 2), "vfma": (1, 2), "vfma_half": (1, 2), "vfma_same": (-9, 9), "vasin": (-1, 1), "vacos": (-1, 1),
    "vatanh": (-0.99, 0.99), "vacosh": (1, 90), "vtan": (-1.5, 1.5), "vpow": (0, 9), "vdot2_bf16": (1, 2),
}  # fmt: skip
#: Instructions that may take subnormal numbers for zero.
FLUSHES = ("vround_bf16", "vstore_bf16", "vstore_bf16_n", "vscatter_bf16_n")
#: Instructions that store vectors of numbers, no NaN among them, side by side as 8-bit integers.
SIDE_BY_SIDE = {f"vstore{count}_{kind}": count for count in (2, 4) for kind in ("u8", "i8")}
EDGES = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 1.5, 2.5, 1e-40, 3e38, -3e38, 8388609.0, -7.5], np.float32)


def _vector(rng: np.random.Generator, instr: Instr, name: str, lanes: int) -> np.ndarray:
    if instr.name == "vscale" and name == "n":
        return rng.integers(-140, 120, lanes).astype(np.float32)
    if instr.name in RANGES:
        return rng.uniform(*RANGES[instr.name], lanes).astype(np.float32)
    values = rng.uniform(-9, 9, lanes).astype(np.float32) * (40 if instr.name in SIDE_BY_SIDE else 1)
    picked = rng.random(lanes) < 0.4
    edges = rng.choice(EDGES[~np.isnan(EDGES)] if name == "c" or instr.name in SIDE_BY_SIDE else EDGES, lanes)
    if instr.name in FLUSHES:
        edges = np.where(np.abs(edges) < 1e-38, np.float32(0), edges)
    return np.where(picked, edges, values)


def _problems(rng: np.random.Generator, instr: Instr, lanes: int) -> Iterator[list[np.ndarray]]:
    """Operand arrays: 40 of them, over the tails and strides where there are any."""
    for trial in range(40):
        count = (0, 1, lanes - 1, lanes, lanes + 3, 300, 2)[trial % 7]
        stride = (1, 3, 17)[trial % 3]
        arrays: list[np.ndarray] = []
        names = [name for _, name in instr_calls.parameters(instr)]
        for kind, name in instr_calls.parameters(instr):
            if kind == "vf":
                arrays.append(_vector(rng, instr, name, lanes))
            elif kind == "vi" and instr.name == "vdot2_bf16":
                arrays.append(rng.uniform(*RANGES["vdot2_bf16"], 2 * lanes).astype(ml_dtypes.bfloat16).view(np.int32))
            elif instr.name == "vdot4_small" and name == "b":
                arrays.append(rng.integers(-64, 65, 4 * lanes).astype(np.int8).view(np.int32))
            elif kind == "vi":
                mask = "m" in name or instr.name == "vany"
                density = (0.0, 0.1, 0.5, 1.0)[trial % 4]
                bits = -(rng.random(lanes) < density).astype(np.int32)
                arrays.append(bits if mask else rng.integers(-(2**30), 2**30, lanes).astype(np.int32))
            elif kind == "float":
                arrays.append(rng.standard_normal(1).astype(np.float32))
            elif kind in ("int64_t", "int32_t"):
                value = stride if name == "s" else trial % 4 if name == "shift" else 1 + trial % 4 if name == "rows" else (0, 3, 255, -128)[trial % 4] if name == "zero" else count
                arrays.append(np.array([value], np.int64 if kind == "int64_t" else np.int32))
            else:
                if "int16" in kind and "uint16" not in kind:
                    arrays.append(rng.integers(-32768, 32768, max(2, lanes)).astype(np.int16))
                    continue
                if "int8" in kind or "void" in kind:
                    if "rows" in names:
                        arrays.append(rng.integers(0, 256, 3 * stride + lanes).astype(np.uint8))
                        continue
                    size = 2 * lanes if instr.name == "vload_p" else 4 * lanes if instr.name == "vload_q" else 4 if instr.name == "vquad" else lanes * SIDE_BY_SIDE.get(instr.name, 1)
                    info = np.iinfo(np.int8 if kind.removeprefix("const ") == "int8_t *" else np.uint8)
                    arrays.append(rng.integers(info.min, info.max + 1, size).astype(info.dtype))
                    continue
                if "int16" in kind or "Float16" in kind:
                    of = np.float16 if "Float16" in kind else ml_dtypes.bfloat16
                    values = np.concatenate([(rng.standard_normal(20 * lanes) * 100).astype(np.float32), 1e-6 * EDGES, EDGES])
                    with np.errstate(over="ignore"):
                        arrays.append(rng.permutation(values).astype(of)[: (lanes - 1) * (stride if "s" in names else 1) + 1].view(np.uint16))
                    continue
                size = 32 if instr.name == "verf_piece" else (lanes - 1) * (stride if "s" in names else 1) + 1
                kind_of = np.int32 if "int32" in kind else np.float32
                arrays.append((rng.standard_normal(size) * 100).astype(kind_of))
        yield arrays


def test_optional_features_mean_the_same():
    """Instructions that take the place of others where a processor has more, and code that says which it needs."""
    found = 0
    for base in HERE:
        for target in (replace(base, extras=(feature,)) for feature in base.optional):
            isa = ISAS[base.isa]
            replaced = list(isa.variants[target.extras[0]].values())
            assert isa.used(f"{replaced[0].name}(a, b, c)", target.extras) == target.extras
            assert isa.used("vload(p)", target.extras) == ()
            if not runs_here(target):
                continue
            found += 1
            lib = instr_calls.library(target, replaced)
            for instr in replaced:
                for arrays in _problems(np.random.default_rng(8), instr, isa.lanes):
                    got = instr_calls.run(lib, instr, arrays, isa.lanes)
                    assert _agree(got, _expected(instr, arrays), ULPS.get(instr.name, 0)), (target, instr.name)
    if not found:
        pytest.skip("this machine has none of them")


def _expected(instr: Instr, arrays: list[np.ndarray]) -> np.ndarray:
    assert instr.meaning is not None
    given = []
    for (kind, _), array in zip(instr_calls.parameters(instr), arrays, strict=True):
        if kind in ("int64_t", "int32_t"):
            given.append(int(array[0]))
        elif kind == "float":
            given.append(array[0])
        else:
            wide = instr.name in ULPS and array.dtype == np.float32
            given.append(array.astype(np.float64) if wide else array)
    with np.errstate(all="ignore"):
        return np.asarray(instr.meaning(*given))


def _agree(got: np.ndarray, want: np.ndarray, ulps: float) -> bool:
    want = np.broadcast_to(want, got.shape) if want.ndim == 0 else want[: len(got)]
    if got.dtype != np.float32:
        return bool((got == want.astype(got.dtype)).all())
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(want), 2.0**-126))) - 23)
        near = np.abs(got.astype(np.float64) - want) <= ulps * unit
    return bool((same | near).all())


@pytest.mark.parametrize("target", HERE, ids=str)
def test_every_instruction_means_what_it_says(target):
    isa = ISAS[target.isa]
    instrs = list(isa.table.values())
    assert all(i.meaning is not None for i in instrs), [i.name for i in instrs if i.meaning is None]
    lib = instr_calls.library(target, instrs)
    rng = np.random.default_rng(7)
    wrong = []
    for instr in instrs:
        for arrays in _problems(rng, instr, isa.lanes):
            want = _expected(instr, arrays)
            got = instr_calls.run(lib, instr, arrays, isa.lanes)
            if not _agree(got, want, ULPS.get(instr.name, 0)):
                wrong.append(f"{instr.name}({', '.join(map(str, arrays))}) = {got}, not {want}")
                break
    assert not wrong, "\n".join(wrong)


def test_extensions_redefine_but_do_not_drop():
    base = set(ISAS["portable"].table)
    for isa in ISAS.values():
        assert base <= set(isa.table)
        for name in base:
            assert isa.table[name].params == ISAS["portable"].table[name].params, (isa.name, name)
            assert isa.table[name].result == ISAS["portable"].table[name].result, (isa.name, name)


def test_prologue_holds_only_what_is_called():
    text = ISAS["avx512"].prologue("y = vexp(x);")
    assert "static inline vf vexp(" in text and "static inline vf vscale(" in text
    assert "vtanh" not in text
    assert text.index(" vscale(") < text.index(" vexp(")


def test_portable_compiles_for_another_processor():
    target = TARGETS["aarch64"]
    text = instr_calls.source(ISAS[target.isa], ISAS[target.isa].table.values())
    try:
        from strop.codegen.toolchain import assembly

        listing = assembly(text, target)
    except ToolchainError as error:  # a system clang without that target's headers
        pytest.skip(str(error))
    assert "fmla" in listing and "t_vexp" in listing
