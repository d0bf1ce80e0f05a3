"""Every environment variable: name, type, default, doc. The only reader of os.environ.

A knob is read at each use, so tests may set it with ``monkeypatch.setenv``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from strop.errors import OptionError

T = TypeVar("T")


@dataclass(frozen=True)
class Knob(Generic[T]):
    """One environment variable.

    Attributes:
        name: the variable, always ``STROP_...``.
        parse: text to value; a ValueError becomes an OptionError that names the variable.
        default: the value when the variable is unset or empty.
        doc: one line for ``strop knobs``.
    """

    name: str
    parse: Callable[[str], T]
    default: T
    doc: str

    def get(self) -> T:
        """The value in force now."""
        text = os.environ.get(self.name, "")
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise OptionError(
                f"environment variable {self.name} has an unusable value",
                got=repr(text),
                expected=str(error) or self.doc,
            ) from None


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "strop"


DEBUG: Knob[int] = Knob("STROP_DEBUG", int, 0, "debug ladder 0..5, see strop.trace")
CC: Knob[str] = Knob("STROP_CC", str, "", "C compiler command instead of the ziglang wheel's clang")
CACHE: Knob[Path | None] = Knob("STROP_CACHE", Path, None, "folder of compiled kernels and records")
CUSTOM: Knob[str] = Knob("STROP_CUSTOM", str, "", "Python files that declare custom layers for the strop command")
THREADS: Knob[int] = Knob("STROP_THREADS", int, 0, "threads of a context when none are given")
ISA: Knob[str] = Knob("STROP_ISA", str, "", "pretend the host has only this target, e.g. x86-64-v3")
JOBS: Knob[int] = Knob("STROP_JOBS", int, 0, "compilers run at once; 0: one per core")
PATCHES: Knob[int] = Knob("STROP_PATCHES", int, -1, "stop rewriting after this many patches; -1: never")
COMPAT_LEVEL: Knob[str] = Knob("STROP_COMPAT_LEVEL", str, "", "version that strop.compat imitates: auto, 5, 8, 10 or 11")
STRICT_NANS: Knob[int] = Knob("STROP_STRICT_NANS", int, 0, "1: no rewrite that changes signs of zeros or NaNs")


def cache_dir() -> Path:
    """Folder for everything that may be deleted at any time; created on demand."""
    path = CACHE.get() or _cache_root()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            "the cache folder cannot be made",
            where=str(path),
            got=error.strerror or error,
            hint="set STROP_CACHE to a folder that can be written",
        ) from error
    return path


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process, with some variables changed."""
    return {**os.environ, **changes}


def inventory() -> list[Knob[object]]:
    """All knobs, for the CLI and the docs."""
    found = [value for value in globals().values() if isinstance(value, Knob)]
    return sorted(found, key=lambda knob: knob.name)
