"""Finds NVIDIA's libraries: in the packages that pip installs, then on the loader's path. The only place that does."""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from strop.engine.library_calls import CUBLASLT, CUDNN
from strop.errors import RuntimeFailure, TargetError


@dataclass(frozen=True)
class Library:
    """A library.

    Attributes:
        title: as people call it.
        file: name of its file, without the number.
        numbers: those of the versions whose functions are called alike.
        version: the function that gives the version, 10000 major + 100 minor + patch.
        package: what pip installs.
    """

    title: str
    file: str
    numbers: tuple[int, ...]
    version: str
    package: str


LIBRARIES: dict[str, Library] = {
    CUBLASLT: Library("cuBLASLt", "libcublasLt.so", (13, 12), "cublasLtGetVersion", "nvidia-cublas"),
    CUDNN: Library("cuDNN", "libcudnn.so", (9,), "cudnnGetVersion", "nvidia-cudnn-cu13"),
}


class NoAlgorithm(RuntimeFailure):
    """The library's heuristic names fewer algorithms for a problem, or the one that is asked for does not do it on this GPU."""


@cache
def load(name: str) -> Any:
    """The library's functions; None when it is not installed."""
    known = LIBRARIES[name]
    for number in known.numbers:
        file = f"{known.file}.{number}"
        for path in (*_in_packages(file), file):
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def _in_packages(file: str) -> list[Path]:
    """Files of this name in the packages ``nvidia-*``, which share a folder."""
    found = importlib.util.find_spec("nvidia")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    return sorted(path for folder in folders for path in Path(folder).glob(f"*/lib/{file}"))


def version_of(name: str) -> str | None:
    """The version of an installed library, as ``13.1.0``; None when it is not installed."""
    functions = load(name)
    if functions is None:
        return None
    number = int(getattr(functions, LIBRARIES[name].version)())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def versions() -> tuple[tuple[str, str], ...]:
    """(library, version) of all that candidates may call; TargetError names one that is not installed."""
    found = []
    for name, known in LIBRARIES.items():
        version = version_of(name)
        if version is None:
            raise TargetError(
                f"a target with +libraries needs {known.title}", got=f"no {known.file}.{known.numbers[0]}", expected=f"{known.title}, in a package of pip or on the loader's path",
                hint=f"pip install {known.package}, or build for the target without +libraries",
            )  # fmt: skip
        found.append((name, version))
    return tuple(found)


def require(name: str, version: str, step: str, where: str) -> Any:
    """The functions of a library of exactly this version, for which an engine's choice was measured; TargetError for another or none."""
    known, here = LIBRARIES[name], version_of(name)
    if here != version:
        raise TargetError(
            f"step '{step}' of the engine calls {known.title} {version}", where=where, got=f"{known.title} {here}" if here else f"no {known.file}.{known.numbers[0]}",
            expected=f"{known.title} {version}", hint=f"pip install {known.package} of that version, or build again here, or build for the target without +libraries",
        )  # fmt: skip
    return load(name)
