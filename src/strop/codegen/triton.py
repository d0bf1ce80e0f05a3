"""Triton texts of kernels, and their machine code for one compute capability, made ahead of time: neither a GPU nor PyTorch is needed.

The machine code (cubin) of a text is kept in the cache folder under the hash of text, alignments, warps, stages, capability and version of Triton.
Several are compiled at once in child processes, see ``triton_worker.py``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop import knobs
from strop.errors import KernelError, ToolchainError
from strop.files import replacing
from strop.kernels.triton.emit import GpuEmitted
from strop.target.base import Target, host_cores
from strop.target.cuda import capability

#: Seconds that the compilation of a batch may take.
_TIMEOUT = 1800
#: Pointers that are multiples of this many bytes are read in the widest units.
ALIGNED = 16


@dataclass(frozen=True)
class Job:
    """A function to compile.

    Attributes:
        text: of a module that defines ``function``.
        parameters: (name, Triton type) of each.
        aligned: per parameter whether it is a multiple of ALIGNED bytes.
        warps, stages, registers: of the launch.
    """

    function: str
    text: str
    parameters: tuple[tuple[str, str], ...]
    aligned: tuple[bool, ...]
    warps: int
    stages: int
    capability: int
    registers: int = 0

    @property
    def key(self) -> str:
        """Name of the result in the cache."""
        parts = [version(), self.function, self.text, repr(self.parameters), repr(self.aligned), f"{self.warps} {self.stages} {self.capability} {self.registers}"]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Cubin:
    """Machine code of one function.

    Attributes:
        function: its name in the code.
        code: the bytes of a cubin.
        shared: bytes of shared memory that a program takes.
        warps: of 32 threads per program.
    """

    function: str
    code: bytes
    shared: int
    warps: int


@dataclass(frozen=True)
class Call:
    """A launch: cubin by number, and the grid."""

    cubin: int
    grid: tuple[int, int, int]


@dataclass
class Kernel:
    """What a step runs: launches over the same parameters, or a call of a library."""

    calls: list[Call]
    workspace: int
    locks: int
    label: str
    library: Mapping[str, Any] | None = None
    layers: list[str] = field(default_factory=list)


def version() -> str:
    """Version of the Triton package; ToolchainError when it is not there."""
    if importlib.util.find_spec("triton") is None:
        raise ToolchainError(
            "code for NVIDIA GPUs needs Triton", got="no package 'triton'", expected="triton 3.4 or later", hint="pip install 'strop[cuda]'"
        )
    return importlib.metadata.version("triton")


def function_name(emitted: GpuEmitted, number: int, label: str) -> str:
    """A name that tells the kernel and the text apart."""
    stem = re.sub(r"[^a-z0-9_]", "", label.split("(")[0]) or "kernel"
    digest = hashlib.sha256(repr((emitted.launches[number], emitted.parameters())).encode()).hexdigest()
    return f"strop_{stem}_{digest[:10]}"


def text_of(emitted: GpuEmitted, number: int, label: str) -> str:
    """The module text of one launch of a step."""
    launch = emitted.launches[number]
    names = ", ".join(name for name, _ in emitted.parameters())
    libdevice = "from triton.language.extra.cuda import libdevice\n" if "libdevice." in launch.body else ""
    return (
        f"import triton\nimport triton.language as tl\n{libdevice}\n\n"
        f"# {label}, grid {launch.grid}, {launch.warps} warps, {launch.stages} stages\n"
        f"@triton.jit\ndef {function_name(emitted, number, label)}({names}):\n{launch.body}\n"
    )


def jobs_of(emitted: GpuEmitted, aligned: Sequence[bool], label: str, target: Target) -> list[Job]:
    """A job per launch of a step. ``aligned`` is about the step's pointers; workspace and locks are aligned always."""
    parameters = tuple(emitted.parameters())
    whole = (*aligned, *([True] * (len(parameters) - len(aligned))))
    return [
        Job(
            function_name(emitted, k, label), text_of(emitted, k, label), parameters, whole, launch.warps, launch.stages, capability(target), launch.registers
        )
        for k, launch in enumerate(emitted.launches)
    ]


class GpuModule:
    """The kernels of one engine for one GPU target. ``add`` returns the index in the table of kernels."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.kernels: list[Kernel] = []
        self.jobs: list[Job] = []
        self._jobs: dict[str, int] = {}
        self._index: dict[str, int] = {}

    def add(self, emitted: GpuEmitted, aligned: Sequence[bool], label: str, layer: str) -> int:
        """Registers a step; equal ones share a kernel."""
        jobs = jobs_of(emitted, aligned, label, self.target)
        keys = [job.key for job in jobs]
        for key, job in zip(keys, jobs, strict=True):
            if self._jobs.setdefault(key, len(self.jobs)) == len(self.jobs):
                self.jobs.append(job)
        numbers = [self._jobs[key] for key in keys]
        grids = [launch.grid for launch in emitted.launches]
        whole = repr((numbers, grids, emitted.workspace, emitted.locks, emitted.library))
        index = self._index.setdefault(whole, len(self.kernels))
        if index == len(self.kernels):
            calls = [Call(number, grid) for number, grid in zip(numbers, grids, strict=True)]
            self.kernels.append(Kernel(calls, emitted.workspace, emitted.locks, label, library=emitted.library))
        if layer not in self.kernels[index].layers:
            self.kernels[index].layers.append(layer)
        return index

    def units(self) -> list[str]:
        """The texts, each headed by the layers it serves; of a library's call what it is."""
        served: dict[int, list[str]] = {}
        for kernel in self.kernels:
            for call in kernel.calls:
                served.setdefault(call.cubin, []).extend(kernel.layers)
        texts = [f"{_heading(served[k])}\n{job.text}" for k, job in enumerate(self.jobs)]
        return texts + [f"{_heading(k.layers)}\n# {json.dumps(k.library)}\n" for k in self.kernels if k.library is not None]

    def compile(self, done: Callable[[int, int], None] | None = None) -> list[Cubin]:
        """The machine code of every job."""
        found = compile_all(self.jobs, done)
        for job, cubin in zip(self.jobs, found, strict=True):
            if isinstance(cubin, str):
                raise KernelError("Triton does not compile a kernel", where=job.function, got=cubin, hint="report this with the network's layer")
        return [cubin for cubin in found if isinstance(cubin, Cubin)]


def _heading(layers: Sequence[str]) -> str:
    return f"# {', '.join(layers[:8])}{', ...' if len(layers) > 8 else ''}"


def compile_all(jobs: Sequence[Job], done: Callable[[int, int], None] | None = None) -> list[Cubin | str]:
    """Machine code per job, or why there is none."""
    version()
    folder = knobs.cache_dir() / "cubin"
    folder.mkdir(exist_ok=True)
    missing = {job.key: job for job in jobs if _read(folder, job.key) is None}
    if missing:
        _spawn(list(missing.values()), folder)
    found = []
    for number, job in enumerate(jobs):
        result = _read(folder, job.key)
        found.append(result if result is not None else "the compiler ended without a result")
        if done is not None:
            done(number + 1, len(jobs))
    return found


def _read(folder: Path, key: str) -> Cubin | str | None:
    try:
        data = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        if "error" in data:
            return str(data["error"])
        return Cubin(data["function"], (folder / f"{key}.cubin").read_bytes(), int(data["shared"]), int(data["warps"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_result(folder: Path, key: str, facts: dict[str, Any], code: bytes) -> None:
    """Keeps a result: the code, then what is known about it."""
    for name, data in ((f"{key}.cubin", code), (f"{key}.json", json.dumps(facts).encode())):
        with replacing(folder / name) as temporary:
            temporary.write_bytes(data)


def _spawn(jobs: list[Job], folder: Path) -> None:
    """Deals the jobs to child processes and waits for them."""
    count = min(len(jobs), knobs.JOBS.get() or host_cores())
    with tempfile.TemporaryDirectory() as work:
        children = []
        for number in range(count):
            path = Path(work) / f"{number}.json"
            rows = [{**vars(job), "key": job.key} for job in jobs[number::count]]
            path.write_text(json.dumps(rows), encoding="utf-8")
            command = [sys.executable, "-m", "strop.codegen.triton_worker", str(path), str(folder)]
            changes = {"PYTHONPATH": ":".join(filter(None, sys.path)), "TRITON_CACHE_DIR": str(Path(work) / f"c{number}"), "TRITON_INTERPRET": "0"}
            children.append(subprocess.Popen(command, env=knobs.environment(changes), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        try:
            for child in children:
                _, errors = child.communicate(timeout=_TIMEOUT)
                if child.returncode != 0:
                    raise ToolchainError("the Triton compiler ended badly", got=errors.strip()[-2000:], hint="see whether 'import triton' works")
        except subprocess.TimeoutExpired:
            raise ToolchainError("the Triton compiler does not end", got=f"more than {_TIMEOUT} s") from None
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
