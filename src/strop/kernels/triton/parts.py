"""What several Triton kernels share: their pointers, the epilogue, and refusals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Expr, Input
from strop.kernels.base import Emitted, In, Kernel, Out, Packed, Pointer, Region, View
from strop.kernels.triton.emit import GpuEmitted, Launch, Printer, Tile, loaded, printable
from strop.ops.integer import FACTORS, IntegerConv, IntegerMatMul
from strop.ops.wide import WideConv, WideMatMul
from strop.target.base import Target

P = TypeVar("P")
#: Seconds between two launches of a captured graph.
LAUNCH = 2.0e-6


@dataclass
class Pointers:
    """Parameters of a kernel in order."""

    names: list[str]
    dtypes: list[DType]
    pointers: list[Pointer]

    @staticmethod
    def none() -> Pointers:
        """No parameters yet."""
        return Pointers([], [], [])

    def add(self, name: str, dtype: DType, pointer: Pointer) -> str:
        """Adds one; returns its name."""
        self.names.append(name)
        self.dtypes.append(dtype)
        self.pointers.append(pointer)
        return name

    def packed(self, name: str, dtype: DType, pointer: Packed) -> str:
        """Adds an array of weights."""
        return self.add(name, dtype, pointer)

    def emitted(self, launches: Sequence[Launch], workspace: int = 0, locks: int = 0) -> GpuEmitted:
        """The step."""
        tasks = sum(launch.grid[0] * launch.grid[1] * launch.grid[2] for launch in launches)
        text = "\n".join(dict.fromkeys(launch.body for launch in launches))
        return GpuEmitted(
            text, tuple(self.pointers), tasks, names=tuple(self.names), dtypes=tuple(self.dtypes), launches=tuple(launches),
            workspace=workspace, locks=locks,
        )  # fmt: skip


def standard(region: Region, anchors: Sequence[tuple[str, int]]) -> Pointers:
    """Parameters of named anchor operands, the epilogue's operands e0, e1, ... and the result y."""
    found = Pointers.none()
    for name, index in anchors:
        found.add(name, region.operand(index).view.dtype, In(index))
    for k, operand in enumerate(region.extras):
        found.add(f"e{k}", operand.view.dtype, In(region.anchors + k))
    found.add("y", region.out.dtype, Out(0))
    return found


def preload(region: Region, tile: Tile) -> set[int]:
    """Loads what the epilogue reads per element of the tile before anything is waited for; returns which of its operands these are."""
    found = set()
    for k, operand in enumerate(region.extras):
        if all(b in tile.offset(operand.view.strides)[1] for b in tile.blocks if b.size):
            tile.w(f"v{k} = {tile.load(f'e{k}', operand.view)}")
            found.add(k)
    return found


def finish(region: Region, tile: Tile, value: str, dtype: DType, out: View | None = None, known: Collection[int] = ()) -> None:
    """Applies the epilogue to a value of the anchor's element type ``dtype`` that has the tile's shape, and stores it to ``y``.

    Args:
        known: operands of the epilogue that ``preload`` has loaded.
    """
    result = out or region.out
    extras = region.extras
    types = [dtype, *(o.view.dtype for o in extras)]

    def load(node: Expr, index: list[str]) -> str:
        assert isinstance(node, Input)
        if node.index == 0:
            return value
        k = node.index - 1
        if k in known:
            return loaded(f"v{k}", extras[k].view.dtype)
        tile.w(f"v{k} = {loaded(tile.load(f'e{k}', extras[k].view), extras[k].view.dtype)}")
        return f"v{k}"

    text = Printer(types, load, tile.w, known=[None, *(o.const for o in extras)]).value(region.epilogue, result.dtype)
    tile.store("y", result, text)


class GpuKernel(Kernel[P], Generic[P]):
    """A kernel for GPUs.

    Attributes:
        revision: counted up with every change of its code after which times that were measured before mean nothing.
    """

    revision = 1

    def accepts(self, region: Region, target: Target) -> str | None:
        reason = self.takes(region, target)
        if reason is not None:
            return reason
        if region.symbols:
            return "its code is made for fixed shapes"
        types = [_made(region), *(o.view.dtype for o in region.extras)]
        return printable(region.epilogue, types)

    def takes(self, region: Region, target: Target) -> str | None:
        """None when it can do the anchor, else the reason why not."""
        raise NotImplementedError

    def emit(self, region: Region, params: P, target: Target) -> Emitted:
        return self.launches(region, params, target)

    def launches(self, region: Region, params: P, target: Target) -> GpuEmitted:
        """The Triton code."""
        raise NotImplementedError


def _made(region: Region) -> DType:
    """The type of what the anchor gives the epilogue."""
    if isinstance(region.op, (IntegerConv, IntegerMatMul)):
        return dt.i32
    if isinstance(region.op, (WideConv, WideMatMul)):
        return dt.f32
    first = region.operands[0] if region.operands else None
    quantizes = region.has_epilogue and first is not None and first.view.dtype.is_float and not region.out.dtype.is_float
    return first.view.dtype if quantizes and first is not None else region.out.dtype


def is_float(*views: View) -> bool:
    """True when all are f32, or floats that are f32 in registers."""
    return all(v.dtype.is_float and v.dtype is not dt.f64 for v in views)


def dot(a: str, b: str, acc: str, dtype: DType, target: Target) -> str:
    """Text of ``acc + a b``, in f32 or, for integers, in i32, where unsigned ones of a count less 128."""
    if dtype in FACTORS:
        signed = a if dtype is dt.i8 else f"({a} ^ 128).to(tl.int8, bitcast=True)"
        return f"tl.dot({signed}, {b}, {acc}, out_dtype=tl.int32)"
    precision = ""
    if dtype.name == "f32":
        precision = f', input_precision="{"tf32" if "tf32" in target.extras else "tf32x3"}"'
    return f"tl.dot({a}, {b}, {acc}{precision})"


def traffic(region: Region, target: Target) -> float:
    """Seconds that moving every operand and result once takes, and the launch."""
    views = [o.view for o in region.operands if o is not None] + list(region.outs)
    size = sum(min(v.span, v.count) * v.dtype.size for v in views)
    rate = target.bandwidth * (2.0 if size < target.l2 else 0.85)
    return size / rate + LAUNCH
