"""AVX2 + FMA: 256-bit vectors, 16 registers."""

from __future__ import annotations

from strop.target.isa import halves, integers
from strop.target.isa.base import Instr
from strop.target.isa.portable import PORTABLE, header

_LANES = "_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)"
_MASK = f"_mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n < VL ? n : VL)), {_LANES})"


def _fold(step: str) -> str:
    """Statements that fold x to the lowest lane of m, halving the width three times."""
    return (
        f"__m128 m = _mm_{step}_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)); "
        f"m = _mm_{step}_ps(m, _mm_movehl_ps(m, m)); m = _mm_{step}_ss(m, _mm_movehdup_ps(m));"
    )


def _rounding(name: str, mode: str) -> Instr:
    return Instr(name, "vf", "vf x", f"return _mm256_round_ps(x, {mode} | _MM_FROUND_NO_EXC);", expect="vroundps")


AVX2 = PORTABLE.extend(
    "avx2",
    8,
    16,
    "#include <immintrin.h>\n" + header(8),
    [
        Instr("vload", "vf", "const float *p", "return _mm256_loadu_ps(p);", expect="vmovups"),
        Instr("vstore", "void", "float *p, vf x", "_mm256_storeu_ps(p, x);", expect="vmovups"),
        Instr("vload_n", "vf", "const float *p, int64_t n", f"return _mm256_maskload_ps(p, {_MASK});", expect="vmaskmovps"),
        Instr("vstore_n", "void", "float *p, vf x, int64_t n", f"_mm256_maskstore_ps(p, {_MASK}, x);", expect="vmaskmovps"),
        Instr("vset1", "vf", "float x", "return _mm256_set1_ps(x);", expect="vbroadcastss"),
        Instr("vzero", "vf", "void", "return _mm256_setzero_ps();", expect="vxorps"),
        Instr("viota", "vi", "void", f"return (vi){_LANES};"),
        Instr("vfma", "vf", "vf a, vf b, vf c", "return _mm256_fmadd_ps(a, b, c);", expect="vfmadd"),
        Instr("vfma_same", "vf", "vf a, vf b, vf c", "return vfma(a, b, c);"),
        Instr("vselect", "vf", "vi m, vf a, vf b", "return _mm256_blendv_ps(b, a, (vf)m);", expect="vblendvps"),
        Instr("vany", "int", "vi m", "return _mm256_movemask_ps((vf)m) != 0;"),
        Instr("vsqrt", "vf", "vf x", "return _mm256_sqrt_ps(x);", expect="vsqrtps"),
        _rounding("vround", "_MM_FROUND_TO_NEAREST_INT"),
        _rounding("vfloor", "_MM_FROUND_TO_NEG_INF"),
        _rounding("vceil", "_MM_FROUND_TO_POS_INF"),
        _rounding("vtrunc", "_MM_FROUND_TO_ZERO"),
        Instr("vmax_c", "vf", "vf x, vf c", "return _mm256_max_ps(c, x);", expect="vmaxps"),
        Instr("vmin_c", "vf", "vf x, vf c", "return _mm256_min_ps(c, x);", expect="vminps"),
        Instr("vmax", "vf", "vf a, vf b", "return vselect(a != a, a, _mm256_max_ps(a, b));", expect="vmaxps"),
        Instr("vmin", "vf", "vf a, vf b", "return vselect(a != a, a, _mm256_min_ps(a, b));", expect="vminps"),
        Instr("vhadd", "float", "vf x", _fold("add") + " return _mm_cvtss_f32(m);"),
        Instr("vhmul", "float", "vf x", _fold("mul") + " return _mm_cvtss_f32(m);"),
        Instr("vhmax", "float", "vf x", _fold("max") + " return vany(x != x) ? NAN : _mm_cvtss_f32(m);", expect="vmaxss"),
        Instr("vhmin", "float", "vf x", _fold("min") + " return vany(x != x) ? NAN : _mm_cvtss_f32(m);", expect="vminss"),
        *integers.AVX2_INSTRS,
        *halves.AVX2_INSTRS,
    ],
    {"avxvnni": [integers.AVX_VNNI, integers.AVX_VNNI_PAIRS]},
)
