"""Runs the Triton text of a region on numpy arrays with Triton's interpreter (``TRITON_INTERPRET``, see conftest.py), no GPU and no PyTorch, and compares with the oracle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from strop.codegen.triton import function_name, text_of
from strop.codegen.triton_worker import function_of
from strop.kernels.base import In, Kernel, Packed, Region
from strop.kernels.oracle import TOLERANCE, expected
from strop.kernels.triton.emit import GpuEmitted
from strop.target.base import Target
from strop.target.detect import parse
from tests.kernels.harness import GUARD, buffer_for, results

triton = pytest.importorskip("triton", reason="the package triton is not installed")
from tests.kernels.gpu import together  # noqa: E402

A100 = parse("cuda:sm_80")


class _Storage:
    """What the interpreter asks of a tensor's memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def cpu(self) -> _Storage:
        return self

    def copy_(self, other: _Storage) -> None:
        assert other is self


class _Pointer:
    """Looks like a tensor to the interpreter: a typed address."""

    def __init__(self, array: np.ndarray, kind: str, offset: int = 0) -> None:
        self.array, self.offset, self.dtype = array, offset, _Named(kind)

    def data_ptr(self) -> int:
        return self.array.ctypes.data + self.offset

    def untyped_storage(self) -> _Storage:
        return _STORAGES.setdefault(id(self.array), _Storage(self.array))

    def new_empty(self, size: int, device: str) -> _Pointer:
        return self

    def set_(self, *parts: Any) -> None:
        pass

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        return self.array.strides


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"torch.{self.name}"

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and other.name == self.name


_STORAGES: dict[int, _Storage] = {}
_TORCH = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "bool": "int8", "i8": "int8", "u8": "uint8", "i16": "int16",
    "u16": "uint16", "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64", "f8e4m3": "float8_e4m3fn",
}  # fmt: skip


def run(emitted: GpuEmitted, region: Region, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The results; AssertionError when something outside of them was written, or a lock left set."""
    _STORAGES.clear()
    ins = {
        k: buffer_for(o.view, o.logical if o.const is not None else arrays[k]) for k, o in enumerate(region.operands) if o is not None
    }
    outs = [buffer_for(view) for view in region.outs]
    before = [o.copy() for o in outs]
    parameters: list[_Pointer] = []
    for pointer, dtype in zip(emitted.pointers, emitted.dtypes, strict=True):
        kind = _TORCH[dtype.name]
        if isinstance(pointer, Packed):
            parameters.append(_Pointer(np.ascontiguousarray(pointer.array), kind))
            continue
        flat = ins[pointer.index] if isinstance(pointer, In) else outs[pointer.index]
        parameters.append(_Pointer(flat, kind, GUARD * flat.itemsize))
    locks = np.zeros(max(1, emitted.locks), np.int32)
    if emitted.workspace:
        parameters.append(_Pointer(np.full(emitted.workspace // 4, np.nan, np.float32), "float32"))
    if emitted.locks:
        parameters.append(_Pointer(locks, "int32"))
    for number, launch in enumerate(emitted.launches):
        name = function_name(emitted, number, "test")
        text = text_of(emitted, number, "test").replace("from triton.language.extra.cuda import", "from tests.kernels.gpu import")
        text = text.replace("import triton\n", "import triton\nfrom tests.kernels.gpu import assembly\n", 1).replace("tl.inline_asm_elementwise(", "assembly.run(")
        text = re.sub(r"in range\(([a-z]\w*), ([^)]+)\):", r"in assembly.between(\1, \2):", text)
        if launch.cooperative:
            together.run(function_of(text, name), launch.grid, parameters)
        else:
            function_of(text, name)[launch.grid](*parameters)
    assert not locks.any(), f"{region.name}: a lock is left set"
    return results(region, outs, before)


def check(kernel: Kernel[Any], region: Region, arrays: Sequence[np.ndarray | None], params: Any = None, target: Target = A100) -> None:
    """Runs a kernel with parameters (by default its favourite) and compares with the oracle."""
    chosen = params if params is not None else min(kernel.space(region, target), key=lambda p: kernel.cost(region, p, target))
    emitted = kernel.emit(region, chosen, target)
    assert isinstance(emitted, GpuEmitted)
    for found, wanted in zip(run(emitted, region, arrays), expected(region, arrays), strict=True):
        compare(found, wanted, region)


def compare(found: np.ndarray, wanted: np.ndarray, region: Region) -> None:
    """Elementwise, relative to the largest element; 16-bit floats as far as they round."""
    if not region.out.dtype.is_float:
        np.testing.assert_array_equal(found, wanted)
        return
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    scale = max(1e-30, float(np.max(np.abs(np.where(np.isfinite(b), b, 0)), initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=TOLERANCE[region.out.dtype.name], atol=TOLERANCE[region.out.dtype.name] * scale, err_msg=region.signature())

