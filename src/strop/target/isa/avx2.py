"""AVX2 + FMA: 256-bit vectors, 16 registers."""

from __future__ import annotations

from strop.target.isa.base import Instr
from strop.target.isa.portable import PORTABLE, header

_MASK = "_mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n < VL ? n : VL)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))"

AVX2 = PORTABLE.extend(
    "avx2",
    8,
    16,
    "#include <immintrin.h>\n" + header(8),
    [
        Instr("vload", "vf", "const float *p", "return _mm256_loadu_ps(p);", expect="vmovups"),
        Instr("vstore", "void", "float *p, vf x", "_mm256_storeu_ps(p, x);"),
        Instr("vload_n", "vf", "const float *p, int64_t n", f"return _mm256_maskload_ps(p, {_MASK});", expect="vmaskmovps"),
        Instr("vstore_n", "void", "float *p, vf x, int64_t n", f"_mm256_maskstore_ps(p, {_MASK}, x);"),
        Instr("vset1", "vf", "float x", "return _mm256_set1_ps(x);"),
        Instr("vzero", "vf", "void", "return _mm256_setzero_ps();"),
        Instr("vfma", "vf", "vf a, vf b, vf c", "return _mm256_fmadd_ps(a, b, c);", expect="vfmadd"),
        Instr("vselect", "vf", "vi m, vf a, vf b", "return _mm256_blendv_ps(b, a, (vf)m);", expect="vblendvps"),
        Instr("vround", "vf", "vf x", "return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);"),
        Instr("vmax_c", "vf", "vf x, vf c", "return _mm256_max_ps(c, x);", expect="vmaxps"),
        Instr("vmin_c", "vf", "vf x, vf c", "return _mm256_min_ps(c, x);", expect="vminps"),
        Instr("vmax", "vf", "vf a, vf b", "return vselect(a != a, a, _mm256_max_ps(a, b));"),
        Instr("vmin", "vf", "vf a, vf b", "return vselect(a != a, a, _mm256_min_ps(a, b));"),
    ],
)
