"""16-bit floats, which exist in memory only: bf16 and f16 are widened to f32 as they are loaded; f32 is rounded to them, halves to even, as it is stored.

A lane of ``vi`` that holds two bf16, the first in its low half, is a *pair*; ``vdot2_bf16`` adds two products of bf16 to each f32 lane. Subnormal
numbers may count as zero, as everywhere in an engine, and the order in which the two products are added is free.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from strop.target.isa.base import Instr

Array = np.ndarray[Any, Any]

#: C type of an element and its numpy type, by the suffix of the instructions.
_KINDS: dict[str, tuple[str, Any]] = {"bf16": ("uint16_t", ml_dtypes.bfloat16), "f16": ("_Float16", np.float16)}


def _bits(x: Array, kind: Any) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(x.astype(np.float32).astype(kind))


def _memory(suffix: str) -> list[Instr]:
    """Loads and stores of one type, over ``vfrom`` and ``vbits`` of it."""
    c, kind = _KINDS[suffix]
    const, each = f"const {c} *p", "for (int i = 0; i < VL; i++)"

    def wide(p: Array, s: int = 1, n: int | None = None) -> Array:
        lanes = p.view(kind).astype(np.float32)[::s]
        return lanes if n is None else np.where(np.arange(len(lanes)) < n, lanes, np.float32(0))

    def stored(p: Array, x: Array, s: int = 1, n: int | None = None) -> Array:
        result = p.copy()
        count = len(x) if n is None else min(n, len(x))
        result.view(kind)[: count * s : s] = _bits(x[:count], kind)
        return result

    def load(name: str, params: str, place: str, guard: str, meaning: Any, needs: str) -> Instr:
        body = f"vu16 h = {{0}}; {each} {guard}h[i] = ((const uint16_t *)p)[{place}]; return vfrom_{suffix}(__builtin_convertvector(h, vi));"
        return Instr(name, "vf", f"{const}{params}", body, meaning, needs)

    def store(name: str, params: str, place: str, meaning: Any, needs: str) -> Instr:
        body = f"const vi h = vbits_{suffix}(x); {each} if (i < n) ((uint16_t *)p)[{place}] = h[i];"
        return Instr(name, "void", f"{c} *p, vf x{params}, int64_t n", body, meaning, needs)

    rest, apart = "0 <= n; lanes from n on are 0 and not read", "lanes s elements apart"
    kept = "0 <= n; elements of lanes from n on are not written"
    return [
        Instr(f"vload_{suffix}", "vf", const, f"return vfrom_{suffix}(__builtin_convertvector(*(const vu16 *)p, vi));", wide),
        load(f"vload_{suffix}_n", ", int64_t n", "i", "if (i < n) ", lambda p, n: wide(p, 1, n), rest),
        load(f"vgather_{suffix}", ", int64_t s", "i * s", "", wide, apart),
        load(f"vgather_{suffix}_n", ", int64_t s, int64_t n", "i * s", "if (i < n) ", wide, f"{apart}; {rest}"),
        Instr(
            f"vset1_{suffix}", "vf", const, f"return vfrom_{suffix}(*(const uint16_t *)p - (vi){{0}});",
            lambda p: wide(p)[0], "one element, in all lanes",
        ),
        Instr(f"vstore_{suffix}", "void", f"{c} *p, vf x", f"*(vu16 *)p = __builtin_convertvector(vbits_{suffix}(x), vu16);", stored),
        store(f"vstore_{suffix}_n", "", "i", lambda p, x, n: stored(p, x, 1, n), kept),
        store(f"vscatter_{suffix}_n", ", int64_t s", "i * s", stored, f"{apart}; {kept}"),
        Instr(
            f"vround_{suffix}", "vf", "vf x", f"return vfrom_{suffix}(vbits_{suffix}(x));",
            lambda x: _bits(x, kind).astype(np.float32), "x as it is once it has been stored",
        ),
    ]  # fmt: skip


def _bits_bf16(x: Array) -> Array:
    return _bits(x, ml_dtypes.bfloat16).view(np.uint16).astype(np.int32)


def _bits_f16(x: Array) -> Array:
    return _bits(x, np.float16).view(np.uint16).astype(np.int32)


def _low(h: Array, kind: Any) -> Array:
    return np.asarray((h & 0xFFFF).astype(np.uint16).view(kind).astype(np.float32))


def _dot2(c: Array, a: Array, b: Array) -> Array:
    left, right = (np.ascontiguousarray(v).view(ml_dtypes.bfloat16).reshape(-1, 2).astype(np.float64) for v in (a, b))
    return np.asarray((c + (left * right).sum(1)).astype(np.float32))


#: Exponents of f16 are 112 lower; infinities and NaNs have the largest in both; what is subnormal is a multiple of 2^-24.
_FROM_F16 = """const vi size = h & 0x7fff, wide = (size << 13) + (112 << 23);
const vf small = vcvt_f(size) * vset1(0x1p-24f);
const vi found = vselect_i(size >= 0x7c00, wide + (112 << 23), vselect_i(size < 0x400, (vi)small, wide));
return (vf)(found | (h & 0x8000) << 16);"""
_BITS_F16 = """const vi size = (vi)x & 0x7fffffff;
const vi small = vcvt_i(vround(vselect(size < 0x38800000, (vf)size, vzero()) * vset1(0x1p24f)));
const vi whole = vselect_i(size < 0x38800000, small, (size - (112 << 23) + 0xfff + (size >> 13 & 1)) >> 13);
const vi found = vselect_i(size > 0x7f800000, (vi){0} + 0x7e00, vselect_i(size >= 0x477ff000, (vi){0} + 0x7c00, whole));
return found | ((vi)x >> 16 & 0x8000);"""
_BITS_BF16 = """const vi w = (vi)x, h = vselect_i(x != x, w >> 16 | 64, (w + 0x7fff + (w >> 16 & 1)) >> 16);
return h & 0xffff;"""

INSTRS = [
    *_memory("bf16"),
    *_memory("f16"),
    Instr("vfrom_bf16", "vf", "vi h", "return (vf)(h << 16);", lambda h: _low(h, ml_dtypes.bfloat16), "the low halves of the lanes are read"),
    Instr("vbits_bf16", "vi", "vf x", _BITS_BF16, _bits_bf16, "the element in the low half of each lane, the upper half 0"),
    Instr("vfrom_f16", "vf", "vi h", _FROM_F16, lambda h: _low(h, np.float16), "as vbits_f16 makes them"),
    Instr("vbits_f16", "vi", "vf x", _BITS_F16, _bits_f16, "the element in the low half of each lane, the upper half 0"),
    Instr("vhigh_bf16", "vf", "vi a", "return (vf)(a & (int32_t)0xffff0000);", lambda a: (a & np.int32(-65536)).view(np.float32),
          "the upper half of each lane as a number"),
    Instr(
        "vdot2_bf16",
        "vf",
        "vf c, vi a, vi b",
        "return vfma(vfrom_bf16(a), vfrom_bf16(b), vfma(vhigh_bf16(a), vhigh_bf16(b), c));",
        _dot2,
        needs="pairs of bf16 in a and b",
    ),
]  # fmt: skip

_MASK16 = "(__mmask16)(n >= VL ? 0xffff : (1u << n) - 1)"
#: F16C.
AVX2_INSTRS = [
    Instr("vload_f16", "vf", "const _Float16 *p", "return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));", expect="vcvtph2ps"),
    Instr("vstore_f16", "void", "_Float16 *p, vf x", "_mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, 0));", expect="vcvtps2ph"),
    Instr("vfrom_f16", "vf", "vi h", "return _mm256_cvtph_ps((__m128i)__builtin_convertvector(h, vu16));", expect="vcvtph2ps"),
    Instr("vbits_f16", "vi", "vf x", "return __builtin_convertvector((vu16)_mm256_cvtps_ph(x, 0), vi);", expect="vcvtps2ph"),
]
AVX512_INSTRS = [
    Instr("vload_f16", "vf", "const _Float16 *p", "return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));", expect="vcvtph2ps"),
    Instr(
        "vload_f16_n", "vf", "const _Float16 *p, int64_t n", f"return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16({_MASK16}, p));", expect="vcvtph2ps"
    ),
    Instr("vstore_f16", "void", "_Float16 *p, vf x", "_mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, 0));", expect="vcvtps2ph"),
    Instr(
        "vstore_f16_n", "void", "_Float16 *p, vf x, int64_t n", f"_mm256_mask_storeu_epi16(p, {_MASK16}, _mm512_cvtps_ph(x, 0));",
        expect="vcvtps2ph",
    ),
    Instr("vfrom_f16", "vf", "vi h", "return _mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)h));", expect="vcvtph2ps"),
    Instr("vbits_f16", "vi", "vf x", "return (vi)_mm512_cvtepu16_epi32(_mm512_cvtps_ph(x, 0));", expect="vcvtps2ph"),
    Instr(
        "vload_bf16_n", "vf", "const uint16_t *p, int64_t n",
        f"return vfrom_bf16((vi)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16({_MASK16}, p)));", expect="vpmovzxwd",
    ),
    Instr(
        "vstore_bf16_n", "void", "uint16_t *p, vf x, int64_t n",
        f"_mm512_mask_cvtepi32_storeu_epi16(p, {_MASK16}, (__m512i)vbits_bf16(x));", expect="vpmovdw",
    ),
]  # fmt: skip
#: Replacements where a processor has further features, by their compilers' names.
AVX512_BF16 = [
    Instr("vdot2_bf16", "vf", "vf c, vi a, vi b", "return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);", expect="vdpbf16ps"),
    Instr(
        "vstore_bf16", "void", "uint16_t *p, vf x", "_mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x));", expect="vcvtneps2bf16"
    ),
    Instr(
        "vstore_bf16_n", "void", "uint16_t *p, vf x, int64_t n",
        f"_mm256_mask_storeu_epi16(p, {_MASK16}, (__m256i)_mm512_cvtneps_pbh(x));", expect="vcvtneps2bf16",
    ),
    Instr(
        "vround_bf16", "vf", "vf x", "return vfrom_bf16((vi)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)));", expect="vcvtneps2bf16"
    ),
]  # fmt: skip
NEON_INSTRS = [
    Instr("vload_f16", "vf", "const _Float16 *p", "return (vf)vcvt_f32_f16(vld1_f16((const float16_t *)p));", expect="fcvtl"),
    Instr("vstore_f16", "void", "_Float16 *p, vf x", "vst1_f16((float16_t *)p, vcvt_f16_f32((float32x4_t)x));", expect="fcvtn"),
    Instr("vfrom_f16", "vf", "vi h", "return (vf)vcvt_f32_f16((float16x4_t)__builtin_convertvector(h, vu16));", expect="fcvtl"),
    Instr("vbits_f16", "vi", "vf x", "return __builtin_convertvector((vu16)vcvt_f16_f32((float32x4_t)x), vi);", expect="fcvtn"),
]
NEON_BF16 = [
    Instr(
        "vdot2_bf16", "vf", "vf c, vi a, vi b", "return (vf)vbfdotq_f32((float32x4_t)c, (bfloat16x8_t)a, (bfloat16x8_t)b);", expect="bfdot"
    ),
]  # fmt: skip
