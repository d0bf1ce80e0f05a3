"""Running an engine on an NVIDIA GPU from Python: numpy in and out, or memory of the device.

The steps are captured in one CUDA graph; a run launches it. Where the processor has steps of its own, there is a graph per part, see
``gpu_host.py``. Weights lie on the device once per session; every context has a stream, an arena and
buffers of inputs and outputs of its own, so contexts run concurrently.
"""

from __future__ import annotations

import ctypes
import json
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from strop.engine.cubins import PREFIX, GpuKernel, decode
from strop.engine.format import EngineFile, SectionKind, Source
from strop.engine.library_calls import ALIGNED, WORKSPACE
from strop.engine.parts import ENGINE, PARTS, Part, Shared, decode_parts
from strop.engine.plan import Arg, Plan, Space, Step, Tensor, decode_plan
from strop.errors import EngineFileError, InputError, TargetError
from strop.ir.dtype import DType
from strop.runtime import dlpack
from strop.runtime.arena_pool import ArenaPool
from strop.runtime.context import MemoryFigures, StepInfo, StepTime
from strop.runtime.gpu_driver import Device, device
from strop.runtime.gpu_host import Crossing, HostSide, trimmed, unfit
from strop.runtime.gpu_libraries import Ready, ready
from strop.runtime.ports import Array, Port, TensorInfo, check_names, list_of
from strop.runtime.session import Session

#: Runs of a step that one measurement times.
_REPEATS = 20


class DeviceArray:
    """Memory of the device that an input or output lies in. CuPy, PyTorch, JAX and Numba take it by ``__dlpack__`` or
    ``__cuda_array_interface__`` without a copy; ``__dlpack__`` waits for the context's runs first.

    Attributes:
        pointer: device address.
    """

    def __init__(self, pointer: int, shape: tuple[int, ...], dtype: DType, owner: object, wait: Callable[[], None]) -> None:
        self.pointer, self.shape, self.dtype = pointer, shape, dtype
        self._owner, self._wait = owner, wait

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0

    def __dlpack__(self, *, stream: object = None, **_: object) -> object:
        return dlpack.capsule(self.pointer, self.shape, self.dtype, self._owner, wait=self._wait)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        kind = "<V2" if self.dtype.name == "bf16" else self.dtype.numpy.str
        return {"shape": self.shape, "typestr": kind, "data": (self.pointer, False), "strides": None, "version": 3}


@dataclass(frozen=True)
class _Shared:
    """What the contexts of a session share."""

    device: Device
    plan: Plan
    kernels: tuple[GpuKernel, ...]
    functions: tuple[tuple[Any, int, int], ...]  # function, shared bytes, warps
    libraries: Mapping[int, Ready]  # by number of the kernel
    weights: int
    where: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    host: Session | None  # of the processor's side
    parts: Shared


class GpuSession:
    """A loaded engine; the same face as ``strop.runtime.session.Session``.

    Attributes:
        where, inputs, outputs, steps, target, isa: as there.
    """

    def __init__(self, source: Source, *, threads: int | None = None) -> None:
        """Loads an engine; ``threads`` are those of what the processor does.

        Raises:
            EngineFileError: truncated, corrupt or of another version.
            TargetError: no GPU, or none of the capability that the code is for; or a library that steps are calls of is not here.
        """
        file = EngineFile(source)
        self.where = file.where
        entry = next(e for e in file.sections if e.kind == SectionKind.KERNELS and e.name.startswith(PREFIX))
        self.target: str = entry.name
        self.isa = "triton"
        found = device()
        _check_capability(entry.name, found, file.where)
        weights = _section(file, SectionKind.WEIGHTS)
        plan = decode_plan(_section(file, SectionKind.PLAN), len(weights))
        codes, kernels = decode(file.read(entry).tobytes())
        loaded = [found.function(c.data, c.function, c.shared) for c in codes]
        functions = tuple((f, c.shared, c.warps) for (_, f), c in zip(loaded, codes, strict=True))
        libraries = _libraries(plan, kernels, file.where)
        _check_resident(found, kernels, functions, file.where)
        address = found.allocate(len(weights))
        if len(weights):
            found.to_device(address, weights.ctypes.data, len(weights))
        host, parts = _host_of(file, plan, threads)
        sides = (plan.inputs, plan.outputs)
        self.inputs, self.outputs = (tuple(map(_info, tensors)) for tensors in sides) if host is None else (host.inputs, host.outputs)
        self.steps = tuple(StepInfo(s.name, s.kernel, s.n_tasks, s.grain) for s in plan.steps)
        self._shared = _Shared(found, plan, kernels, functions, libraries, address, file.where, self.inputs, self.outputs, host, parts)
        self._manifest = file.text(SectionKind.MANIFEST)
        self.graph_text = file.text(SectionKind.GRAPH)
        self._weights = len(weights)
        self._local = threading.local()
        weakref.finalize(self, _unload, found, address, [module for module, _ in loaded], list(libraries.values()))

    @property
    def manifest(self) -> dict[str, Any]:
        """What the build recorded about the engine."""
        found: dict[str, Any] = json.loads(self._manifest)
        return found

    @property
    def memory(self) -> MemoryFigures:
        """Bytes of the device's memory that the engine and a context take."""
        return MemoryFigures(self._weights, self._shared.plan.arena_bytes, self._shared.plan.scratch_bytes)

    def context(self, *, threads: int | None = None, arenas: ArenaPool | None = None) -> GpuContext:
        """A context of its own; ``threads`` and ``arenas``, of the host's, mean nothing here."""
        with self._shared.device.making:
            return GpuContext(self._shared, self)

    def _context(self) -> GpuContext:
        try:
            context: GpuContext = self._local.context
        except AttributeError:
            context = self._local.context = self.context()
        return context

    def close(self) -> None:
        """Give the contexts of plain calls back. Contexts that context() made stay usable."""
        self._local = threading.local()

    def __call__(self, *inputs: ArrayLike) -> Array | tuple[Array, ...]:
        """Runs on positional inputs."""
        return self._context()(*inputs)

    def run(self, inputs: Mapping[str, ArrayLike], *, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Runs on named inputs; see GpuContext.run."""
        return self._context().run(inputs, out=out)

    def profile(self, inputs: Mapping[str, ArrayLike], *, runs: int = 10) -> tuple[StepTime, ...]:
        """The time of every step; see GpuContext.profile."""
        return self._context().profile(inputs, runs=runs)


class GpuContext:
    """Memory and a stream to run an engine with. One thread may use it at a time.

    Attributes:
        threads: always 1: of the host's threads.
        stream: the CUDA stream of its runs.
        device_inputs, device_outputs: by name, the device's memory that a run reads and writes.
    """

    def __init__(self, shared: _Shared, session: object) -> None:
        gpu, plan = shared.device, shared.plan
        gpu.use()
        self._shared, self._session = shared, session
        self.threads = 1
        self._inputs = [Port(tensor, "input", shared.where) for tensor in shared.inputs]
        self._outputs = [Port(tensor, "output", shared.where) for tensor in shared.outputs]
        locks = max((k.locks for k in shared.kernels), default=0)
        sizes = [plan.arena_bytes, plan.scratch_bytes, 4 * locks, *(t.n_bytes for t in (*plan.inputs, *plan.outputs))]
        self._memory = [gpu.allocate(size) for size in sizes]
        self._arena, self._work, self._locks, *ports = self._memory
        self._ports = ports
        self._pins = [gpu.pinned(t.n_bytes) for t in (*plan.inputs, *plan.outputs)]
        count = len(plan.inputs)
        self.stream = gpu.stream()
        self.device_inputs = self._arrays(plan.inputs, ports[:count])
        self.device_outputs = self._arrays(plan.outputs, ports[count:])
        self._begin_libraries()
        self._host = [_over(pin, t) for pin, t in zip(self._pins, (*plan.inputs, *plan.outputs), strict=True)]
        self._side = None if shared.host is None else self._host_side(shared.host)
        self._graph = None if self._side is not None else self._capture(plan.steps)
        self._finalizer = weakref.finalize(self, _release, gpu, self._memory, self._pins, self.stream, self._graph, self._side)

    def _begin_libraries(self) -> None:
        """Makes every library's call once: what a library loads or sets up then, it may not while launches are captured. No run has begun, so
        that nothing is lost by what the calls write."""
        for step in self._shared.plan.steps:
            if step.n_tasks and step.kernel in self._shared.libraries:
                self._enqueue(step)
        if self._shared.libraries:
            self._shared.device.call("cuStreamSynchronize", self.stream)

    def _host_side(self, session: Session) -> HostSide:
        """The processor's side over the pinned arrays."""
        plan, count = self._shared.plan, len(self._inputs)
        side = HostSide(self._shared.device, self.stream, session, self._shared.parts)
        for index, (port, room) in enumerate(zip(self._outputs, side.rooms(), strict=True), count):
            if prod(room) != self._host[index].size:
                raise unfit(self._shared.where, f"{port.text} of {prod(room)} elements on the processor")
            self._host[index] = self._host[index].reshape(room)
            port.room = room[0] if port.computed else 0
        arrays = {port.name: array for port, array in zip(self._inputs, self._host, strict=False)}
        results = {port.name: array for port, array in zip(self._outputs, self._host[count:], strict=True)}
        graphs = [self._capture(plan.steps[part.first : part.end]) for part in self._shared.parts.parts]
        side.prepare(graphs, [self._crossing(part) for part in self._shared.parts.parts], arrays, results)
        return side

    def _crossing(self, part: Part) -> Crossing:
        """Device addresses and bytes of what a part is brought, and of what is fetched."""
        brought, fetched = ([(self._address(arg), arg.size) for arg in args] for args in (part.brought, part.fetched))
        return brought, fetched

    def _arrays(self, tensors: Sequence[Tensor], pointers: Sequence[int]) -> dict[str, DeviceArray]:
        gpu, stream = self._shared.device, self.stream

        def wait() -> None:
            gpu.use()
            gpu.call("cuStreamSynchronize", stream)

        return {t.name: DeviceArray(p, t.shape, t.dtype, self._memory, wait) for t, p in zip(tensors, pointers, strict=True)}

    @property
    def memory(self) -> MemoryFigures:
        """Bytes on the device."""
        plan = self._shared.plan
        return MemoryFigures(0, plan.arena_bytes, plan.scratch_bytes)

    # ---- running

    def launch(self) -> None:
        """Starts a run on what ``device_inputs`` hold; results are in ``device_outputs`` when the stream gets there. Where the processor has steps
        of its own, they are over when this returns."""
        gpu = self._shared.device
        gpu.use()  # the calling thread may be new to the device
        for index in self._shared.parts.inputs:
            gpu.to_host(self._pins[index], self._ports[index], self._host[index].nbytes, self.stream)
        self._go()

    def _go(self) -> None:
        """Starts a run on inputs that are where they are read."""
        gpu = self._shared.device
        if self._side is None:
            gpu.call("cuGraphLaunch", self._graph, self.stream)
            return
        gpu.call("cuStreamSynchronize", self.stream)
        self._side.run()
        count = len(self._inputs)
        for index in self._shared.parts.outputs:
            gpu.to_device(self._ports[count + index], self._pins[count + index], self._host[count + index].nbytes, self.stream)

    def synchronize(self) -> None:
        """Waits until everything on the context's stream is done."""
        self._shared.device.use()
        self._shared.device.call("cuStreamSynchronize", self.stream)

    def __call__(self, *inputs: ArrayLike) -> Array | tuple[Array, ...]:
        """Runs on positional inputs; one array, or a tuple when there are several outputs."""
        if len(inputs) != len(self._inputs):
            raise InputError(
                "wrong number of inputs", where=self._shared.where, got=len(inputs), expected=f"{len(self._inputs)}: {list_of(self._inputs)}"
            )
        outputs = self._run(inputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, inputs: Mapping[str, ArrayLike], *, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Runs on named inputs and returns named outputs.

        Args:
            inputs: an array per input: numpy's, or one in the device's memory, with ``__dlpack__`` or ``__cuda_array_interface__``, which is copied
                there. Row-major without gaps.
            out: arrays to write outputs to: numpy's, or such ones in the device's memory. Outputs that are not in it are new numpy arrays.

        Raises:
            InputError: a name, dtype or shape is wrong.
        """
        check_names(inputs, self._inputs, self._shared.where)
        check_names(out or {}, self._outputs, self._shared.where)
        arrays: dict[str, Any] = dict(inputs)
        given: dict[str, Any] = dict(out or {})
        self._start([port.given(arrays) for port in self._inputs])
        return self._finish(given)

    def _run(self, inputs: Sequence[Any]) -> list[Array]:
        self._start(inputs)
        return list(self._finish({}).values())

    def _start(self, inputs: Sequence[Any]) -> None:
        """Brings inputs to where the graph reads them, and launches it."""
        gpu = self._shared.device
        gpu.use()
        self._kept: list[object] = []
        for index, (port, value, host, pin, pointer) in enumerate(zip(self._inputs, inputs, self._host, self._pins, self._ports, strict=False)):
            if dlpack.on_device(value):
                gpu.within(pointer, self._taken(port, value), host.nbytes, self.stream)
                if index in self._shared.parts.inputs:
                    gpu.to_host(pin, pointer, host.nbytes, self.stream)
            else:
                host[...] = port.adapt(value)
                gpu.to_device(pointer, pin, host.nbytes, self.stream)
        self._go()

    def _finish(self, out: Mapping[str, Any]) -> dict[str, Any]:
        """Brings outputs to where they are wanted, and waits for them."""
        gpu, count = self._shared.device, len(self._inputs)
        found: dict[str, Any] = {}
        rows = list(zip(self._outputs, self._host[count:], self._pins[count:], self._ports[count:], strict=True))
        for index, (port, host, pin, pointer) in enumerate(rows):
            wanted = out.get(port.name)
            if wanted is not None and dlpack.on_device(wanted):
                gpu.within(self._taken(port, wanted), pointer, host.nbytes, self.stream)
                continue
            if wanted is not None:
                port.check_output(wanted, [])
            if index not in self._shared.parts.outputs:
                gpu.to_host(pin, pointer, host.nbytes, self.stream)
        self.synchronize()
        self._kept.clear()
        shapes = {} if self._side is None else self._side.shapes()
        for port, host, _, _ in rows:
            wanted = out.get(port.name)
            if wanted is not None and not dlpack.on_device(wanted):
                wanted[...] = host
            result = host.copy() if wanted is None else wanted
            found[port.name] = trimmed(result, shapes[port.name]) if port.computed and not dlpack.on_device(result) else result
        return found

    def _taken(self, port: Port, value: Any) -> int:
        """Address of an array of another library in the device's memory; kept until the run is over."""
        seen = dlpack.view(value, int(self.stream))
        self._kept.append(seen)
        if seen.dtype is None or seen.dtype.numpy != port.dtype or seen.shape != port.shape or not seen.is_dense:
            raise InputError(
                f"{port.role} '{port.name}' does not fit", where=self._shared.where,
                got=f"device memory of {seen.dtype}{list(seen.shape)}, strides {seen.strides or 'row-major'}", expected=f"{port.text}, row-major without gaps",
                hint="x.contiguous() of PyTorch makes such an array",
            )  # fmt: skip
        return seen.pointer

    # ---- launches

    def _pointers(self, step: Step, kernel: GpuKernel) -> list[int]:
        found = [self._address(arg) for arg in step.args]
        return found + [self._work] * (kernel.workspace > 0) + [self._locks] * (kernel.locks > 0)

    def _address(self, arg: Arg) -> int:
        """Where an operand lies on the device."""
        starts = {Space.ARENA: self._arena, Space.WEIGHTS: self._shared.weights}
        start = starts.get(arg.space)
        if start is None:
            start = self._ports[arg.index + (0 if arg.space == Space.INPUT else len(self._inputs))]
        return start + arg.offset

    def _enqueue(self, step: Step) -> None:
        kernel = self._shared.kernels[step.kernel]
        pointers = self._pointers(step, kernel)
        call = self._shared.libraries.get(step.kernel)
        if call is not None:
            call.enqueue(pointers, int(self.stream))
        for number, grid in kernel.calls:
            function, shared, warps = self._shared.functions[number]
            self._shared.device.launch(function, grid, warps, shared, self.stream, pointers, kernel.cooperative)

    def _capture(self, steps: Sequence[Step], repeats: int = 1) -> Any:
        gpu = self._shared.device
        gpu.begin_capture(self.stream)
        try:
            for _ in range(repeats):
                for step in steps:
                    if step.n_tasks:
                        self._enqueue(step)
        finally:
            graph = gpu.end_capture(self.stream)
        return graph

    # ---- time

    def profile(self, inputs: Mapping[str, ArrayLike] | None = None, *, runs: int = 10) -> tuple[StepTime, ...]:
        """The time of every step: the least mean over 20 launches of it in a row, of ``runs`` measurements; of the processor's steps the least
        time in ``runs`` runs."""
        if inputs is not None:
            self.run(inputs)
        gpu = self._shared.device
        found = []
        hosts = self._host_times(runs)
        for index, step in enumerate(self._shared.plan.steps):
            if index in hosts:
                found.append(StepTime(step.name, hosts[index]))
                continue
            with gpu.making:
                graph = self._capture([step], _REPEATS)
            best = min(self.time(graph) for _ in range(max(1, min(runs, 5))))
            gpu.call("cuGraphExecDestroy", graph)
            found.append(StepTime(step.name, round(best / _REPEATS * 1e9)))
        return tuple(found)

    def _host_times(self, runs: int) -> dict[int, int]:
        """Nanoseconds of the processor's steps, by number."""
        if self._side is None:
            return {}
        parts = self._shared.parts.parts
        called = {part.first for part in parts}
        inside = {index for part in parts for index in range(part.first + 1, part.end)}
        order = [index for index in range(len(self._shared.plan.steps)) if index not in inside]
        times = self._side.profile(runs)
        return {index: time.nanoseconds for index, time in zip(order, times, strict=True) if index not in called}

    def time(self, graph: Any = None, repeats: int = 1) -> float:
        """Seconds on the device of ``repeats`` launches of a graph in a row, by default of the network."""
        gpu = self._shared.device
        gpu.use()
        begin, end = gpu.event(), gpu.event()
        gpu.call("cuEventRecord", begin, self.stream)
        for _ in range(repeats):
            if graph is None:
                self._go()
            else:
                gpu.call("cuGraphLaunch", graph, self.stream)
        gpu.call("cuEventRecord", end, self.stream)
        gpu.call("cuEventSynchronize", end)
        seconds = gpu.call("cuEventElapsedTime", begin, end) / 1e3
        for event in (begin, end):
            gpu.call("cuEventDestroy", event)
        return float(seconds)

    def close(self) -> None:
        """Gives memory and stream back."""
        self._finalizer()


def _check_capability(name: str, found: Device, where: str) -> None:
    """Refuses code for another capability."""
    wanted = name.removeprefix(f"{PREFIX}sm_")
    if wanted != str(found.capability):
        raise TargetError(
            "the engine's code is for GPUs of another compute capability", where=where, got=f"{found.name}, capability {found.capability}",
            expected=f"capability {wanted}", hint=f"build with --target {PREFIX}sm_{found.capability}",
        )  # fmt: skip


def _check_resident(found: Device, kernels: Sequence[GpuKernel], functions: Sequence[tuple[Any, int, int]], where: str) -> None:
    """Refuses kernels whose programs wait for each other where not all of them run at once."""
    for number, (x, y, z) in (call for kernel in kernels if kernel.cooperative for call in kernel.calls):
        function, shared, warps = functions[number]
        most = found.resident(function, warps, shared)
        if x * y * z > most:
            raise TargetError(
                "a kernel's programs wait for each other, and this GPU does not run all of them at once", where=where,
                got=f"{found.name}: {most} programs at once", expected=f"{x * y * z} programs at once",
                hint="run it on a whole GPU: a slice of one (MIG) has fewer multiprocessors",
            )  # fmt: skip


def _host_of(file: EngineFile, plan: Plan, threads: int | None) -> tuple[Session | None, Shared]:
    """The processor's side of an engine and what the two share; nothing where the GPU does it all."""
    entry, parts = file.find(SectionKind.HOST, ENGINE), file.find(SectionKind.HOST, PARTS)
    if entry is None or parts is None:
        return None, Shared((), (), ())
    host = Session(file.read(entry).data, threads=threads)
    for ours, theirs in ((plan.inputs, host.inputs), (plan.outputs, host.outputs)):
        got = [(t.name, t.dtype, t.shape) for t in theirs if not t.is_computed]
        known = [(t.name, t.dtype, t.shape) for t, other in zip(ours, theirs) if not other.is_computed]
        if got != known or [t.name for t in ours] != [t.name for t in theirs] or any(t.is_dynamic and not t.is_computed for t in theirs):
            raise unfit(file.where, f"{'; '.join(map(str, theirs))} on the processor")
    return host, decode_parts(file.read(parts).tobytes(), plan)


def _libraries(plan: Plan, kernels: Sequence[GpuKernel], where: str) -> dict[int, Ready]:
    """The libraries' calls of an engine, ready to be made; EngineFileError where a step's operands are smaller than its call says, or lie elsewhere."""
    found: dict[int, Ready] = {}
    for step in plan.steps:
        call = kernels[step.kernel].library if step.n_tasks and step.kernel < len(kernels) else None
        if call is None:
            continue
        wanted, given = [call.operands[name].reach for name in call.names], [arg.size for arg in step.args]
        fits = len(wanted) == len(given) and all(a <= b for a, b in zip(wanted, given, strict=True)) and plan.scratch_bytes >= WORKSPACE
        if not fits or any(arg.offset % ALIGNED for arg in step.args):
            raise EngineFileError(
                "a step's operands do not fit the library's call", where=f"{where}, step '{step.name}'", got=f"{given} bytes, {plan.scratch_bytes} to work with",
                expected=f"{wanted} bytes at multiples of {ALIGNED}, {WORKSPACE} to work with",
                hint="build the engine again",
            )  # fmt: skip
        if step.kernel not in found:
            found[step.kernel] = ready(call, step.name, where)
    return found


def _section(file: EngineFile, kind: SectionKind) -> Any:
    entry = file.find(kind)
    assert entry is not None  # an engine has one of each
    return file.read(entry)


def _info(tensor: Tensor) -> TensorInfo:
    return TensorInfo(tensor.name, tensor.dtype, tensor.shape)


def _over(address: int, tensor: Tensor) -> Array:
    """An array over host memory."""
    raw = np.ctypeslib.as_array((ctypes.c_uint8 * tensor.n_bytes).from_address(address))
    found: Array = raw.view(tensor.dtype.numpy).reshape(tensor.shape)
    return found


def _unload(gpu: Device, weights: int, modules: Sequence[Any], libraries: Sequence[Ready]) -> None:
    _free(gpu, [weights])
    for call in libraries:
        call.close()
    for module in modules:
        gpu.call("cuModuleUnload", module)


def _free(gpu: Device, pointers: Sequence[int]) -> None:
    gpu.use()
    for pointer in pointers:
        gpu.free(pointer)


def _release(gpu: Device, memory: Sequence[int], pins: Sequence[int], stream: Any, graph: Any, side: HostSide | None) -> None:
    gpu.use()
    gpu.call("cuStreamSynchronize", stream)
    if side is None:
        gpu.call("cuGraphExecDestroy", graph)
    else:
        side.close()
    _free(gpu, memory)
    for pin in pins:
        gpu.unpin(pin)
    gpu.call("cuStreamDestroy", stream)


