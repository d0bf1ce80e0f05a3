"""Compiles a kernel for a region, runs it on guarded buffers and compares it with the oracle."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from strop.codegen.c import Module
from strop.ir import dtype as dt
from strop.kernels.base import Candidate, Emitted, In, Kernel, Out, Packed, Region, View
from strop.kernels.oracle import expected
from strop.target.base import Target

GUARD = 64  # elements around every buffer that must stay untouched


class _Args(ctypes.Structure):
    _fields_ = [
        ("p", ctypes.POINTER(ctypes.c_void_p)),
        ("sym", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("thread", ctypes.c_int32),
        ("n_threads", ctypes.c_int32),
    ]


def strided(flat: np.ndarray, view: View, at: int = GUARD) -> np.ndarray:
    """The logical array of a view that starts ``at`` elements into a flat buffer."""
    return as_strided(flat[at:], view.shape, [s * view.dtype.size for s in view.strides])


def buffer_for(view: View, array: np.ndarray | None = None) -> np.ndarray:
    """A flat guarded buffer that holds ``array`` (broadcastable to the view)."""
    flat = np.empty(view.span + 2 * GUARD, view.dtype.numpy)
    flat.view(np.uint8)[:] = 0xA5
    if array is not None and view.count:
        target = strided(flat, view)
        if 0 in [s for s, d in zip(view.strides, view.shape) if d > 1]:
            flat_index = strided(np.arange(flat.size), View(view.shape, view.strides, dt.i64))
            flat[flat_index] = np.broadcast_to(array, view.shape)
        else:
            target[...] = array
    return flat


def results(region: Region, outs: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The logical results in guarded buffers; AssertionError when one has changed around its result since ``before``."""
    for flat, old, view in zip(outs, before, region.outs, strict=True):
        mask = np.ones(flat.size, bool)
        if view.count:
            strided(mask, View(view.shape, view.strides, dt.boolean))[...] = False
        same = flat.view(np.uint8).reshape(flat.size, -1) == old.view(np.uint8).reshape(flat.size, -1)
        assert same[mask].all(), f"{region.name}: wrote outside its result"
    return [strided(flat, view).copy() for flat, view in zip(outs, region.outs, strict=True)]


def compiled(emitted: Sequence[Emitted], target: Target) -> list[Any]:
    """Compiles kernels together; returns their functions in order."""
    module = Module(target)
    numbers = [module.add(e, "kernel()", "test") for e in emitted]
    library = ctypes.CDLL(str(module.compile()))
    table = (ctypes.c_void_p * len(module.functions)).in_dll(library, "strop_kernel_table")
    prototype = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Args), ctypes.c_int64, ctypes.c_int64)
    return [ctypes.cast(table[n], prototype) for n in numbers]


def execute(emitted: Emitted, region: Region, arrays: Sequence[np.ndarray | None], target: Target, splits: int = 1) -> list[np.ndarray]:
    """Compiles emitted code and runs it; ``splits`` cuts the tasks in that many calls."""
    return run(compiled([emitted], target)[0], emitted, region, arrays, splits)


def run(
    function: Any,
    emitted: Emitted,
    region: Region,
    arrays: Sequence[np.ndarray | None],
    splits: int = 1,
    overwrite: int | None = None,
    sizes: Sequence[int] = (),
) -> list[np.ndarray]:
    """Runs a compiled kernel on guarded buffers; the first result is put into operand ``overwrite``'s buffer when given;
    ``sizes`` is what the code reads as ``a->sym``.
    Raises AssertionError when a guard was written to."""
    ins: dict[int, np.ndarray] = {}
    for i, operand in enumerate(region.operands):
        if operand is not None:
            ins[i] = buffer_for(operand.view, operand.logical if operand.const is not None else arrays[i])
    outs = [buffer_for(view) for view in region.outs]
    if overwrite is not None:
        assert region.operand(overwrite).view == region.out
        outs[0] = ins[overwrite]
    untouched = [o.copy() for o in outs]
    kept: list[Any] = []
    pointers = (ctypes.c_void_p * max(1, len(emitted.pointers)))()
    for k, pointer in enumerate(emitted.pointers):
        if isinstance(pointer, In):
            flat = ins[pointer.index]
        elif isinstance(pointer, Out):
            flat = outs[pointer.index]
        else:
            assert isinstance(pointer, Packed)
            packed = np.ascontiguousarray(pointer.array)
            kept.append(packed)
            pointers[k] = packed.ctypes.data
            continue
        pointers[k] = flat.ctypes.data + GUARD * flat.itemsize
    scratch = np.full(emitted.scratch + 256, 0xFF, np.uint8)  # NaN to who reads before writing
    lead = -scratch.ctypes.data % 64
    known = (ctypes.c_int64 * max(1, len(sizes)))(*sizes)
    args = _Args(pointers, ctypes.addressof(known), scratch.ctypes.data + lead, 0, 1)
    for part in range(splits):
        function(ctypes.byref(args), emitted.tasks * part // splits, emitted.tasks * (part + 1) // splits)
    assert (scratch[lead + emitted.scratch :] == 0xFF).all(), f"{region.name}: wrote beyond its scratch"
    return results(region, outs, untouched)


def check(kernel: Kernel[Any], region: Region, arrays: Sequence[np.ndarray | None], target: Target, tolerance: float = 1e-4, every: bool = True) -> int:
    """Runs a kernel's whole space (or its first entry) on a region against the oracle; returns how many were checked."""
    return check_all(kernel, [(region, arrays)], target, tolerance, every)


def check_all(
    kernel: Kernel[Any],
    cases: Sequence[tuple[Region, Sequence[np.ndarray | None]]],
    target: Target,
    tolerance: float = 1e-4,
    every: bool = True,
) -> int:
    """``check`` on several regions whose code is compiled together."""
    work = []
    for number, (region, arrays) in enumerate(cases):
        assert kernel.accepts(region, target) is None, f"{region.name}: {kernel.accepts(region, target)}"
        space = kernel.space(region, target)
        assert space, f"{kernel.name} accepts {region.name} but offers nothing"
        for params in space if every else space[:1]:
            assert kernel.cost(region, params, target) > 0
            work.append((number, region, arrays, params, kernel.emit(region, params, target)))
    functions = compiled([emitted for *_, emitted in work], target)
    wanted: dict[int, list[np.ndarray]] = {}
    for (number, region, arrays, params, emitted), function in zip(work, functions):
        if number not in wanted:
            wanted[number] = expected(region, arrays)
        got = run(function, emitted, region, arrays, splits=2)
        for g, w in zip(got, wanted[number]):
            label = f"{Candidate(kernel, params).label} on {region.name} ({target})"
            assert_agree(g, w, tolerance, label)
    return len(work)


#: Rounding of the narrow floats, where it is coarser than the tolerance asked for.
_ROUNDING = {"f16": 4e-3, "bf16": 3e-2}


def assert_agree(got: np.ndarray, want: np.ndarray, tolerance: float, label: str) -> None:
    """Equal, or for floats within a tolerance relative to the element and to the largest finite element."""
    kind = dt.from_numpy(want.dtype)
    assert got.dtype == want.dtype and got.shape == want.shape, f"{label}: {got.dtype}{got.shape}, not {want.dtype}{want.shape}"
    if not kind.is_float:
        np.testing.assert_array_equal(got, want, err_msg=label)
        return
    wide = want.astype(np.float64)
    limit = max(tolerance, _ROUNDING.get(kind.name, 0.0))
    scale = max(1e-6, float(np.max(np.abs(wide[np.isfinite(wide)]), initial=0.0)))
    np.testing.assert_allclose(got.astype(np.float64), wide, rtol=limit, atol=limit * scale, err_msg=label)
