"""What has been measured: a text file per target that people can read, merge and carry to other
machines.

A line says how long one candidate takes for one kind of region on one processor:

    digest cpu threads weights code ns candidate

``digest`` names the region (shapes, strides, dtypes, op, epilogue), ``threads`` for how many
threads its work is split, ``weights`` the memory level that weights come from (l2, l3 or memory),
``code`` the state of the sources that matter, and ``ns`` nanoseconds on one core, or why the
candidate is out: ``wrong``, ``crashed``, ``hung`` or ``broken`` (it does not compile).
``candidate`` is the kernel with its parameters. Lines are sorted. Two files merge to the fastest
time of each candidate.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from strop import knobs
from strop.codegen import toolchain
from strop.kernels.base import Kernel
from strop.kernels.table import KERNELS
from strop.kernels.triton.parts import GpuKernel
from strop.target.base import Target

HEADER = "# strop records 1: digest cpu threads weights code ns candidate"
#: Why a candidate is out.
VERDICTS = ("wrong", "crashed", "hung", "broken")
WEIGHTS_FROM = ("l2", "l3", "memory")
_LARGEST = 64 << 20
_LINE = re.compile(
    r"(?P<digest>[0-9a-f]{16}) (?P<cpu>[\w./-]{1,200}) (?P<threads>[0-9]{1,4}) "
    r"(?P<weights>l2|l3|memory) (?P<code>[0-9a-f]{8}) "
    r"(?P<result>[0-9]{1,15}|wrong|crashed|hung|broken) (?P<candidate>[ -~]{1,300})",
    re.ASCII,
)
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, order=True)
class Key:
    """What a line is about; the columns of the module's text, without the result."""

    digest: str
    cpu: str
    threads: int
    weights: str
    candidate: str
    code: str


class Records:
    """Lines by key. A result is nanoseconds, or one of VERDICTS."""

    def __init__(self) -> None:
        self.results: dict[Key, int | str] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def put(self, key: Key, result: int | str) -> None:
        """Adds a result; of two times the faster one stays, and a verdict stands against a time."""
        old = self.results.get(key)
        if old is None or (isinstance(old, int) and (isinstance(result, str) or result < old)):
            self.results[key] = result

    def merge(self, other: Records) -> None:
        """Adds all results of others."""
        for key in sorted(other.results):
            self.put(key, other.results[key])

    def text(self) -> str:
        """The file's content."""
        lines = [HEADER]
        for key in sorted(self.results):
            result = self.results[key]
            where = f"{key.digest} {key.cpu} {key.threads} {key.weights} {key.code}"
            lines.append(f"{where} {result} {key.candidate}")
        return "\n".join(lines) + "\n"

    @staticmethod
    def parse(text: str, skipped: Callable[[int], None]) -> Records:
        """Reads a file's content; ``skipped`` is told the number of every line that is none."""
        records = Records()
        for number, line in enumerate(text.splitlines(), 1):
            if not line or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line)
            if found is None:
                skipped(number)
                continue
            result = found["result"]
            key = Key(
                found["digest"],
                found["cpu"],
                int(found["threads"]),
                found["weights"],
                found["candidate"],
                found["code"],
            )
            records.put(key, int(result) if result.isdigit() else result)
        return records

    @staticmethod
    def read(path: Path, note: Callable[[str], None]) -> Records:
        """Reads a file. One that is absent is empty; what is unusable is left out and noted."""
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            return Records()
        except OSError as error:
            note(f"tune: records {path.name} cannot be read and are not used: {error.strerror}")
            return Records()
        if len(data) > _LARGEST:
            note(f"tune: records {path.name} are larger than {_LARGEST >> 20} MiB and are not used")
            return Records()
        bad: list[int] = []
        records = Records.parse(data.decode("utf-8", errors="replace"), bad.append)
        if bad:
            skipped = f"{len(bad)} unreadable lines of records {path.name} were skipped"
            note(f"tune: {skipped}, the first is line {bad[0]}")
        return records

    def write(self, path: Path) -> None:
        """Merges them into a file: what others have put there meanwhile stays. The file is whole at
        any time."""
        self.merge(Records.read(path, lambda _: None))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".txt", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(self.text())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def path_of(target: Target) -> Path:
    """The file of a target's records."""
    return knobs.cache_dir() / "records" / f"{target.name}.txt"


def cpu_of(target: Target) -> str:
    """This machine's processor and caches in one word, e.g.
    ``AMD-EPYC-25.17.1/32K/1024K/32768K``."""
    sizes = "/".join(f"{size >> 10}K" for size in (target.l1, target.l2, target.l3))
    return f"{_model()[:150]}/{sizes}"


@lru_cache
def _model() -> str:
    fields: dict[str, str] = {}
    try:
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    numbers = (
        "cpu family",
        "model",
        "stepping",
        "CPU implementer",
        "CPU variant",
        "CPU part",
        "CPU revision",
    )
    name = fields.get("model name") or platform.processor() or platform.machine()
    words = [name, ".".join(fields[n] for n in numbers if n in fields)]
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(w for w in words if w)).strip("-") or "unknown"


def code_of(kernel: Kernel[Any]) -> str:
    """The state of what decides a kernel's speed: its own module, what kernels share, the
    instruction sets and the compiler; of a GPU kernel its revision."""
    if isinstance(kernel, GpuKernel):
        return hashlib.sha256(f"{kernel.name} {kernel.revision}".encode()).hexdigest()[:8]
    return _code_of(_file_of(kernel))


@lru_cache
def _code_of(own: Path) -> str:
    return hashlib.sha256((_shared_code() + _hash([own])).encode()).hexdigest()[:8]


@lru_cache
def _shared_code() -> str:
    others = {_file_of(k) for k in KERNELS} | {_PACKAGE / "kernels" / name for name in ("table.py", "oracle.py")}
    folders = ("kernels", "codegen", "target/isa")
    gpu = _PACKAGE / "kernels" / "triton"
    shared = [p for f in folders for p in (_PACKAGE / f).rglob("*.py") if p not in others and gpu not in p.parents]
    return _hash([*shared, _PACKAGE / "tune" / "clock.c", _PACKAGE / "tune" / "worker.py"])


@lru_cache
def code_of_verdicts() -> str:
    """The state of all that can make a kernel wrong, its reference included."""
    folders = ("ir", "ops", "kernels", "codegen", "target", "tune")
    return _hash([p for f in folders for p in (_PACKAGE / f).rglob("*.py")])[:8]


def _file_of(kernel: Kernel[Any]) -> Path:
    module = sys.modules[type(kernel).__module__]
    return Path(str(module.__file__)).resolve()


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256(toolchain.find().version.encode())
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
