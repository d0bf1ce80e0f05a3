"""Measures candidates on the GPU of this machine.

Machine code of a batch of candidates is made by child processes; each candidate is then timed alone as a graph of many launches of it, its weights
taken from several places in turn where a network's do not stay in the cache. The fastest is compared with the oracle, or, where that
takes too long, with the results of another candidate; a wrong one is never chosen. First come candidates of different shapes, by estimate, then the
neighbours of the fastest of them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from strop.codegen.triton import Cubin, compile_all, jobs_of
from strop.errors import RuntimeFailure, StropError
from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels import oracle
from strop.kernels.base import Candidate, In, Operand, Out, Packed, Region, View
from strop.kernels.triton.emit import GpuEmitted
from strop.ops.conv import Conv
from strop.ops.integer import FACTORS
from strop.ops.matmul import MatMul
from strop.runtime.gpu_driver import Device, device
from strop.runtime.gpu_libraries import Ready, ready
from strop.runtime.gpu_library_files import NoAlgorithm
from strop.target.base import Target
from strop.target.cuda import capability

#: Level: candidates of a region that are measured.
DEPTHS: dict[int, int | None] = {1: 4, 2: 8, 3: 12, 4: 24, 5: None}
#: Seconds that a measurement is meant to take on the device, and the fewest and most launches of it.
_SPAN, _FEWEST, _MOST = 250e-6, 4, 64
#: Operations up to which results are compared with the oracle.
_CHECKED = 4e8
#: Bytes that copies of a candidate's weights shall fill, more than the second-level cache.
_SPREAD = 100 << 20
#: Regions whose candidates are compiled together.
_TOGETHER = 12
#: Depth from which on the neighbours of the fastest are measured, too.
_THOROUGH = 12


@dataclass(eq=False)
class Task:
    """A region to measure.

    Attributes:
        candidates: by estimate, the best first.
        found: nanoseconds or a verdict by label, what is known already included.
    """

    region: Region
    candidates: list[Candidate]
    found: dict[str, int | str] = field(default_factory=dict)

    def first(self, depth: int | None) -> list[Candidate]:
        """Those of different shapes, by estimate."""
        shapes: dict[tuple[object, ...], Candidate] = {}
        for candidate in (c for c in self.candidates if c.kernel.estimated):
            shapes.setdefault(_shape(candidate), candidate)
        chosen = list(shapes.values())[:depth] if depth is not None else [c for c in self.candidates if c.kernel.estimated]
        calls = self.calls(depth)
        compared = self._own() if calls else []
        return [*compared, *(c for c in chosen if c.label not in self.found and c not in compared), *calls]

    def calls(self, depth: int | None) -> list[Candidate]:
        """Calls of libraries that are not known yet: of each kernel as many as other candidates are measured at all."""
        ranked: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            if not candidate.kernel.estimated:
                ranked.setdefault(candidate.kernel.name, []).append(candidate)
        return [c for row in ranked.values() for c in row[:depth] if c.label not in self.found]

    def _own(self) -> list[Candidate]:
        """The kernel of Strop's that calls of libraries are compared with: the fastest known, or the estimate's favourite."""
        own = [c for c in self.candidates if c.kernel.estimated and not isinstance(self.found.get(c.label), str)]
        known = [(ns, k) for k, c in enumerate(own) if isinstance(ns := self.found.get(c.label), int)]
        return [own[min(known)[1]]] if known else own[:1]

    def neighbours(self, depth: int | None) -> list[Candidate]:
        """Those that differ from one of the fastest two in one parameter, or in warps and stages."""
        ranked = sorted((ns, k) for k, c in enumerate(self.candidates) if isinstance(ns := self.found.get(c.label), int))
        best = [self.candidates[k] for _, k in ranked[:2]]
        near = [c for c in self.candidates if c.kernel.estimated and c.label not in self.found and any(_near(c, b) for b in best)]
        return near[: None if depth is None else max(4, depth // 2)]


def _values(candidate: Candidate) -> dict[str, object]:
    return {} if candidate.params is None else vars(candidate.params)


def _shape(candidate: Candidate) -> tuple[object, ...]:
    return (candidate.kernel.name, *(v for k, v in _values(candidate).items() if k not in ("warps", "stages")))


def _near(a: Candidate, b: Candidate) -> bool:
    if a.kernel is not b.kernel:
        return False
    first, second = _values(a), _values(b)
    differ = {k for k in {*first, *second} if first.get(k) != second.get(k)}
    return len(differ) == 1 or differ == {"warps", "stages"}


def runs_here(target: Target) -> bool:
    """Whether this machine has a GPU of the target's capability, and the packages that drive it."""
    try:
        return device().capability == capability(target)
    except StropError:
        return False


def model() -> str:
    """The GPU's name in one word."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", device().name).strip("-")


def measure(
    tasks: Sequence[Task], target: Target, depth: int | None, seconds: float, cold: bool, report: Callable[[Task, Candidate, int | str, str], None]
) -> int:
    """Measures for about so many seconds; returns how many tasks were left. While some candidates are timed, the next ones are compiled.

    Args:
        cold: whether weights come from memory in the network, and not from the cache.
        depth: candidates per task, None for all; neighbours follow from depth 12 on.
        report: told each result: nanoseconds, or a verdict and why.
    """
    deadline = time.monotonic() + seconds
    if seconds <= 0:
        return len(tasks)
    gpu, done = _Gpu(target, cold), 0
    passes = (Task.first, Task.neighbours) if depth is None or depth >= _THOROUGH else (Task.first,)
    with ThreadPoolExecutor(max_workers=1) as pool:
        for choose in passes:
            batches = [tasks[k : k + _TOGETHER] for k in range(0, len(tasks), _TOGETHER)]
            ready = [pool.submit(_compiled, batches[0], choose, depth, target)] if batches else []
            for number in range(len(batches)):
                found = ready[number].result()
                if number + 1 < len(batches):
                    ready.append(pool.submit(_compiled, batches[number + 1], choose, depth, target))
                for task, candidates in found:
                    if time.monotonic() > deadline:
                        return len(tasks) - done
                    gpu.run(task, candidates, report)
                    done += choose is passes[-1]
    return len(tasks) - done


#: A candidate, its code as text and as machine code, or why there is none.
_Ready = tuple[Candidate, GpuEmitted, list["Cubin | str"]]


def _compiled(tasks: Sequence[Task], choose: Callable[[Task, int | None], list[Candidate]], depth: int | None, target: Target) -> list[tuple[Task, list[_Ready]]]:
    """The candidates that are to be timed, compiled together."""
    emitted = [(task, [(c, e) for c in choose(task, depth) if isinstance(e := c.emit(task.region, target), GpuEmitted)]) for task in tasks]
    jobs = {id(e): jobs_of(e, [True] * len(e.pointers), "tune", target) for _, row in emitted for _, e in row}
    flat = [job for one in jobs.values() for job in one]
    code = dict(zip((job.key for job in flat), compile_all(flat), strict=True))
    return [(task, [(c, e, [code[job.key] for job in jobs[id(e)]]) for c, e in row]) for task, row in emitted]


class _Gpu:
    def __init__(self, target: Target, cold: bool) -> None:
        self.target, self.cold = target, cold
        self.gpu: Device = device()
        self.stream = self.gpu.stream()
        self.rng = np.random.default_rng(5)
        self.numbers = self.rng.standard_normal(1 << 20, np.float32)

    def run(self, task: Task, candidates: Sequence[_Ready], report: Callable[[Task, Candidate, int | str, str], None]) -> None:
        """Times candidates and checks the fastest."""
        if not candidates:
            return
        bench = _Region(self, task.region)
        try:
            for candidate, emitted, code in candidates:
                try:
                    result, why = bench.timed(candidate.label, emitted, code)
                except NoAlgorithm:
                    continue  # the library has nothing more to offer
                task.found[candidate.label] = result
                report(task, candidate, result, why)
            for label, why in bench.wrong(task):
                task.found[label] = "wrong"
                report(task, next(c for c, *_ in candidates if c.label == label), "wrong", why)
        finally:
            bench.close()


@dataclass
class _Loaded:
    emitted: GpuEmitted
    functions: list[tuple[Any, Any, int, int]]
    call: Ready | None


class _Region:
    """Operands of a region on the device, and the candidates that were timed on them."""

    def __init__(self, owner: _Gpu, region: Region) -> None:
        self.owner, self.gpu, self.region = owner, owner.gpu, region
        self._memory: list[int] = []
        self._whole = oracle.work(region) <= _CHECKED
        self.arrays = oracle.random_operands(region, owner.rng) if self._whole else [None] * len(region.operands)
        self.ins = [None if o is None else self._upload(self._content(o, a)) for o, a in zip(region.operands, self.arrays, strict=True)]
        self.outs = [self._allocate(max(1, v.nbytes)) for v in region.outs]
        self._loaded: dict[str, _Loaded] = {}
        self._tolerant = _as_narrow(region, "tf32" in owner.target.extras)

    def _content(self, operand: Operand, array: Array | None) -> Array:
        """Memory of an operand: what the oracle is given, or for a large problem the same random numbers over and over."""
        view = operand.view
        if operand.const is not None:
            return np.ascontiguousarray(operand.const)
        if not self._whole and view.dtype in FACTORS:
            return np.resize(self.owner.numbers.view(view.dtype.numpy), max(1, view.span))
        if self._whole or not view.dtype.is_float:
            return _flat(view, array)
        return np.resize(self.owner.numbers.astype(view.dtype.numpy), max(1, view.span))

    def _allocate(self, size: int) -> int:
        pointer = self.gpu.allocate(size)
        self._memory.append(pointer)
        return pointer

    def _upload(self, array: Array) -> int:
        pointer = self._allocate(array.nbytes)
        self.gpu.to_device(pointer, array.ctypes.data, array.nbytes)
        return pointer

    def timed(self, label: str, emitted: GpuEmitted, code: Sequence[Cubin | str]) -> tuple[int | str, str]:
        """(nanoseconds or a verdict, why); NoAlgorithm where a library does not have what the candidate asks for."""
        functions, call = [], None
        kept = len(self._memory)
        try:
            for cubin in code:
                if isinstance(cubin, str):
                    return "broken", cubin
                module, function = self.gpu.function(cubin.code, cubin.function, cubin.shared)
                functions.append((module, function, cubin.shared, cubin.warps))
            if emitted.library is not None:
                call = ready(emitted.library, self.region.name, "tuning")
            loaded = self._loaded[label] = _Loaded(emitted, functions, call)
            weights = sum(p.array.nbytes for p in emitted.pointers if isinstance(p, Packed))
            copies = max(1, min(8, _SPREAD // max(1, weights))) if weights and self.owner.cold else 1
            sets = [self._pointers(emitted) for _ in range(copies)]
            if call is not None:
                self._launch(loaded, sets[0])  # what a library sets up at first may not be captured
                self.gpu.call("cuStreamSynchronize", self.owner.stream)
            once = self._graph(loaded, sets, 1)
            estimate = min(self._seconds(once) for _ in range(2))
            repeats = int(min(_MOST, max(_FEWEST, _SPAN / max(estimate, 1e-7))))
            graph = self._graph(loaded, sets, repeats)
            best = min(self._seconds(graph) for _ in range(3))
            for done in (once, graph):
                self.gpu.call("cuGraphExecDestroy", done)
            return max(1, round(best / repeats * 1e9)), ""
        except NoAlgorithm:
            raise
        except RuntimeFailure as error:
            return "broken", str(error)
        finally:
            self._release(kept)

    def _release(self, kept: int) -> None:
        for pointer in self._memory[kept:]:
            self.gpu.free(pointer)
        del self._memory[kept:]

    def _pointers(self, emitted: GpuEmitted) -> list[int]:
        found = []
        for pointer in emitted.pointers:
            if isinstance(pointer, Packed):
                found.append(self._upload(np.ascontiguousarray(pointer.array)))
            elif isinstance(pointer, In):
                address = self.ins[pointer.index]
                assert address is not None
                found.append(address)
            else:
                assert isinstance(pointer, Out)
                found.append(self.outs[pointer.index])
        found += [self._allocate(emitted.workspace)] if emitted.workspace else []
        return found + ([self._allocate(4 * emitted.locks)] if emitted.locks else [])

    def _launch(self, loaded: _Loaded, pointers: Sequence[int]) -> None:
        if loaded.call is not None:
            loaded.call.enqueue(pointers, int(self.owner.stream))
        for launch, (_, function, shared, warps) in zip(loaded.emitted.launches, loaded.functions, strict=True):
            self.gpu.launch(function, launch.grid, warps, shared, self.owner.stream, pointers, launch.cooperative)

    def _graph(self, loaded: _Loaded, sets: Sequence[Sequence[int]], repeats: int) -> Any:
        self.gpu.begin_capture(self.owner.stream)
        try:
            for number in range(repeats):
                self._launch(loaded, sets[number % len(sets)])
        finally:
            graph = self.gpu.end_capture(self.owner.stream)
        return graph

    def _seconds(self, graph: Any) -> float:
        gpu, stream = self.gpu, self.owner.stream
        begin, end = gpu.event(), gpu.event()
        gpu.call("cuEventRecord", begin, stream)
        gpu.call("cuGraphLaunch", graph, stream)
        gpu.call("cuEventRecord", end, stream)
        gpu.call("cuEventSynchronize", end)
        seconds = gpu.call("cuEventElapsedTime", begin, end) / 1e3
        for event in (begin, end):
            gpu.call("cuEventDestroy", event)
        return float(seconds)

    # ---- checking

    def wrong(self, task: Task) -> list[tuple[str, str]]:
        """(label, why) of the fastest candidates whose results are wrong, up to the first that is right."""
        ranked = sorted((ns, label) for label, ns in task.found.items() if isinstance(ns, int) and label in self._loaded)
        wanted = oracle.expected(self.region, self.arrays) if self._whole else None
        found = []
        for place, (_, label) in enumerate(ranked):
            results = self._results(label)
            if wanted is None:
                slower = [other for _, other in ranked[place + 1 :]]
                other = next((s for s in slower if _kernel(s) != _kernel(label)), slower[0] if slower else None)
                against = self._results(other) if other is not None else results
            else:
                against = wanted
            pairs = enumerate(zip(results, against, strict=True))
            problem = next(filter(None, (oracle.difference(self._tolerant, k, g, w) for k, (g, w) in pairs)), None)
            if problem is None:
                break
            found.append((label, problem))
        return found

    def _results(self, label: str) -> list[Array]:
        loaded, kept = self._loaded[label], len(self._memory)
        gpu, views = self.gpu, self.region.outs
        for pointer, view in zip(self.outs, views, strict=True):
            gpu.fill(pointer, 0xFF, max(1, view.nbytes))
        self._launch(loaded, self._pointers(loaded.emitted))
        gpu.call("cuStreamSynchronize", self.owner.stream)
        found = []
        for pointer, view in zip(self.outs, views, strict=True):
            flat = np.empty(max(1, view.span), view.dtype.numpy)
            gpu.to_host(flat.ctypes.data, pointer, flat.nbytes)
            found.append(as_strided(flat, view.shape, [s * view.dtype.size for s in view.strides]))
        self._release(kept)
        return found

    def close(self) -> None:
        """Gives everything back."""
        self._release(0)
        for loaded in self._loaded.values():
            for module, *_ in loaded.functions:
                self.gpu.call("cuModuleUnload", module)
            if loaded.call is not None:
                loaded.call.close()


def _kernel(label: str) -> str:
    return label.split("(")[0]


def _as_narrow(region: Region, tf32: bool = False) -> Region:
    """The region with f32 results as f16 where a factor is, as the oracle rounds the anchor's result before the epilogue widens it, or where factors are
    rounded to ``tf32``, which has as many bits of mantissa."""
    narrow = next((o.view.dtype for o in region.operands[: region.anchors] if o is not None and o.view.dtype.name in ("f16", "bf16")), None)
    if narrow is None and tf32 and isinstance(region.op, (Conv, MatMul)):
        narrow = dt.f16
    if narrow is None:
        return region
    return replace(region, outs=tuple(replace(v, dtype=narrow) if v.dtype.name == "f32" else v for v in region.outs))


def _flat(view: View, array: Array | None) -> Array:
    """Memory of a view that holds an array, zeros elsewhere."""
    flat = np.zeros(max(1, view.span), view.dtype.numpy)
    if array is not None and view.count:
        once = tuple(slice(0, 1) if s == 0 else slice(None) for s in view.strides)
        place = as_strided(flat, view.shape, [s * view.dtype.size for s in view.strides])
        place[once] = np.broadcast_to(array, view.shape)[once]
    return flat
