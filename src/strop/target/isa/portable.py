"""GNU vector types: compiles for any target clang knows. 128-bit vectors; the base that other instruction sets extend."""

from __future__ import annotations

import math

import numpy as np

from strop.target.isa.base import Instr, Isa


def header(lanes: int) -> str:
    """Vector types of a given width."""
    size = lanes * 4
    return (
        f"#define VL {lanes}\n"
        f"typedef float vf __attribute__((vector_size({size})));\n"
        f"typedef float vf_u __attribute__((vector_size({size}), aligned(4)));\n"
        f"typedef int32_t vi __attribute__((vector_size({size})));\n"
        f"typedef int32_t vi_u __attribute__((vector_size({size}), aligned(4)));\n"
    )


def _lane_call(name: str, libm: str, meaning: object) -> Instr:
    return Instr(
        name,
        "vf",
        "vf x",
        f"vf r; for (int i = 0; i < VL; i++) r[i] = {libm}(x[i]); return r;",
        meaning,  # type: ignore[arg-type]
    )


_LIBM = {
    "expm1": np.expm1, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "exp": np.exp, "log": np.log, "tanh": np.tanh, "erf": np.vectorize(math.erf),
}  # fmt: skip


def _select(mask: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.where(mask != 0, a, b)


_BASE = [
    Instr("vload", "vf", "const float *p", "return *(const vf_u *)p;", lambda p: p),
    Instr("vstore", "void", "float *p, vf x", "*(vf_u *)p = x;"),
    Instr(
        "vload_n",
        "vf",
        "const float *p, int64_t n",
        "vf r = {0}; for (int i = 0; i < VL; i++) if (i < n) r[i] = p[i]; return r;",
        lambda p, n: np.where(np.arange(len(p)) < n, p, 0),
        needs="0 <= n; lanes from n on are 0 and not read",
    ),
    Instr(
        "vstore_n",
        "void",
        "float *p, vf x, int64_t n",
        "for (int i = 0; i < VL; i++) if (i < n) p[i] = x[i];",
        needs="0 <= n; elements from n on are not written",
    ),
    Instr(
        "vgather",
        "vf",
        "const float *p, int64_t s",
        "vf r; for (int i = 0; i < VL; i++) r[i] = p[i * s]; return r;",
        needs="lanes s elements apart",
    ),
    Instr(
        "vgather_n",
        "vf",
        "const float *p, int64_t s, int64_t n",
        "vf r = {0}; for (int i = 0; i < VL; i++) if (i < n) r[i] = p[i * s]; return r;",
    ),
    Instr(
        "vscatter_n",
        "void",
        "float *p, vf x, int64_t s, int64_t n",
        "for (int i = 0; i < VL; i++) if (i < n) p[i * s] = x[i];",
    ),
    Instr("vset1", "vf", "float x", "return x - (vf){0};", lambda x: x),
    Instr("vzero", "vf", "void", "return (vf){0};"),
    Instr("vfma", "vf", "vf a, vf b, vf c", "return a * b + c;", lambda a, b, c: a * b + c),
    Instr("vand", "vi", "vi a, vi b", "return a & b;", lambda a, b: a & b),
    Instr(
        "vselect",
        "vf",
        "vi m, vf a, vf b",
        "return (vf)((m & (vi)a) | (~m & (vi)b));",
        _select,
        needs="m is a mask",
    ),
    Instr("vabs", "vf", "vf x", "return __builtin_elementwise_abs(x);", np.abs),
    Instr("vsqrt", "vf", "vf x", "return __builtin_elementwise_sqrt(x);", np.sqrt),
    Instr("vfloor", "vf", "vf x", "return __builtin_elementwise_floor(x);", np.floor),
    Instr("vceil", "vf", "vf x", "return __builtin_elementwise_ceil(x);", np.ceil),
    Instr("vtrunc", "vf", "vf x", "return __builtin_elementwise_trunc(x);", np.trunc),
    Instr("vround", "vf", "vf x", "return __builtin_elementwise_roundeven(x);", np.rint),
    Instr(
        "vmax_c",
        "vf",
        "vf x, vf c",
        "return vselect(x < c, c, x);",
        lambda x, c: np.where(x < c, c, x),
        needs="c is not NaN; NaN in x is kept",
    ),
    Instr(
        "vmin_c",
        "vf",
        "vf x, vf c",
        "return vselect(x > c, c, x);",
        lambda x, c: np.where(x > c, c, x),
        needs="c is not NaN; NaN in x is kept",
    ),
    Instr("vmax", "vf", "vf a, vf b", "return vselect(a != a, a, vselect(b > a, b, vselect(b != b, b, a)));", np.maximum),
    Instr("vmin", "vf", "vf a, vf b", "return vselect(a != a, a, vselect(b < a, b, vselect(b != b, b, a)));", np.minimum),
    Instr("vhadd", "float", "vf x", "float r = 0; for (int i = 0; i < VL; i++) r += x[i]; return r;", np.sum),
    Instr("vhmax", "float", "vf x", "float r = x[0]; for (int i = 1; i < VL; i++) r = r < x[i] ? x[i] : r; return r;", np.max),
    Instr("vhmin", "float", "vf x", "float r = x[0]; for (int i = 1; i < VL; i++) r = r > x[i] ? x[i] : r; return r;", np.min),
    Instr(
        "vpow",
        "vf",
        "vf a, vf b",
        "vf r; for (int i = 0; i < VL; i++) r[i] = powf(a[i], b[i]); return r;",
        np.power,
    ),
    Instr("vcvt_i", "vi", "vf x", "return __builtin_convertvector(x, vi);", lambda x: x.astype(np.int32)),
    Instr("vcvt_f", "vf", "vi x", "return __builtin_convertvector(x, vf);", lambda x: x.astype(np.float32)),
    *(_lane_call(f"v{name}", f"{name}f", meaning) for name, meaning in _LIBM.items()),
]

PORTABLE = Isa("portable", 4, 16, header(4), {i.name: i for i in _BASE})
