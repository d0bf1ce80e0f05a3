"""What a machine can do: data, and the parsing of target names. ``Target`` is what every stage from lowering on asks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from strop.errors import TargetError

_KIB = 1024


@dataclass(frozen=True)
class Target:
    """A machine for which code is made.

    Attributes:
        name: how users and engine files call it, e.g. ``x86-64-v4``.
        arch: processor family, e.g. ``x86_64``.
        triple: what the compiler is told.
        cpu: the compiler's name of the processor level.
        isa: key of the vector instruction set in ``strop.target.isa``.
        requires: CPU features that must be present at run time, as the operating system names them.
        optional: further features that some code gains from, as compilers and the runtime name them.
        extras: those of them that the machine has; code that uses one says so in the engine file.
        cores: threads that work is split for.
        l1: bytes of first-level data cache per core.
        l2: bytes of second-level cache per core.
        l3: bytes of last-level cache, shared.
        ghz: clock assumed by the cost model.
        fma_lanes: f32 multiply-adds per cycle and core.
        bandwidth: bytes per second from memory assumed by the cost model.
        libraries: of a GPU: (name, version) of NVIDIA's libraries that steps may be calls of.
        host: of a GPU: the processor that runs what the GPU has no kernel for; None for that of this machine.
    """

    name: str
    arch: str
    triple: str
    cpu: str
    isa: str
    requires: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    cores: int = 1
    l1: int = 32 * _KIB
    l2: int = 1024 * _KIB
    l3: int = 16 * 1024 * _KIB
    ghz: float = 3.0
    fma_lanes: int = 8
    bandwidth: float = 20e9
    libraries: tuple[tuple[str, str], ...] = ()
    host: Target | None = None

    @property
    def peak_flops(self) -> float:
        """f32 operations per second of one core; a multiply-add counts 2."""
        return 2.0 * self.fma_lanes * self.ghz * 1e9

    @property
    def section(self) -> str:
        """Name of the kernels section in an engine file, in the spelling the runtime's CPU check knows."""
        return "+".join((self.name.replace("x86-64", "x86_64"), *self.extras))

    def with_cores(self, cores: int) -> Target:
        """The same machine, work split for another number of threads."""
        return replace(self, cores=cores)

    def __str__(self) -> str:
        return self.name


def host_cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unknown(name: str, known: list[str]) -> TargetError:
    """The error for a target name that is not in the table."""
    return TargetError("unknown target", got=name, expected=", ".join(["host", *known]))
