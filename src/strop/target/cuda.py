"""NVIDIA GPUs by compute capability. Code is made for one capability and runs on GPUs of that capability.

``+tf32`` after the name lets products of f32 round their factors to tf32 (10 bits of mantissa), which tensor cores multiply several times
faster; without it each factor is split in three, so that a product has nearly the precision of f32. ``+libraries`` lets steps be calls of
cuBLASLt and cuDNN where these were measured to be faster; an engine with such steps needs the libraries.
"""

from __future__ import annotations

from strop.target.base import Target

#: Processor family of all targets here.
ARCH = "cuda"
#: The extra that allows calls of libraries.
LIBRARIES = "libraries"


def _gpu(capability: int, multiprocessors: int, ghz: float, lanes: int, l2: int, bandwidth: float) -> Target:
    return Target(
        name=f"cuda:sm_{capability}",
        arch=ARCH,
        triple="nvptx64-nvidia-cuda",
        cpu=f"sm_{capability}",
        isa="triton",
        optional=("tf32", LIBRARIES),
        cores=multiprocessors,
        l1=96 * 1024,
        l2=l2,
        l3=l2,
        ghz=ghz,
        fma_lanes=lanes,
        bandwidth=bandwidth,
    )


#: ``cores`` are multiprocessors, ``fma_lanes`` the f16 multiply-adds of the tensor cores of one per cycle.
TARGETS: tuple[Target, ...] = (
    _gpu(90, 132, 1.7, 2048, 50 << 20, 3.3e12),
    _gpu(87, 16, 1.3, 1024, 4 << 20, 0.2e12),
    _gpu(80, 108, 1.4, 1024, 40 << 20, 1.5e12),
)

#: Multiprocessors of the smallest card of a capability: H20, Orin Nano, A30.
_FEWEST = {90: 78, 87: 4, 80: 56}


def is_gpu(target: Target) -> bool:
    """True for a target of this file."""
    return target.arch == ARCH


def has_fp8(target: Target) -> bool:
    """True for a GPU whose tensor cores multiply f8e4m3: from compute capability 8.9 on."""
    return is_gpu(target) and capability(target) >= 89


def capability(target: Target) -> int:
    """Compute capability of a GPU target, 90 for 9.0."""
    return int(target.cpu.removeprefix("sm_"))


def fewest_multiprocessors(target: Target) -> int:
    """Multiprocessors that every whole card of a GPU target's capability has."""
    return _FEWEST[capability(target)]
