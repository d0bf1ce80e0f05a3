"""Where the C sources of the runtime are and how they are compiled into one shared library."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

INCLUDE_DIR = _HERE / "include"
"""Folder of strop.h, strop.hpp and strop_kernel.h."""

# nodelete: worker threads outlive every handle to the library.
COMPILE_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden")
LINK_FLAGS = ("-shared", "-s", "-Wl,-z,nodelete", "-lpthread", "-ldl")


def source_files() -> list[Path]:
    """The C files of the runtime, sorted by name."""
    return sorted((_HERE / "src").glob("*.c"))


def all_files() -> list[Path]:
    """Everything the compiled runtime depends on, sorted: a key for caches."""
    return sorted([*source_files(), *(_HERE / "src").glob("*.h"), *INCLUDE_DIR.glob("*.h")])
