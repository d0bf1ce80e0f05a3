"""64-bit Arm with the baseline vector unit."""

from __future__ import annotations

from strop.target.base import Target

TARGETS: tuple[Target, ...] = (
    Target(
        name="aarch64",
        arch="aarch64",
        triple="aarch64-linux-gnu",
        cpu="baseline",
        isa="neon",
        optional=("dotprod", "i8mm", "bf16"),
        fma_lanes=8,
        l1=32 * 1024,
        l2=512 * 1024,
        l3=2 * 1024 * 1024,
        ghz=2.0,
        bandwidth=8e9,
    ),
)
