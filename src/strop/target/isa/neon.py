"""64-bit Arm: 128-bit vectors, 32 registers; products of 8-bit integers with the dot product and matrix extensions."""

from __future__ import annotations

from strop.target.isa import halves
from strop.target.isa.base import Instr
from strop.target.isa.portable import PORTABLE, header

#: sdot takes signed factors: 128 is taken from a, and 64 times b added twice.
_SIGNED = """const int8x16_t w = (int8x16_t)b, half = vdupq_n_s8(64);
const int32x4_t s = vdotq_s32((int32x4_t)c, (int8x16_t)(a ^ (int32_t)0x80808080), w);
return (vi)vdotq_s32(vdotq_s32(s, w, half), w, half);"""

NEON = PORTABLE.extend(
    "neon",
    4,
    32,
    "#include <arm_neon.h>\n" + header(4),
    [Instr("vfma_same", "vf", "vf a, vf b, vf c", "return vfma(a, b, c);"), *halves.NEON_INSTRS],
    {
        "bf16": halves.NEON_BF16,
        "dotprod": [Instr("vdot4", "vi", "vi c, vi a, vi b", _SIGNED, expect="sdot")],
        "i8mm": [
            Instr(
                "vdot4",
                "vi",
                "vi c, vi a, vi b",
                "return (vi)vusdotq_s32((int32x4_t)c, (uint8x16_t)a, (int8x16_t)b);",
                expect="usdot",
            )
        ],
    },
)
