"""Calls of NVIDIA's libraries in an engine for GPUs: which product or convolution, over which memory, by which of the library's algorithms.

A call is data. What it means is

    product:      y[b, m, n] = act(sum_k x[b, m, k] w[b, k, n] + bias[n] + added[b, m, n])
    convolution:  y[n, o, p, q] = act(conv(x[n, c, h, w], w[o, c / groups, r, s]) + bias[o] + added[n, o, p, q])

summed in f32; ``bias`` and ``added`` may be missing. Processes without a compiler import this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strop.engine.format import in_range
from strop.ir import dtype as dt
from strop.ir.dtype import DType

CUBLASLT, CUDNN = "cublaslt", "cudnn"
#: Bytes that every call is lent.
WORKSPACE = 32 << 20
#: Every operand of a call begins at a multiple of so many bytes.
ALIGNED = 16
#: Names of operands in the order of a step's pointers; workspace follows.
ORDER = ("x", "w", "bias", "added", "y")
NONE, RELU, GELU, GELU_TANH = "none", "relu", "gelu", "gelu_tanh"
#: The functions that each library can apply to a result.
ACTS: Mapping[str, tuple[str, ...]] = {CUBLASLT: (NONE, RELU, GELU_TANH), CUDNN: (NONE, RELU, GELU, GELU_TANH)}
_DTYPES = {d.name: d for d in (dt.f16, dt.bf16, dt.f32)}
_LONGEST, _WIDEST, _RANKS = (1 << 31) - 1, 1 << 40, 64


@dataclass(frozen=True)
class Lying:
    """How an operand lies: element i at sum(i * strides), in elements."""

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def reach(self) -> int:
        """Bytes from the first element to the end of the last."""
        return (1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))) * self.dtype.size


@dataclass(frozen=True)
class Window:
    """How a convolution's window moves: zeros before and after each spatial axis, strides, dilations."""

    before: tuple[int, int]
    after: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]


@dataclass(frozen=True)
class LibraryCall:
    """A call.

    Attributes:
        library: ``cublaslt`` for products, ``cudnn`` for convolutions.
        version: of the library, for which ``rank`` was measured.
        rank: which of the algorithms that the library's heuristic names, 0 for the first.
        act: the function that ends it.
        operands: by the names of ORDER.
        window: of a convolution, else None.
        tf32: whether factors of f32 may be rounded to tf32.
    """

    library: str
    version: str
    rank: int
    act: str
    operands: Mapping[str, Lying]
    window: Window | None = None
    tf32: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The operands in the order of the pointers."""
        return tuple(name for name in ORDER if name in self.operands)

    def row(self) -> dict[str, Any]:
        """The call as JSON has it."""
        operands = [[name, o.dtype.name, list(o.shape), list(o.strides)] for name in self.names for o in [self.operands[name]]]
        w = self.window
        window = [] if w is None else [*w.before, *w.after, *w.strides, *w.dilations]
        return {
            "library": self.library, "version": self.version, "rank": self.rank, "act": self.act, "operands": operands, "window": window, "tf32": self.tf32,
        }  # fmt: skip


def call_of(row: Mapping[str, Any]) -> LibraryCall:
    """The inverse of ``row``; ValueError, KeyError or TypeError for what is no call or contradicts itself."""
    library, version, act = row["library"], row["version"], row["act"]
    if library not in ACTS or act not in ACTS[library]:
        raise ValueError(f"library {library!r}, act {act!r}")
    if not isinstance(version, str) or not 0 < len(version) <= 40 or not version.isprintable():
        raise ValueError(f"version {version!r}")
    names = [name for name, *_ in row["operands"]]
    if names != [name for name in ORDER if name in names] or not {"x", "w", "y"} <= set(names):
        raise ValueError(f"operands {names}")
    operands = {name: _lying(dtype, shape, strides) for name, dtype, shape, strides in row["operands"]}
    window = None
    if row["window"]:
        numbers = [in_range(n, k >= 4, 1 << 16) for k, n in enumerate(row["window"])]
        a, b, c, d, e, f, g, h = numbers
        window = Window((a, b), (c, d), (e, f), (g, h))
    if not isinstance(row["tf32"], bool):
        raise ValueError(f"tf32 {row['tf32']!r}")
    call = LibraryCall(library, version, in_range(row["rank"], 0, _RANKS - 1), act, operands, window, row["tf32"])
    if (window is None) != (library == CUBLASLT):
        raise ValueError(f"{library} with window {row['window']}")
    (_check_product if window is None else _check_convolution)(call)
    return call


def _lying(name: str, shape: list[int], strides: list[int]) -> Lying:
    if len(shape) != len(strides) or len(shape) > 4:
        raise ValueError(f"shape {shape}, strides {strides}")
    found = Lying(_DTYPES[name], tuple(in_range(n, 1, _LONGEST) for n in shape), tuple(in_range(n, 0, _WIDEST) for n in strides))
    if found.reach > _WIDEST:
        raise ValueError(f"an operand of {found.reach} bytes")
    return found


def _check_product(call: LibraryCall) -> None:
    x, w, y = (call.operands[name] for name in ("x", "w", "y"))
    (b, m, k), (wb, wk, n) = x.shape, w.shape
    results = [call.operands[name] for name in ("added", "y") if name in call.operands]
    if (wb, wk) != (b, k) or y.shape != (b, m, n) or any(1 not in o.strides[1:] for o in (x, w)) or any(o.strides[2] != 1 for o in results):
        raise ValueError(f"a product of {x.shape} and {w.shape} to {y.shape}")
    _check_sides(call, n)


def _check_convolution(call: LibraryCall) -> None:
    x, w, y, window = call.operands["x"], call.operands["w"], call.operands["y"], call.window
    assert window is not None
    made = []
    for axis in range(2):
        inside = x.shape[2 + axis] + window.before[axis] + window.after[axis] - window.dilations[axis] * (w.shape[2 + axis] - 1) - 1
        made.append(inside // window.strides[axis] + 1 if inside >= 0 else 0)
    groups = x.shape[1] // w.shape[1]
    if groups * w.shape[1] != x.shape[1] or w.shape[0] % groups or y.shape != (x.shape[0], w.shape[0], *made):
        raise ValueError(f"a convolution of {x.shape} by {w.shape} to {y.shape}")
    _check_sides(call, w.shape[0])


def _check_sides(call: LibraryCall, columns: int) -> None:
    bias, added, y = call.operands.get("bias"), call.operands.get("added"), call.operands["y"]
    if bias is not None and (bias.shape, bias.strides) != ((columns,), (1,)):
        raise ValueError(f"a bias of {bias.shape} for {columns} columns")
    if added is not None and added.shape != y.shape:
        raise ValueError(f"{added.shape} added to {y.shape}")
    if call.operands["x"].dtype is not call.operands["w"].dtype or math.prod(y.shape) == 0:
        raise ValueError("factors of two types")
