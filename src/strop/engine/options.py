"""Options of a build: the machine it is for, and what is refused."""

from __future__ import annotations

from dataclasses import replace

from strop import knobs
from strop.engine.stages import STAGES
from strop.errors import OptionError
from strop.runtime.gpu_library_files import versions
from strop.target.base import Target
from strop.target.cuda import LIBRARIES, is_gpu
from strop.target.detect import beside
from strop.target.detect import parse as parse_target


def machine_of(target: str | Target, threads: int | None) -> Target:
    """The target with as many cores as there will be threads, of a GPU the processor beside it; and the libraries that it allows;
    OptionError for an unusable number, TargetError for a library that is not installed."""
    machine = parse_target(target) if isinstance(target, str) else target
    worker = beside(machine) if is_gpu(machine) else machine
    count = threads if threads is not None else knobs.THREADS.get() or worker.cores
    if not 1 <= count <= 256:
        raise OptionError("unusable number of threads", got=count, expected="1..256")
    worker = worker.with_cores(count)
    if not is_gpu(machine):
        return worker
    return replace(machine, host=worker, libraries=versions() if LIBRARIES in machine.extras else ())


def check(level: int, stop_after: str | None) -> None:
    """OptionError for an unusable level or stage."""
    if not 0 <= level <= 5:
        raise OptionError("unusable level", got=level, expected="0..5")
    if stop_after is not None and stop_after not in STAGES:
        raise OptionError("unknown stage", got=stop_after, expected=", ".join(STAGES))
