"""The C compiler: clang from the ziglang wheel, or the command in STROP_CC. Results are cached by content.

Objects and libraries are stored under ``cache_dir()/cc`` by the hash of compiler, flags and text, so that equal input is compiled once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from strop import knobs
from strop.errors import ToolchainError
from strop.runtime import sources as runtime_sources
from strop.runtime.sources import INCLUDE_DIR
from strop.target.base import Target, host_cores

_FLAGS = (
    "-std=gnu11", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fno-stack-protector",
    "-fvisibility=hidden", "-fno-sanitize=all", "-fno-ident", "-g0", "-w",
)  # fmt: skip
_TIMEOUT = 600


@dataclass(frozen=True)
class Compiler:
    """A C compiler command.

    Attributes:
        command: argument prefix that compiles C.
        zig: True for the ziglang wheel, whose option names differ.
        version: first line of its version text, part of cache keys.
    """

    command: tuple[str, ...]
    zig: bool
    version: str

    def machine_flags(self, target: Target) -> list[str]:
        """Options that select the target."""
        if self.zig:
            return ["-target", target.triple + ".2.17" * target.triple.endswith("linux-gnu"), f"-mcpu={'+'.join((target.cpu, *target.extras))}"]
        flags = ["-march=" + target.cpu.replace("x86_64", "x86-64").replace("_v", "-v")] if target.arch == "x86_64" else []
        return ["--target=" + target.triple, *flags, *(f"-m{feature}" for feature in target.extras)]


def find() -> Compiler:
    """The compiler in force; ToolchainError when there is none."""
    return _find(knobs.CC.get())


@lru_cache
def _find(command: str) -> Compiler:
    if command:
        words = _words(command)
        if shutil.which(words[0]) is None:
            raise ToolchainError("the C compiler in STROP_CC is not there", got=command, hint="unset STROP_CC")
        version = _version([*words, "--version"])
        if "clang" not in version.lower():
            raise ToolchainError("the C compiler in STROP_CC is not clang", got=version, hint="name a clang, or unset STROP_CC")
        return Compiler(words, False, version)
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise ToolchainError(
            "no C compiler found",
            expected="the ziglang package, or a clang named by STROP_CC",
            hint="pip install ziglang",
        )
    zig = Path(next(iter(spec.submodule_search_locations))) / ("zig.exe" if os.name == "nt" else "zig")
    if not zig.exists():
        raise ToolchainError("the ziglang package has no compiler in it", got=str(zig), hint="reinstall ziglang")
    return Compiler((str(zig), "cc"), True, _version([str(zig), "version"]))


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError:
        words = ()
    if not words:
        raise ToolchainError("STROP_CC is no command", got=repr(command), expected="a C compiler, e.g. clang")
    return words


def _version(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, env=_environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError("the C compiler does not start", got=error, where=" ".join(command)) from None
    if done.returncode != 0:
        raise ToolchainError("the C compiler does not start", got=done.stderr.strip()[-2000:], where=" ".join(command))
    return done.stdout.splitlines()[0] if done.stdout else ""


def _environment() -> dict[str, str]:
    """The compiler's environment: its own caches live inside ours."""
    zig_cache = str(knobs.cache_dir() / "zig")
    return knobs.environment({"ZIG_GLOBAL_CACHE_DIR": zig_cache, "ZIG_LOCAL_CACHE_DIR": zig_cache})


def compile_all(
    sources: Sequence[str], target: Target, done: Callable[[int, int], None] | None = None, extra: Sequence[str] = ()
) -> list[Path]:
    """Compiles C texts to objects, several at once; ``done(finished, total)`` is called as they finish."""
    compiler = find()
    finished = 0
    with ThreadPoolExecutor(max_workers=knobs.JOBS.get() or host_cores()) as pool:
        futures = [pool.submit(_compile, compiler, text, target, tuple(extra)) for text in sources]
        objects = []
        for future in futures:
            objects.append(future.result())
            finished += 1
            if done is not None:
                done(finished, len(sources))
    return objects


def _compile(compiler: Compiler, text: str, target: Target, extra: tuple[str, ...]) -> Path:
    flags = [*compiler.machine_flags(target), *_FLAGS, *extra, f"-I{INCLUDE_DIR}"]
    headers = "".join(p.read_text(encoding="utf-8") for p in sorted(INCLUDE_DIR.glob("*.h")))
    key = _key(compiler, [f for f in flags if not f.startswith("-I")], text, headers)
    return _cached(key, ".o", lambda out: _run_compiler([*compiler.command, *flags, "-x", "c", "-c"], text, out))


def _run_compiler(command: list[str], text: str, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "unit.c"
        source.write_text(text, encoding="utf-8")
        _run([*command, source.name, "-o", str(out)], cwd=folder)


def assembly(text: str, target: Target) -> str:
    """Assembly text of a C unit, for tests that look for instructions."""
    compiler = find()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "unit.c", Path(folder) / "unit.s"
        source.write_text(text, encoding="utf-8")
        flags = [*compiler.machine_flags(target), *_FLAGS, f"-I{INCLUDE_DIR}"]
        _run([*compiler.command, *flags, "-S", str(source), "-o", str(out)])
        return out.read_text(encoding="utf-8")


def link_shared(objects: Sequence[Path], target: Target, libs: Sequence[str] = ("-lm",)) -> Path:
    """Links objects to one shared library, in which nothing is left undefined; cached by their content."""
    compiler = find()
    flags = [*compiler.machine_flags(target), "-shared", "-Wl,--build-id=none", "-Wl,-z,defs", "-s"]
    if compiler.zig:  # its compiler library, of which nothing is used, takes seconds to build for every processor level
        flags.append("-nostdlib")
        libs = (*libs, "-lc")
    digests = "".join(hashlib.sha256(o.read_bytes()).hexdigest() for o in objects)
    key = _key(compiler, [*flags, *libs], digests, "")
    command = [*compiler.command, *flags, *map(str, objects), *libs]
    return _cached(key, ".so", lambda out: _run([*command, "-o", str(out)]))


def runtime_library(target: Target) -> Path:
    """The native runtime, compiled for the target's operating system and architecture at their baseline."""
    baseline = replace(target, cpu={"x86_64": "x86_64"}.get(target.arch, target.cpu), extras=())
    folder = INCLUDE_DIR.parent / "src"
    headers = "".join(p.read_text(encoding="utf-8") for p in runtime_sources.all_files() if p.suffix == ".h")
    texts = [p.read_text(encoding="utf-8") for p in runtime_sources.source_files()]
    stamp = f"-DSTROP_HEADERS_{hashlib.sha256(headers.encode()).hexdigest()[:16]}"  # headers are part of the cache key
    objects = compile_all(texts, baseline, extra=(f"-I{folder}", stamp))
    return link_shared(objects, baseline, runtime_sources.LINK_FLAGS[2:])


def _key(compiler: Compiler, flags: Sequence[str], text: str, headers: str) -> str:
    parts = "\0".join([" ".join(compiler.command[1:]), compiler.version, *flags, text, headers])
    return hashlib.sha256(parts.encode()).hexdigest()


def _cached(key: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file under ``key``; made into a temporary name and renamed, so that it is whole or absent."""
    folder = knobs.cache_dir() / "cc" / key[:2]
    path = folder / (key + suffix)
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=suffix, dir=folder)
    os.close(handle)
    try:
        make(Path(name))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _run(command: Sequence[str], cwd: str | None = None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, env=_environment(), cwd=cwd)
    except OSError as error:
        raise ToolchainError("the C compiler cannot be started", got=str(error), where=command[0]) from None
    except subprocess.TimeoutExpired:
        raise ToolchainError("the C compiler takes too long", got=f"over {_TIMEOUT} s", where=command[0]) from None
    if done.returncode != 0:
        raise ToolchainError("the C compiler failed", got=done.stderr.strip()[-4000:], where=" ".join(command[:3]))
