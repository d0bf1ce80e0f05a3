"""Instruction sets by name."""

from __future__ import annotations

from strop.target.base import Target
from strop.target.isa.avx2 import AVX2
from strop.target.isa.avx512 import AVX512
from strop.target.isa.base import Isa
from strop.target.isa.neon import NEON
from strop.target.isa.portable import PORTABLE

ISAS: dict[str, Isa] = {isa.name: isa for isa in (AVX512, AVX2, NEON, PORTABLE)}


def multiplies_pairs(target: Target) -> bool:
    """True for x86-64 processors whose only product of bytes adds two of them in 16 bits (``vpmaddubsw``), where sums saturate: those without VNNI."""
    return target.isa.startswith("avx") and not ISAS[target.isa].used("vdot4()", target.extras)
