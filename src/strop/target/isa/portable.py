"""GNU vector types: compiles for any target clang knows. 128-bit vectors; the base that other instruction sets extend."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.target.isa import halves, integers, vecmath
from strop.target.isa.base import Instr, Isa

Array = np.ndarray[Any, Any]


def header(lanes: int) -> str:
    """Vector types of a given width."""
    size = lanes * 4
    return (
        f"#define VL {lanes}\n"
        f"typedef float vf __attribute__((vector_size({size})));\n"
        f"typedef float vf_u __attribute__((vector_size({size}), aligned(4)));\n"
        f"typedef int32_t vi __attribute__((vector_size({size})));\n"
        f"typedef int32_t vi_u __attribute__((vector_size({size}), aligned(4)));\n"
        f"typedef uint8_t vu8 __attribute__((vector_size({lanes}), aligned(1)));\n"
        f"typedef int8_t vi8 __attribute__((vector_size({lanes}), aligned(1)));\n"
        f"typedef uint16_t vu16 __attribute__((vector_size({2 * lanes}), aligned(2)));\n"
        f"typedef int16_t vi16 __attribute__((vector_size({2 * lanes}), aligned(2)));\n"
        f"typedef int16_t vpairs __attribute__((vector_size({size})));\n"
        f"typedef int8_t vpairs8 __attribute__((vector_size({2 * lanes}), aligned(1)));\n"
        f"typedef double vd __attribute__((vector_size({2 * size})));\n"
        f"typedef int64_t vl __attribute__((vector_size({2 * size})));\n"
    )


def _lane_call(name: str, meaning: Any) -> Instr:
    body = f"vf r; for (int i = 0; i < VL; i++) r[i] = {name}f(x[i]); return r;"
    return Instr(f"v{name}", "vf", "vf x", body, meaning)


#: Functions that are called lane by lane from the C library.
_LIBM = {
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
}  # fmt: skip


def _stored(p: Array, x: Array, n: int | None = None, s: int = 1) -> Array:
    """``p`` after lanes 0..n-1 of ``x`` were stored s elements apart."""
    result = p.copy()
    count = len(x) if n is None else min(n, len(x))
    result[: count * s : s] = x[:count]
    return result


def _loaded(p: Array, n: int, s: int = 1) -> Array:
    """Elements s apart, those from n on replaced by 0 of the same type."""
    lanes = p[::s]
    return np.where(np.arange(len(lanes)) < n, lanes, np.zeros_like(lanes))


#: a * b + c rounded once without an instruction for it: the sum of the exact product is rounded to odd in f64, so that rounding it to f32 is right
#: (Boldo and Melquiond, 2008, "Emulation of FMA and correctly rounded sums").
_ROUNDED_ONCE = (
    "const vd p = __builtin_convertvector(a, vd) * __builtin_convertvector(b, vd), d = __builtin_convertvector(c, vd), s = p + d, t = s - p;\n"
    "const vd e = (p - (s - t)) + (d - t);\n"
    "const vl bits = (vl)s, moved = ((e > (vd){0}) | (e < (vd){0})) & ((bits & 1) - 1), away = (e > (vd){0}) ^ (s < (vd){0});\n"
    "return __builtin_convertvector((vd)(bits + (moved & (-2 * away - 1))), vf);"
)


def _fma(a: Array, b: Array, c: Array) -> Array:
    exact = a.astype(np.longdouble) * b + c
    return np.asarray(exact.astype(np.float32))


_MEMORY = [
    Instr("vload", "vf", "const float *p", "return *(const vf_u *)p;", lambda p: p),
    Instr("vstore", "void", "float *p, vf x", "*(vf_u *)p = x;", _stored),
    Instr("vload_i", "vi", "const int32_t *p", "return *(const vi_u *)p;", lambda p: p),
    Instr("vstore_i", "void", "int32_t *p, vi x", "*(vi_u *)p = x;", _stored),
    Instr(
        "vload_n",
        "vf",
        "const float *p, int64_t n",
        "vf r = {0}; for (int i = 0; i < VL; i++) if (i < n) r[i] = p[i]; return r;",
        _loaded,
        needs="0 <= n; lanes from n on are 0 and not read",
    ),
    Instr(
        "vstore_n",
        "void",
        "float *p, vf x, int64_t n",
        "for (int i = 0; i < VL; i++) if (i < n) p[i] = x[i];",
        _stored,
        needs="0 <= n; elements from n on are not written",
    ),
    Instr(
        "vgather",
        "vf",
        "const float *p, int64_t s",
        "vf r; for (int i = 0; i < VL; i++) r[i] = p[i * s]; return r;",
        lambda p, s: p[::s],
        needs="lanes s elements apart; s * VL fits i32",
    ),
    Instr(
        "vgather_n",
        "vf",
        "const float *p, int64_t s, int64_t n",
        "vf r = {0}; for (int i = 0; i < VL; i++) if (i < n) r[i] = p[i * s]; return r;",
        lambda p, s, n: _loaded(p, n, s),
        needs="as vgather; lanes from n on are 0 and not read",
    ),
    Instr(
        "vscatter_n",
        "void",
        "float *p, vf x, int64_t s, int64_t n",
        "for (int i = 0; i < VL; i++) if (i < n) p[i * s] = x[i];",
        lambda p, x, s, n: _stored(p, x, n, s),
        needs="lanes s elements apart; s * VL fits i32; elements of lanes from n on are not written",
    ),
]

_BASIC = [
    Instr("vset1", "vf", "float x", "return x - (vf){0};", lambda x: x),
    Instr("vzero", "vf", "void", "return (vf){0};", lambda: np.float32(0)),
    Instr("viota", "vi", "void", "vi r; for (int i = 0; i < VL; i++) r[i] = i; return r;", lambda: np.arange(64, dtype=np.int32)),
    Instr("vfma", "vf", "vf a, vf b, vf c", "return a * b + c;", lambda a, b, c: a * b + c),
    Instr("vfma_same", "vf", "vf a, vf b, vf c", _ROUNDED_ONCE, _fma, needs="numbers; rounded once on every instruction set"),
    Instr("vand", "vi", "vi a, vi b", "return a & b;", lambda a, b: a & b),
    Instr(
        "vselect",
        "vf",
        "vi m, vf a, vf b",
        "return (vf)((m & (vi)a) | (~m & (vi)b));",
        lambda m, a, b: np.where(m != 0, a, b),
        needs="m is a mask",
    ),
    Instr(
        "vselect_i",
        "vi",
        "vi m, vi a, vi b",
        "return (m & a) | (~m & b);",
        lambda m, a, b: np.where(m != 0, a, b),
        needs="m is a mask",
    ),
    Instr(
        "vany",
        "int",
        "vi m",
        "int r = 0; for (int i = 0; i < VL; i++) r |= m[i]; return r != 0;",
        lambda m: np.any(m != 0),
        needs="m is a mask; 1 when a lane is set, else 0",
    ),
    Instr("vabs", "vf", "vf x", "return (vf)((vi)x & 0x7fffffff);", np.abs),
    Instr(
        "vsign",
        "vf",
        "vf x",
        "return vselect(x > vzero(), vset1(1.0f), vselect(x < vzero(), vset1(-1.0f), x));",
        np.sign,
        needs="NaN is kept",
    ),
    Instr("vsqrt", "vf", "vf x", "return __builtin_elementwise_sqrt(x);", np.sqrt),
    Instr("vcvt_i", "vi", "vf x", "return __builtin_convertvector(x, vi);", lambda x: x.astype(np.int32), needs="x fits i32"),
    Instr("vcvt_f", "vf", "vi x", "return __builtin_convertvector(x, vf);", lambda x: x.astype(np.float32)),
]

#: |x| below 2^23 is rounded by adding 2^23; what is larger is whole already. The sign of x is kept, of zero too.
_ROUND = """const vf a = vabs(x);
const vf whole = (a + vset1(8388608.0f)) - vset1(8388608.0f);
const vf y = vselect(a < vset1(8388608.0f), whole, a);
return (vf)(((vi)y & 0x7fffffff) | ((vi)x & INT32_MIN));"""

_TRUNC = """const vf y = vround(vabs(x));
const vf down = vselect(y > vabs(x), y - vset1(1.0f), y);
return (vf)(((vi)down & 0x7fffffff) | ((vi)x & INT32_MIN));"""

_ROUNDING = [
    Instr("vround", "vf", "vf x", _ROUND, np.rint),
    Instr("vcvt_n", "vi", "vf x", "return vcvt_i(vround(x));", lambda x: np.rint(x).astype(np.int32), needs="x fits i32; halves to even"),
    Instr("vfloor", "vf", "vf x", "const vf y = vround(x); return vselect(y > x, y - vset1(1.0f), y);", np.floor),
    Instr(
        "vceil",
        "vf",
        "vf x",
        "const vf y = vround(x);\n"
        "const vf up = vselect(y < x, y + vset1(1.0f), y);\n"
        "return (vf)(((vi)up & 0x7fffffff) | ((vi)x & INT32_MIN));",
        np.ceil,
    ),
    Instr("vtrunc", "vf", "vf x", _TRUNC, np.trunc),
]

_EXTREMES = [
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
    Instr("vmax", "vf", "vf a, vf b", "return vselect((a > b) | (a != a), a, b);", np.maximum, needs="NaN wins"),
    Instr("vmin", "vf", "vf a, vf b", "return vselect((a < b) | (a != a), a, b);", np.minimum, needs="NaN wins"),
    Instr("vhadd", "float", "vf x", "float r = 0; for (int i = 0; i < VL; i++) r += x[i]; return r;", np.sum),
    Instr("vhmul", "float", "vf x", "float r = x[0]; for (int i = 1; i < VL; i++) r *= x[i]; return r;", np.prod),
    Instr(
        "vhmax",
        "float",
        "vf x",
        "float r = x[0]; for (int i = 1; i < VL; i++) r = r > x[i] || r != r ? r : x[i]; return r;",
        np.max,
        needs="NaN wins",
    ),
    Instr(
        "vhmin",
        "float",
        "vf x",
        "float r = x[0]; for (int i = 1; i < VL; i++) r = r < x[i] || r != r ? r : x[i]; return r;",
        np.min,
        needs="NaN wins",
    ),
]

_BASE = [
    *_MEMORY,
    *_BASIC,
    *_ROUNDING,
    *_EXTREMES,
    *vecmath.INSTRS,
    *integers.INSTRS,
    *halves.INSTRS,
    *(_lane_call(name, meaning) for name, meaning in _LIBM.items()),
]

PORTABLE = Isa("portable", 4, 16, header(4), {i.name: i for i in _BASE})
