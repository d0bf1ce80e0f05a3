"""Vector instructions on integers: 8-bit values widened to i32, and sums of four products of 8-bit values per i32 lane.

A lane of ``vi`` that holds four bytes is a *quad*. ``vdot4`` takes one factor unsigned and one signed and adds exactly, without saturation of
pairs, so that every instruction set gives the same sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.target.isa.base import Instr

Array = np.ndarray[Any, Any]


def _load(name: str, kind: str) -> list[Instr]:
    c = {"u8": "const uint8_t *p", "i8": "const int8_t *p", "i16": "const int16_t *p", "i": "const int32_t *p"}[kind]
    tail = Instr(
        f"{name}_n",
        "vi",
        f"{c}, int64_t n",
        "vi r = {0}; for (int i = 0; i < VL; i++) if (i < n) r[i] = p[i]; return r;",
        lambda p, n: np.where(np.arange(len(p)) < n, p, np.zeros_like(p)).astype(np.int32),
        needs="0 <= n; lanes from n on are 0 and not read",
    )
    if kind == "i":
        return [tail]
    body = f"return __builtin_convertvector(*(const v{kind} *)p, vi);"
    return [Instr(name, "vi", c, body, lambda p: p.astype(np.int32)), tail]


def _store(name: str, kind: str) -> list[Instr]:
    c = {"u8": "uint8_t *p", "i8": "int8_t *p", "i16": "int16_t *p", "i": "int32_t *p"}[kind]

    def stored(p: Array, x: Array, n: int | None = None) -> Array:
        result = p.copy()
        count = len(x) if n is None else min(n, len(x))
        result[:count] = x[:count].astype(p.dtype)
        return result

    tail = Instr(
        f"{name}_n",
        "void",
        f"{c}, vi x, int64_t n",
        "for (int i = 0; i < VL; i++) if (i < n) p[i] = x[i];",
        stored,
        needs="0 <= n; the lowest bits of lanes below n are written",
    )
    if kind == "i":
        return [tail]
    whole = f"*(v{kind} *)p = __builtin_convertvector(x, v{kind});"
    return [Instr(name, "void", f"{c}, vi x", whole, stored, needs="the lowest bits are written"), tail]


def _floats(kind: str, count: int) -> str:
    return f"{'uint8_t' if kind == 'u8' else 'int8_t'} *p, int32_t zero, {', '.join(f'vf x{k}' for k in range(count))}"


def _rounded(kind: str, count: int) -> Instr:
    """One by one: where an instruction set packs vectors, it has its own."""
    low, high = (0, 255) if kind == "u8" else (-128, 127)

    def stored(p: Array, zero: int, *floats: Array) -> Array:
        result = p.copy()
        whole = np.concatenate(floats)
        result[: len(whole)] = np.clip(np.rint(whole) + zero, low, high).astype(p.dtype)
        return result

    at = [f"p{f' + {k} * VL' if k else ''}" for k in range(count)]
    limits = f"const vf low = vset1((float)({low} - zero)), high = vset1((float)({high} - zero));\n"
    body = limits + "\n".join(f"vstore_{kind}({at[k]}, vcvt_n(vmin_c(vmax_c(x{k}, low), high)) + vset1_i(zero));" for k in range(count))
    return Instr(
        f"vstore{count}_{kind}", "void", _floats(kind, count), body, stored,
        needs="no NaN, -128 <= zero <= 255; side by side: rounded, halves to even, zero added, and saturated",
    )  # fmt: skip


def _dot4(c: Array, a: Array, b: Array) -> Array:
    left = np.ascontiguousarray(a).view(np.uint8).reshape(-1, 4).astype(np.int64)
    right = np.ascontiguousarray(b).view(np.int8).reshape(-1, 4).astype(np.int64)
    return np.asarray((c.astype(np.int64) + (left * right).sum(1)).astype(np.int32))


def _dot2(c: Array, a: Array, b: Array) -> Array:
    left, right = (np.ascontiguousarray(x).view(np.int16).reshape(-1, 2).astype(np.int64) for x in (a, b))
    return np.asarray((c.astype(np.int64) + (left * right).sum(1)).astype(np.int32))


def _quad(p: Array) -> Array:
    return np.asarray(np.ascontiguousarray(p[:4]).view(np.int32)[0])


def _quads(p: Array, s: int, rows: int, n: int | None = None) -> Array:
    count = len(p) - (rows - 1) * s
    quads = np.zeros((count, 4), np.uint8)
    for row in range(rows):
        quads[:, row] = p[row * s : row * s + count]
    if n is not None:
        quads[n:] = 0
    return quads.view(np.int32)[:, 0]


#: Parameters, and what they need, of the instructions that make quads of neighbours in different rows.
_ROWS, _ROWS_NEED = "const uint8_t *p, int64_t s, int32_t rows", "rows: 1 to 4, s bytes apart; lane i holds byte i of each of them, 0 where there is none"
_LANE_OF_ROWS = "for (int k = 0; k < rows; k++) q |= (uint32_t)p[k * s + i] << 8 * k; r[i] = (int32_t)q;"

INSTRS = [
    *_load("vload_u8", "u8"),
    *_load("vload_i8", "i8"),
    *_load("vload_i16", "i16"),
    *_load("vload_i", "i"),
    *_store("vstore_u8", "u8"),
    *_store("vstore_i8", "i8"),
    *_store("vstore_i16", "i16"),
    *_store("vstore_i", "i"),
    *(_rounded(kind, count) for kind in ("u8", "i8") for count in (2, 4)),
    Instr("vset1_i", "vi", "int32_t x", "return x - (vi){0};", lambda x: np.int32(x)),
    Instr("vmax_i", "vi", "vi a, vi b", "return __builtin_elementwise_max(a, b);", np.maximum),
    Instr("vmin_i", "vi", "vi a, vi b", "return __builtin_elementwise_min(a, b);", np.minimum),
    Instr(
        "vquad", "vi", "const void *p", "int32_t q; memcpy(&q, p, 4); return q - (vi){0};", _quad, needs="4 bytes of any type, in all lanes"
    ),
    Instr("vload_q", "vi", "const void *p", "vi r; memcpy(&r, p, sizeof r); return r;", lambda p: p.view(np.int32), needs="4 bytes of any type per lane"),
    Instr(
        "vdot4",
        "vi",
        "vi c, vi a, vi b",
        "const vi s = (a & 255) * (b << 24 >> 24) + (a >> 8 & 255) * (b << 16 >> 24);\n"
        "return c + s + (a >> 16 & 255) * (b << 8 >> 24) + (a >> 24 & 255) * (b >> 24);",
        _dot4,
        needs="quads of u8 in a, of i8 in b; the sum wraps",
    ),
    Instr(
        "vdot4_small", "vi", "vi c, vi a, vi b", "return vdot4(c, a, b);", _dot4,
        needs="as vdot4, where neither the first two nor the last two products of a lane have a sum that leaves i16",
    ),
    Instr("vquads", "vi", _ROWS, f"vi r; for (int i = 0; i < VL; i++) {{ uint32_t q = 0; {_LANE_OF_ROWS} }} return r;", _quads, needs=_ROWS_NEED),
    Instr(
        "vquads_n", "vi", f"{_ROWS}, int64_t n", f"vi r = {{0}}; for (int i = 0; i < VL; i++) if (i < n) {{ uint32_t q = 0; {_LANE_OF_ROWS} }} return r;",
        _quads, needs=f"{_ROWS_NEED}; lanes from n on are 0 and not read",
    ),
    Instr(
        "vpair", "vi", "const int16_t *p", "int32_t q; memcpy(&q, p, 4); return q - (vi){0};",
        lambda p: np.ascontiguousarray(p[:2]).view(np.int32)[0], needs="2 elements; the pair in all lanes",
    ),
    Instr(
        "vload_p", "vi", "const int8_t *p", "return (vi)__builtin_convertvector(*(const vpairs8 *)p, vpairs);",
        lambda p: p.astype(np.int16).view(np.int32), needs="VL pairs, widened to pairs of i16",
    ),
    Instr(
        "vdot2", "vi", "vi c, vi a, vi b", "return c + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);", _dot2,
        needs="pairs of i16 in a and b; the sum wraps",
    ),
]  # fmt: skip


def _widened(prefix: str, cast: str) -> Instr:
    """Without an instruction of its own: both halves of each quad as pairs of i16, whose products are added in i32."""
    body = (
        f"const {cast} low = {prefix}_srai_epi16({prefix}_slli_epi16(({cast})b, 8), 8), high = {prefix}_srai_epi16(({cast})b, 8);\n"
        f"const {cast} even = {prefix}_and_si{cast[3:6]}(({cast})a, {prefix}_set1_epi16(255)), odd = {prefix}_srli_epi16(({cast})a, 8);\n"
        f"return c + (vi){prefix}_madd_epi16(even, low) + (vi){prefix}_madd_epi16(odd, high);"
    )
    return Instr("vdot4", "vi", "vi c, vi a, vi b", body, expect="vpmaddwd")


def _small(prefix: str, cast: str) -> Instr:
    """Products of bytes, added in pairs in i16 and once more in i32."""
    body = f"return c + (vi){prefix}_madd_epi16({prefix}_maddubs_epi16(({cast})a, ({cast})b), {prefix}_set1_epi16(1));"
    return Instr("vdot4_small", "vi", "vi c, vi a, vi b", body, expect="vpmaddubsw")


def _packed(bits: int, kind: str, count: int) -> Instr:
    """Floats are limited above, as conversions give the lowest integer for all that is too large for one. Packing saturates twice, within 128 bits each, and
    leaves quarters of vectors there in turns."""
    prefix, cast, parts, pack = f"_mm{bits}", f"__m{bits}i", bits // 128, "packus" if kind == "u8" else "packs"
    lines = [f"const {cast} i{k} = {prefix}_cvtps_epi32({prefix}_min_ps({prefix}_set1_ps(1024.0f), x{k}));" for k in range(count)]
    pairs = [f"{prefix}_adds_epi16({prefix}_packs_epi32(i{k}, i{k + 1}), z)" for k in range(0, count, 2)]
    lines += [f"const {cast} z = {prefix}_set1_epi16((short)zero);", f"const {cast} q = {prefix}_{pack}_epi16({pairs[0]}, {pairs[-1]});"]
    places = [4 * part + k for k in range(count) for part in range(parts)] + [0] * (4 - count) * parts
    index = f"{prefix}_setr_epi32({', '.join(map(str, places))})"
    ordered = f"_mm512_permutexvar_epi32({index}, q)" if bits == 512 else f"_mm256_permutevar8x32_epi32(q, {index})"
    size = bits * count // 4
    whole = ordered if size == bits else f"{prefix}_castsi{bits}_si{size}({ordered})"
    store = "_mm_storeu_si128" if size == 128 else f"_mm{size}_storeu_si{size}"
    return Instr(f"vstore{count}_{kind}", "void", _floats(kind, count), "\n".join([*lines, f"{store}((__m{size}i *)p, {whole});"]), expect="vpackssdw")


_MASK = "(__mmask16)(n >= VL ? 0xffff : (1u << n) - 1)"
def _pairs(prefix: str, cast: str) -> Instr:
    return Instr("vdot2", "vi", "vi c, vi a, vi b", f"return c + (vi){prefix}_madd_epi16(({cast})a, ({cast})b);", expect="vpmaddwd")


AVX2_INSTRS = [
    *(_packed(256, kind, count) for kind in ("u8", "i8") for count in (2, 4)),
    _widened("_mm256", "__m256i"),
    _small("_mm256", "__m256i"),
    _pairs("_mm256", "__m256i"),
    Instr("vcvt_n", "vi", "vf x", "return (vi)_mm256_cvtps_epi32(x);", expect="vcvtps2dq"),
]
AVX512_INSTRS = [
    *(_packed(512, kind, count) for kind in ("u8", "i8") for count in (2, 4)),
    _widened("_mm512", "__m512i"),
    _small("_mm512", "__m512i"),
    _pairs("_mm512", "__m512i"),
    Instr("vload_u8_n", "vi", "const uint8_t *p, int64_t n", f"return (vi)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8({_MASK}, p));"),
    Instr("vload_i8_n", "vi", "const int8_t *p, int64_t n", f"return (vi)_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8({_MASK}, p));"),
    Instr("vload_i_n", "vi", "const int32_t *p, int64_t n", f"return (vi)_mm512_maskz_loadu_epi32({_MASK}, p);"),
    Instr("vstore_u8_n", "void", "uint8_t *p, vi x, int64_t n", f"_mm512_mask_cvtepi32_storeu_epi8(p, {_MASK}, (__m512i)x);"),
    Instr("vstore_i8_n", "void", "int8_t *p, vi x, int64_t n", f"_mm512_mask_cvtepi32_storeu_epi8(p, {_MASK}, (__m512i)x);"),
    Instr("vstore_i_n", "void", "int32_t *p, vi x, int64_t n", f"_mm512_mask_storeu_epi32(p, {_MASK}, (__m512i)x);"),
    Instr("vcvt_i", "vi", "vf x", "return (vi)_mm512_cvttps_epi32(x);", expect="vcvttps2dq"),
    Instr("vcvt_n", "vi", "vf x", "return (vi)_mm512_cvtps_epi32(x);", expect="vcvtps2dq"),
]
AVX512_INSTRS += [
    Instr("vload_i16_n", "vi", "const int16_t *p, int64_t n", f"return (vi)_mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16({_MASK}, p));"),
    Instr("vstore_i16_n", "void", "int16_t *p, vi x, int64_t n", f"_mm512_mask_cvtepi32_storeu_epi16(p, {_MASK}, (__m512i)x);"),
]


def _interleaved(name: str, more: str, load: str) -> Instr:
    """Rows as the four lanes of 128 bits, then all bytes to their places at once."""
    places = ", ".join(f"0x{0x30201000 + 0x01010101 * lane:08x}" for lane in range(16))
    rows = "\n".join(f"if (rows > {k}) z = _mm512_mask_broadcast_i32x4(z, 0xf << {4 * k}, {load.format(f'p + {k} * s')});" for k in (1, 2, 3))
    body = f"__m512i z = _mm512_zextsi128_si512({load.format('p')});\n{rows}\nreturn (vi)_mm512_permutexvar_epi8(_mm512_setr_epi32({places}), z);"
    return Instr(name, "vi", _ROWS + more, body, expect="vinserti32x4")


AVX512_VBMI = [
    _interleaved("vquads", "", "_mm_loadu_si128((const __m128i *)({}))"),
    _interleaved("vquads_n", ", int64_t n", f"_mm_maskz_loadu_epi8({_MASK}, {{}})"),
]
#: Replacements where a processor has further features, by their compilers' names.
AVX512_VNNI = Instr("vdot4", "vi", "vi c, vi a, vi b", "return (vi)_mm512_dpbusd_epi32((__m512i)c, (__m512i)a, (__m512i)b);", expect="vpdpbusd")
AVX512_VNNI_PAIRS = Instr("vdot2", "vi", "vi c, vi a, vi b", "return (vi)_mm512_dpwssd_epi32((__m512i)c, (__m512i)a, (__m512i)b);", expect="vpdpwssd")
AVX_VNNI_PAIRS = Instr(
    "vdot2", "vi", "vi c, vi a, vi b", "return (vi)_mm256_dpwssd_avx_epi32((__m256i)c, (__m256i)a, (__m256i)b);", expect="vpdpwssd"
)
AVX_VNNI = Instr(
    "vdot4", "vi", "vi c, vi a, vi b", "return (vi)_mm256_dpbusd_avx_epi32((__m256i)c, (__m256i)a, (__m256i)b);", expect="vpdpbusd"
)
