"""Elementary functions on vectors, written once over the instructions of ``strop.target.isa.portable``.

Every function handles infinities, NaN, zeros and results that overflow or become denormal as libm does. Where the hardware is told to
flush denormals, denormal arguments and results count as zero. Coefficients come from ``tools/fit_vecmath.py``, which says how they are
fitted. Errors against the exact value, in units in the last place (f32): exp, log, expm1, log1p, sin, cos and pow stay below 2, tanh and
erf below 3.2, with and without fused multiply-add.

Range reductions: x = n ln 2 + r with ln 2 in two parts, the first with so few bits that n times it is exact (Cody and Waite 1980); for
log x = 2^e m with m in [0.75, 1.5); for sin and cos x = n pi/2 + r in f64. pow is exp2(y log2(x)) in f64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from strop.target.isa.base import Instr

Array = np.ndarray[Any, Any]

_EXP = (0.49999994, 0.16666521, 0.04166826, 0.008368669, 0.0013821304)
_EXPM1 = (0.5, 0.16666666, 0.041666493, 0.008333547, 0.001393232, 0.00019760785)
_LOG = (0.3333345, -0.2500011, 0.19990848, -0.16646878, 0.1447763, -0.13163936, 0.1047255, -0.045152254)
_ERF = (
    0.1283792, 0.10277138, -0.00020231833, -0.00060350634, 7.640192e-05, -1.8385613e-06, -5.180369e-07, 5.4095604e-08,
    -1.6444993e-09,
)  # fmt: skip
#: By power of t, for |x| = k / 8 + t: coefficients of k = 0..31; the last is the limit 1.
_ERF_PIECES = (
    (
        0.0, 0.1403162, 0.2763264, 0.4041169, 0.5204999, 0.6232409, 0.71115565, 0.7840751, 0.8427008, 0.8883882, 0.92290014, 0.94817007,
        0.96610516, 0.97844374, 0.9866717, 0.99199003, 0.9953223, 0.997346, 0.9985373, 0.99921703, 0.999593, 0.9997946, 0.9998994,
        0.99995214, 0.9999779, 0.9999901, 0.9999957, 0.9999982, 0.9999993, 0.9999997, 0.9999999, 1.0,
    ),
    (
        1.1283791, 1.1108848, 1.0600138, 0.98035276, 0.8787826, 0.76349956, 0.6429311, 0.52474505, 0.4151075, 0.31827396, 0.23652112,
        0.17035978, 0.11893029, 0.08047226, 0.052774996, 0.03354583, 0.020666987, 0.01234082, 0.0071423193, 0.0040064775, 0.002178284,
        0.0011478751, 0.0005862773, 0.0002902283, 0.00013925217, 6.4758686e-05, 2.9188557e-05, 1.275143e-05, 5.39927e-06, 2.2158486e-06,
        8.8139706e-07, 0.0,
    ),
    (
        2.1146347e-05, -0.13885602, -0.265, -0.3676142, -0.4394043, -0.47719577, -0.48223078, -0.4591846, -0.41509137, -0.35803673,
        -0.2956694, -0.23423548, -0.17842779, -0.13078484, -0.09238604, -0.062842876, -0.041377436, -0.02624993, -0.016106915,
        -0.009458294, -0.0053881346, -0.0029689278, -0.0016308946, -0.00081887556, -0.00037115056, -0.00020713161, -0.000117850956,
        -9.8571436e-05, -7.586803e-05, -2.1344638e-06, 7.911892e-06, 0.0,
    ),
    (
        -0.37731016, -0.358224, -0.30878738, -0.23472925, -0.1464487, -0.05576021, 0.026610848, 0.09274359, 0.13815643, 0.16227409,
        0.16740003, 0.15784545, 0.13872105, 0.11483478, 0.09017129, 0.067464136, 0.048248637, 0.033063594, 0.02174593, 0.01374865,
        0.008363664, 0.0048989095, 0.0027659105, 0.0015059772, 0.00079271436, 0.0004011803, 0.00019699267, 9.322339e-05, 4.2617175e-05,
        1.8827499e-05, 8.041627e-06, 0.0,
    ),
    (
        0.021036461, 0.06728809, 0.12596416, 0.16234973, 0.18590958, 0.17813082, 0.15824972, 0.11944616, 0.06598555, 0.023554591,
        -0.0022431118, -0.032316282, -0.036664844, -0.045249164, -0.04063532, -0.05612215, -0.023723835, -0.020158835, -0.010026795,
        -0.027523477, -0.023205474, -0.016618684, 0.0014202639, -0.005809023, -0.0129690375, 0.0006415426, 0.0055940812, 0.014066201,
        0.014506163, -0.0015405784, -0.0028835367, 0.0,
    ),
)  # fmt: skip
_SIN = (-0.16666655, 0.008332189, -0.00019518286)
_COS = (0.041666646, -0.001388731, 2.4432327e-05)
_LOG2_F64 = (
    2.88539008177785, 0.9617966941133597, 0.5770779423551006, 0.41220925395823255, 0.3199056084827016, 0.28290174739243873,
)  # fmt: skip
_EXP2_F64 = (
    0.9999999999616218, 0.6931471807287187, 0.24022651198753542, 0.05550410352826399, 0.009618027173262135,
    0.0013333922870344124, 0.00015469317108830928, 1.5201895473048145e-05,
)  # fmt: skip

#: Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
_ROUND = "vset1(12582912.0f)"
_ROUND_BITS = "0x4b400000"
#: ln 2 = 355/512 - 0.00021219444
_LN2_HIGH, _LN2_LOW = 0.693359375, -0.00021219444


def horner(x: str, coefficients: Sequence[float]) -> str:
    """C text of a polynomial, coefficients from the lowest power on."""
    text = f"vset1({coefficients[-1]!r}f)"
    for c in reversed(coefficients[:-1]):
        text = f"vfma({text}, {x}, vset1({c!r}f))"
    return text


def _horner_f64(x: str, coefficients: Sequence[float]) -> str:
    text = repr(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        text = f"({text} * {x} + {c!r})"
    return text


def _reduce(x: str) -> str:
    """Statements: t and n, the nearest integer of x / ln 2 (as low bits and as float), and the rest r."""
    return f"""const vf t = vfma({x}, vset1(1.442695f), {_ROUND});
const vf n = t - {_ROUND};
const vf r = vfma(n, vset1({-_LN2_LOW!r}f), vfma(n, vset1({-_LN2_HIGH!r}f), {x}));"""


_EXP_BODY = f"""const vf c = vmin_c(vmax_c(x, vset1(-104.0f)), vset1(89.0f));
{_reduce("c")}
const vf p = {horner("r", _EXP)};
return vscale(vfma(r * r, p, r) + vset1(1.0f), n);"""

_EXPM1_PARTS = f"""{_reduce("c")}
const vf q = r * r * {horner("r", _EXPM1)};"""

_EXPM1_BODY = f"""const vf c = vmin_c(vmax_c(x, vset1(-18.0f)), vset1(89.0f));
{_EXPM1_PARTS}
const vf half = (vf)((((vi)t - {_ROUND_BITS}) + 126) << 23);
const vf y = vfma(half, q, vfma(half, r, half - vset1(0.5f)));
return vselect(vabs(x) < vset1(1e-20f), x, y + y);"""

#: With e = exp(2|x|) - 1: e / (e + 2) below one half, 1 - 2 / (e + 2) above.
_TANH_BODY = f"""const vf a = vmin_c(vabs(x), vset1(10.0f));
const vf c = a + a;
{_EXPM1_PARTS}
const vf s = (vf)((((vi)t - {_ROUND_BITS}) + 127) << 23);
const vf e = vfma(s, q, vfma(s, r, s - vset1(1.0f)));
const vi low = a < vset1(0.55f);
const vf y = vselect(low, e, vset1(-2.0f)) / (e + vset1(2.0f)) + vselect(low, vzero(), vset1(1.0f));
return (vf)((vi)y | ((vi)x & INT32_MIN));"""

#: erf(x) = tanh(x + x P(x^2)), which nears 1 without rounding errors that matter.
_ERF_BODY = f"""const vf a = vabs(x);
const vf z = a * a;
const vf g = {horner("z", _ERF)};
const vf y = vselect(a >= vset1(3.9f), vset1(1.0f), vtanh(vfma(a, g, a)));
return (vf)((vi)y | ((vi)x & INT32_MIN));"""

_MANTISSA_BODY = """const vf s = vselect(x < vset1(1.17549435e-38f), x * vset1(16777216.0f), x);
return (vf)((((vi)s - 0x3f400000) & 0x7fffff) + 0x3f400000);"""

_EXPONENT_BODY = """const vi tiny = x < vset1(1.17549435e-38f);
const vf s = vselect(tiny, x * vset1(16777216.0f), x);
return vcvt_f((((vi)s - 0x3f400000) >> 23) - (tiny & 24));"""

#: log(1 + f) + e ln 2 without the final sum's special cases.
_LOG_SUM = f"""const vf p = {horner("f", _LOG)};
const vf low = vfma(f * f, vfma(f, p, vset1(-0.5f)), e * vset1({_LN2_LOW!r}f));
const vf y = vfma(e, vset1({_LN2_HIGH!r}f), f + low);"""

_LOG_BODY = f"""const vf e = vexponent(x);
const vf f = vmantissa(x) - vset1(1.0f);
{_LOG_SUM}
const vf edge = vselect(x == vzero(), vset1(-INFINITY), vset1(NAN));
return vselect(x > vzero(), vselect(x < vset1(INFINITY), y, x), edge);"""

_LOG1P_BODY = f"""const vf u = x + vset1(1.0f);
const vi k = ((vi)u - 0x3f400000) >> 23;
const vf e = vcvt_f(k);
const vf s = (vf)((127 - k) << 23);
const vf m = (vf)((((vi)u - 0x3f400000) & 0x7fffff) + 0x3f400000);
const vf f = vselect(x < vset1(1e9f), vfma(x, s, s - vset1(1.0f)), m - vset1(1.0f));
{_LOG_SUM}
const vf edge = vselect(x == vset1(-1.0f), vset1(-INFINITY), vset1(NAN));
const vf big = vselect(x < vset1(INFINITY), y, x);
return vselect(vabs(x) < vset1(1e-20f), x, vselect(x > vset1(-1.0f), big, edge));"""

_TURN_BODY = f"""const vd w = __builtin_convertvector(x, vd);
const vd t = w * 0.6366197723675814 + 6755399441055744.0;
const vd n = t - 6755399441055744.0;
const vd d = (w - n * 1.5707963267341256) - n * 6.077100506506192e-11;
const vi k = __builtin_convertvector((vl)t, vi) + shift;
const vf r = __builtin_convertvector(d, vf);
const vf z = r * r;
const vf sine = vfma(r * z, {horner("z", _SIN)}, r);
const vf cosine = vfma(z * z, {horner("z", _COS)}, vfma(z, vset1(-0.5f), vset1(1.0f)));
const vf y = vselect((k & 1) != 0, cosine, sine);
return (vf)((vi)y ^ ((k & 2) << 30));"""


def _turned(function: str, shift: int) -> str:
    return f"""if (vany(~(vabs(x) < vset1(1e6f)))) {{
  vf r;
  for (int i = 0; i < VL; i++) r[i] = {function}(x[i]);
  return r;
}}
return vturn(x, {shift});"""


_POW_BODY = f"""if (vany(~((a > vzero()) & (a < vset1(INFINITY)) & (vabs(b) < vset1(INFINITY))))) {{
  vf r;
  for (int i = 0; i < VL; i++) r[i] = powf(a[i], b[i]);
  return r;
}}
const vl bits = (vl)__builtin_convertvector(a, vd) - 0x3fe6a09e667f3bcdLL;
const vd m = (vd)((bits & 0xfffffffffffffLL) + 0x3fe6a09e667f3bcdLL);
const vd s = (m - 1.0) / (m + 1.0);
const vd z = s * s;
const vd log2 = __builtin_convertvector(bits >> 52, vd) + s * {_horner_f64("z", _LOG2_F64)};
const vd product = __builtin_convertvector(b, vd) * log2;
const vd y = __builtin_elementwise_min(__builtin_elementwise_max(product, (vd){{0}} - 200.0), (vd){{0}} + 200.0);
const vd t = y + 6755399441055744.0;
const vd r = y - (t - 6755399441055744.0);
const vd p = {_horner_f64("r", _EXP2_F64)};
const vd scale = (vd)(((vl)t + 1023) << 52);
return __builtin_convertvector(p * scale, vf);"""


def _mantissa(x: Array) -> Array:
    return np.asarray(x / np.exp2(_exponent(x).astype(np.float64)), np.float32)


def _exponent(x: Array) -> Array:
    return np.asarray(np.floor(np.log2(x.astype(np.float64) / 0.75)), np.float32)


#: In terms of the portable instructions.
INSTRS = [
    Instr(
        "vscale",
        "vf",
        "vf x, vf n",
        "const vi k = vcvt_i(n);\nconst vi half = k >> 1;\n"
        "return x * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);",
        lambda x, n: np.ldexp(x, n.astype(np.int32)),
        needs="x * 2^n with a whole n of -200..200",
    ),
    Instr(
        "vmantissa",
        "vf",
        "vf x",
        _MANTISSA_BODY,
        _mantissa,
        needs="x > 0 and finite; x / 2^vexponent(x), in [0.75, 1.5)",
    ),
    Instr("vexponent", "vf", "vf x", _EXPONENT_BODY, _exponent, needs="x > 0 and finite; see vmantissa"),
    Instr("vexp", "vf", "vf x", _EXP_BODY, np.exp),
    Instr("vexpm1", "vf", "vf x", _EXPM1_BODY, np.expm1),
    Instr("vtanh", "vf", "vf x", _TANH_BODY, np.tanh),
    Instr("verf", "vf", "vf x", _ERF_BODY, np.vectorize(math.erf)),
    Instr("vlog", "vf", "vf x", _LOG_BODY, np.log),
    Instr("vlog1p", "vf", "vf x", _LOG1P_BODY, np.log1p),
    Instr(
        "vturn",
        "vf",
        "vf x, int32_t shift",
        _TURN_BODY,
        lambda x, shift: np.sin(x + np.float64(shift) * np.pi / 2),
        needs="|x| < 1e6; the sine of x + shift quarter turns",
    ),
    Instr("vsin", "vf", "vf x", _turned("sinf", 0), np.sin),
    Instr("vcos", "vf", "vf x", _turned("cosf", 1), np.cos),
    Instr("vpow", "vf", "vf a, vf b", _POW_BODY, np.power),
]

def _table(name: str, rows: Sequence[Sequence[float]]) -> str:
    inner = ",\n".join("  {" + ", ".join(f"{c!r}f" for c in row) + "}" for row in rows)
    return f"static const float {name}[{len(rows)}][{len(rows[0])}] = {{\n{inner}}};"


#: 32 polynomials, picked by two-register permutes. Adding 1.5 * 2^20 leaves k of the nearest k / 8 in the low bits.
_ERF_AVX512_BODY = f"""{_table("erf_pieces", _ERF_PIECES)}
const vf a = vmin_c(vabs(x), vset1(3.937f));
const vf m = a + vset1(1572864.0f);
const vf t = a - (m - vset1(1572864.0f));
vf y = verf_piece(erf_pieces[4], m);
for (int i = 3; i >= 0; i--) y = vfma(y, t, verf_piece(erf_pieces[i], m));
return (vf)((vi)vmin_c(y, vset1(1.0f)) | ((vi)x & INT32_MIN));"""

#: Where AVX-512 has an instruction for a step.
AVX512_INSTRS = [
    Instr(
        "verf_piece",
        "vf",
        "const float *p, vf m",
        "return _mm512_permutex2var_ps(_mm512_loadu_ps(p), (__m512i)m, _mm512_loadu_ps(p + 16));",
        lambda p, m: p[m.view(np.int32) & 31],
        needs="32 elements at p; the low 5 bits of each lane of m pick one",
        expect="vperm",
    ),
    Instr("verf", "vf", "vf x", _ERF_AVX512_BODY),
    Instr("vscale", "vf", "vf x, vf n", "return _mm512_scalef_ps(x, n);", expect="vscalefps"),
    Instr(
        "vmantissa",
        "vf",
        "vf x",
        "return _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);",
        expect="vgetmantps",
    ),
    Instr(
        "vexponent",
        "vf",
        "vf x",
        "return _mm512_getexp_ps(x) - _mm512_getexp_ps(vmantissa(x));",
        expect="vgetexpps",
    ),
]
