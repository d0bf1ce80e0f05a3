"""The kernels section of an engine for GPUs: machine code, and which launches each kernel of the plan is.

    u32 length of the index | index, JSON | machine code, one after the other, at multiples of 64 bytes

Processes without a compiler import this file: numpy and the standard library are all it needs.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strop.engine.format import in_range
from strop.engine.library_calls import WORKSPACE, LibraryCall, call_of
from strop.errors import EngineFileError

#: Prefix of the names of sections that hold such code.
PREFIX = "cuda:"
_ALIGNMENT = 64
_MOST = 1 << 20
_HIGHEST_GRID = (1 << 31) - 1


@dataclass(frozen=True)
class Code:
    """Machine code of one function: its name, its bytes, bytes of shared memory per program, warps per program."""

    function: str
    data: bytes
    shared: int
    warps: int


@dataclass(frozen=True)
class GpuKernel:
    """What a step runs.

    Attributes:
        calls: (number of the code, programs along three axes).
        workspace: bytes handed over behind the step's operands, if above 0.
        locks: counters of 4 bytes handed over behind these, if above 0; zero before and after.
        cooperative: whether the programs of a call wait for each other, so that all must be resident at once.
        library: a call of one of NVIDIA's libraries that is made in place of launches.
    """

    calls: tuple[tuple[int, tuple[int, int, int]], ...]
    workspace: int
    locks: int
    cooperative: bool = False
    library: LibraryCall | None = None


def encode(codes: Sequence[Code], kernels: Sequence[GpuKernel]) -> bytes:
    """The bytes of the section."""
    rows, blobs, at = [], [], 0
    for code in codes:
        rows.append([code.function, at, len(code.data), code.shared, code.warps])
        padded = code.data + bytes(-len(code.data) % _ALIGNMENT)
        blobs.append(padded)
        at += len(padded)
    table = [
        [[[number, *grid] for number, grid in k.calls], k.workspace, k.locks, int(k.cooperative), *([k.library.row()] if k.library else [])] for k in kernels
    ]
    index = json.dumps({"codes": rows, "kernels": table}, separators=(",", ":")).encode()
    index += b" " * (-(len(index) + 4) % _ALIGNMENT)
    return struct.pack("<I", len(index)) + index + b"".join(blobs)


def decode(data: bytes) -> tuple[tuple[Code, ...], tuple[GpuKernel, ...]]:
    """The inverse of encode.

    Raises:
        EngineFileError: malformed, or a number leaves its range.
    """
    try:
        (size,) = struct.unpack_from("<I", data)
        index = json.loads(data[4 : 4 + size])
        blobs = memoryview(data)[4 + size :]
        codes = tuple(_code(row, blobs) for row in index["codes"])
        kernels = tuple(_kernel(row, len(codes)) for row in index["kernels"])
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise EngineFileError(
            "the GPU code of the engine is malformed", where="kernels section", got=error, hint="build the engine again"
        ) from error
    return codes, kernels


def _code(row: Any, blobs: memoryview) -> Code:
    name, at, size, shared, warps = row
    in_range(at, 0, len(blobs)), in_range(size, 1, len(blobs) - at), in_range(shared, 0, 1 << 18), in_range(warps, 1, 32)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a function called {name!r}")
    return Code(name, bytes(blobs[at : at + size]), shared, warps)


def _kernel(row: Any, codes: int) -> GpuKernel:
    calls, workspace, locks, cooperative, *library = row
    found = []
    for number, *grid in calls:
        in_range(number, 0, codes - 1)
        x, y, z = (in_range(n, 1, most) for n, most in zip(grid, (_HIGHEST_GRID, 65535, 65535), strict=True))
        found.append((number, (x, y, z)))
    call = call_of(*library) if library else None
    together = bool(in_range(cooperative, 0, 1))
    if call is not None and (found or locks or together or workspace != WORKSPACE):
        raise ValueError("a step that is a library's call and launches")
    return GpuKernel(tuple(found), in_range(workspace, 0, 1 << 40), in_range(locks, 0, _MOST), together, call)
