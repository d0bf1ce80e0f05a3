"""f32 to bytes, four at a time, in PTX: the hardware rounds, saturates and packs two numbers per instruction.

PTX ISA, ``cvt.pack``, which is there from compute capability 7.2 on.
"""

from __future__ import annotations

from strop.ir import dtype as dt
from strop.ir.dtype import DType

#: PTX that rounds four f32, halves to even, and saturates them to bytes: by the byte's type.
TO_BYTES = {
    kind: (
        "{ .reg .b32 a, b, c, d; cvt.rni.s32.f32 a, $1; cvt.rni.s32.f32 b, $2; cvt.rni.s32.f32 c, $3; cvt.rni.s32.f32 d, $4; "
        f"cvt.pack.sat.{kind}.s32.b32 d, d, c, 0; cvt.pack.sat.{kind}.s32.b32 $0, b, a, d; }}"
    )
    for kind in ("s8", "u8")
}


def to_bytes(text: str, to: DType) -> str:
    """Text of an f32 tensor rounded, halves to even, and saturated to i8 or u8."""
    kind, name = ("s8", "tl.int8") if to is dt.i8 else ("u8", "tl.uint8")
    return f'tl.inline_asm_elementwise("{TO_BYTES[kind]}", "=r,f,f,f,f", [{text}], dtype={name}, is_pure=True, pack=4)'
