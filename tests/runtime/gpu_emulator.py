"""A CUDA driver that does on the host what the launches mean: the memory, the copies and the order are those of a GPU session, kernels are the oracle's."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from strop.codegen.triton import Cubin, GpuModule
from strop.engine import build as builder
from strop.engine.partition import assembler_of
from strop.engine.plan import Step as PlanStep
from strop.kernels.base import In, Out, Region, View
from strop.kernels.oracle import expected
from strop.lower import pipeline
from strop.lower.pipeline import Lowered
from strop.runtime import gpu_driver
from strop.runtime.gpu_session import GpuContext
from strop.target.cuda import is_gpu
from tests.runtime.test_gpu_session import FakeDriver


class Emulator(FakeDriver):
    """Knows the program of the engine that was built last; launching a graph computes its steps.

    Attributes:
        lowered: that program.
        crossed: bytes that were copied to the device and from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lowered: Lowered | None = None
        self.crossed = [0, 0]

    def cuGraphLaunch(self, graph, stream):  # noqa: N802
        self.runs.append(graph)
        assert self.lowered is not None
        for index, pointers in self.graphs[graph]:
            _compute(self.lowered, index, pointers)
        return 0, None

    def cuMemcpyHtoDAsync(self, target, source, size, stream):  # noqa: N802
        self.crossed[0] += size
        return self._copy(target, source, size)

    def cuMemcpyDtoHAsync(self, target, source, size, stream):  # noqa: N802
        self.crossed[1] += size
        return self._copy(target, source, size)


def _at(pointer: int, view: View) -> np.ndarray:
    """The view's elements where they lie."""
    memory: Any = (ctypes.c_char * max(1, view.nbytes)).from_address(pointer)
    strides = [s * view.dtype.size for s in view.strides]
    return np.ndarray(view.shape, view.dtype.numpy, memory, strides=strides)


def _compute(lowered: Lowered, index: int, pointers: list[int]) -> None:
    step = lowered.steps[index]
    assert step.host is None
    emitted = step.chosen.emit(step.region, lowered.target)
    arrays: list[np.ndarray | None] = [None] * len(step.region.operands)
    for kind, pointer in zip(emitted.pointers, pointers, strict=False):
        if isinstance(kind, In):
            operand = step.region.operand(kind.index)
            arrays[kind.index] = operand.logical if operand.const is not None else _at(pointer, operand.view).copy()
    for kind, pointer in zip(emitted.pointers, pointers, strict=False):
        if isinstance(kind, Out):
            view = step.region.outs[kind.index]
            _at(pointer, view)[...] = expected(step.region, arrays)[kind.index]


def install(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Engines for GPUs that are built and run from here on use the emulator."""
    driver = Emulator()
    monkeypatch.setattr(gpu_driver, "_driver", lambda: driver)
    monkeypatch.setattr(gpu_driver, "_DEVICES", {})

    def enqueue(self: GpuContext, step: PlanStep) -> None:
        index = next(k for k, other in enumerate(self._shared.plan.steps) if other is step)
        assert driver.recording is not None
        driver.recording.append((index, self._pointers(step, self._shared.kernels[step.kernel])))

    def keep(lowered: Lowered) -> Any:
        driver.lowered = lowered
        return assembler_of(lowered)

    monkeypatch.setattr(GpuContext, "_enqueue", enqueue)
    monkeypatch.setattr(GpuModule, "compile", lambda self, done=None: [Cubin(job.function, b"code", 0, 4) for job in self.jobs])
    monkeypatch.setattr(builder, "assembler_of", keep)
    return driver


def on_processor(monkeypatch: pytest.MonkeyPatch, chosen: Any) -> None:
    """Regions of which ``chosen(region)`` is true have no GPU kernel from here on."""
    candidates = pipeline._candidates

    def some(region: Region, target: Any, known: Any) -> Any:
        return [] if is_gpu(target) and chosen(region) else candidates(region, target, known)

    monkeypatch.setattr(pipeline, "_candidates", some)

