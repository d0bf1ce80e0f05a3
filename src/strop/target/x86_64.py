"""x86-64 levels as the System V ABI supplement defines them: baseline, v2, v3 (AVX2 + FMA) and v4 (AVX-512 F/BW/CD/DQ/VL)."""

from __future__ import annotations

from strop.target.base import Target

_V3 = ("avx", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

TARGETS: tuple[Target, ...] = (
    Target(
        name="x86-64-v4",
        arch="x86_64",
        triple="x86_64-linux-gnu",
        cpu="x86_64_v4",
        isa="avx512",
        requires=_V4,
        optional=("avx512vnni", "avx512vbmi", "avx512bf16"),
        fma_lanes=16,
    ),
    Target(
        name="x86-64-v3",
        arch="x86_64",
        triple="x86_64-linux-gnu",
        cpu="x86_64_v3",
        isa="avx2",
        requires=_V3,
        optional=("avxvnni",),
        fma_lanes=16,
    ),
    Target(
        name="x86-64",
        arch="x86_64",
        triple="x86_64-linux-gnu",
        cpu="x86_64",
        isa="portable",
        requires=("sse2",),
        fma_lanes=4,
    ),
)
