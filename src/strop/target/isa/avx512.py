"""AVX-512 F/BW/CD/DQ/VL: 512-bit vectors, 32 registers, masked tails."""

from __future__ import annotations

import numpy as np

from strop.target.isa import halves, integers, vecmath
from strop.target.isa.base import Instr
from strop.target.isa.portable import PORTABLE, header

_MASK = "(__mmask16)(n >= VL ? 0xffff : (1u << n) - 1)"
_LANES = "_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)"
_INDEX = f"_mm512_mullo_epi32({_LANES}, _mm512_set1_epi32((int)s))"


def _rounding(name: str, mode: str) -> Instr:
    return Instr(name, "vf", "vf x", f"return _mm512_roundscale_ps(x, {mode} | _MM_FROUND_NO_EXC);", expect="vrndscaleps")


AVX512 = PORTABLE.extend(
    "avx512",
    16,
    32,
    "#include <immintrin.h>\n" + header(16),
    [
        Instr("vload", "vf", "const float *p", "return _mm512_loadu_ps(p);", expect="vmovups"),
        Instr("vstore", "void", "float *p, vf x", "_mm512_storeu_ps(p, x);", expect="vmovups"),
        Instr("vload_n", "vf", "const float *p, int64_t n", f"return _mm512_maskz_loadu_ps({_MASK}, p);", expect="{z}"),
        Instr("vstore_n", "void", "float *p, vf x, int64_t n", f"_mm512_mask_storeu_ps(p, {_MASK}, x);", expect="{%k"),
        Instr(
            "vgather", "vf", "const float *p, int64_t s", f"return _mm512_i32gather_ps({_INDEX}, p, 4);", expect="vgatherdps"
        ),
        Instr(
            "vgather_n",
            "vf",
            "const float *p, int64_t s, int64_t n",
            f"return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), {_MASK}, {_INDEX}, p, 4);",
            expect="vgatherdps",
        ),
        Instr(
            "vscatter_n",
            "void",
            "float *p, vf x, int64_t s, int64_t n",
            f"_mm512_mask_i32scatter_ps(p, {_MASK}, {_INDEX}, x, 4);",
            expect="vscatterdps",
        ),
        Instr("vset1", "vf", "float x", "return _mm512_set1_ps(x);", expect="vbroadcastss"),
        Instr("vzero", "vf", "void", "return _mm512_setzero_ps();", expect="vxorps"),
        Instr("viota", "vi", "void", f"return (vi){_LANES};"),
        Instr("vfma", "vf", "vf a, vf b, vf c", "return _mm512_fmadd_ps(a, b, c);", expect="vfmadd"),
        Instr("vfma_same", "vf", "vf a, vf b, vf c", "return vfma(a, b, c);"),
        Instr(
            "vfma_half",
            "vf",
            "vf a, vf b, vf c",
            "return _mm512_zextps256_ps512(_mm256_fmadd_ps(_mm512_castps512_ps256(a), _mm512_castps512_ps256(b), "
            "_mm512_castps512_ps256(c)));",
            lambda a, b, c: np.where(np.arange(len(a)) < len(a) // 2, a * b + c, np.float32(0)),
            expect="vfmadd",
        ),
        Instr(
            "vselect",
            "vf",
            "vi m, vf a, vf b",
            "return _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)m), b, a);",
            expect="{%k",
        ),
        Instr(
            "vselect_i",
            "vi",
            "vi m, vi a, vi b",
            "return (vi)_mm512_mask_blend_epi32(_mm512_movepi32_mask((__m512i)m), (__m512i)b, (__m512i)a);",
            expect="{%k",
        ),
        Instr("vany", "int", "vi m", "return _mm512_movepi32_mask((__m512i)m) != 0;"),
        Instr("vsqrt", "vf", "vf x", "return _mm512_sqrt_ps(x);", expect="vsqrtps"),
        _rounding("vround", "_MM_FROUND_TO_NEAREST_INT"),
        _rounding("vfloor", "_MM_FROUND_TO_NEG_INF"),
        _rounding("vceil", "_MM_FROUND_TO_POS_INF"),
        _rounding("vtrunc", "_MM_FROUND_TO_ZERO"),
        Instr("vmax_c", "vf", "vf x, vf c", "return _mm512_max_ps(c, x);", expect="vmaxps"),
        Instr("vmin_c", "vf", "vf x, vf c", "return _mm512_min_ps(c, x);", expect="vminps"),
        Instr(
            "vmax",
            "vf",
            "vf a, vf b",
            "return _mm512_mask_max_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b);",
            expect="vmaxps",
        ),
        Instr(
            "vmin",
            "vf",
            "vf a, vf b",
            "return _mm512_mask_min_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b);",
            expect="vminps",
        ),
        Instr("vhadd", "float", "vf x", "return _mm512_reduce_add_ps(x);", expect="vextractf"),
        Instr("vhmul", "float", "vf x", "return _mm512_reduce_mul_ps(x);", expect="vextractf"),
        Instr("vhmax", "float", "vf x", "return vany(x != x) ? NAN : _mm512_reduce_max_ps(x);", expect="vmaxps"),
        Instr("vhmin", "float", "vf x", "return vany(x != x) ? NAN : _mm512_reduce_min_ps(x);", expect="vminps"),
        *vecmath.AVX512_INSTRS,
        *integers.AVX512_INSTRS,
        *halves.AVX512_INSTRS,
    ],
    {
        "avx512vnni": [integers.AVX512_VNNI, integers.AVX512_VNNI_PAIRS],
        "avx512vbmi": integers.AVX512_VBMI,
        "avx512bf16": halves.AVX512_BF16,
    },
)
