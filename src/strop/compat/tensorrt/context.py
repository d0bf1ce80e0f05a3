"""IExecutionContext: engines that run on addresses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from strop.compat.memory import array_at
from strop.compat.tensorrt import enums
from strop.compat.tensorrt.basics import FAILURES, Dims, Managed, failed
from strop.errors import InputError, StropError

#: Sets of addresses that a context keeps bound.
_MOST_BOUND = 64


class IOutputAllocator:
    """Gives memory for outputs whose sizes become known while running; subclasses override the methods."""

    def __init__(self) -> None:
        return None

    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        """Memory of at least so many bytes."""
        raise NotImplementedError("IOutputAllocator.reallocate_output must be overridden")

    def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
        """Likewise; what contexts call."""
        return self.reallocate_output(tensor_name, memory, size, alignment)

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        """Called with the shape of an output."""


class IExecutionContext(Managed):
    """Runs an engine on memory given by address."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.name = ""
        self.profiler: Any = None
        self.error_recorder: Any = None
        self.temporary_allocator: Any = None
        self.debug_sync = False
        self.enqueue_emits_profile = True
        self.persistent_cache_limit = 0
        self.nvtx_verbosity = enums.ProfilingVerbosity.LAYER_NAMES_ONLY
        self.active_optimization_profile = 0
        self.unfused_tensors_debug_state = False
        self.device_memory: Any = None
        self._source = engine.own
        self._context = engine.own.context()
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._consumed = 0
        self._listener: Any = None
        cut = int(engine.plan.implicit_batch)
        self._shapes = {t.name: tuple(t.shape[cut:]) for t in engine.own.inputs if not t.is_dynamic or cut}
        self._batch = engine.plan.max_batch
        self._bound: dict[tuple[int, ...], Any] = {}
        #: The call for the addresses that are set, where nothing but the call is to be done.
        self._ready: Any = None
        self._computed = [t.name for t in engine.own.outputs if t.is_computed]
        self._room: dict[str, np.ndarray[Any, Any]] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}

    # ---- shapes

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """Chooses the shape of an input; False when the engine does not serve it."""
        sizes = tuple(int(d) for d in shape)
        try:
            info = self.engine._info(name)
        except StropError as error:
            failed(self.engine.logger, error)
            return False
        low, high = info.least or info.shape, info.most or info.shape
        cut = int(self.engine.plan.implicit_batch)
        if len(sizes) != len(low) - cut or any(not a <= d <= b for a, d, b in zip(low[cut:], sizes, high[cut:])):
            failed(self.engine.logger, f"the shape {sizes} of {name} is not served; from {low[cut:]} to {high[cut:]} is")
            return False
        if self._shapes.get(name) != sizes:
            self._shapes[name] = sizes
            self._forget()
        return True

    def set_binding_shape(self, binding: int, shape: Sequence[int]) -> bool:
        """Chooses the shape of an input."""
        return self.set_input_shape(self.engine.names[binding], shape)

    def get_tensor_shape(self, name: str) -> Dims:
        """The shape under the input shapes that were chosen; -1 where these are missing, and where a run finds it and none has."""
        if self.engine.is_input(name):
            return Dims(self._shapes[name] if name in self._shapes else self.engine.get_tensor_shape(name))
        if self.infer_shapes():
            return Dims(self.engine.get_tensor_shape(name))
        if name in self._computed:
            return Dims(self._sizes.get(name) or self.engine.get_tensor_shape(name))
        return Dims(self._output_shapes()[name][int(self.engine.plan.implicit_batch) :])

    def get_binding_shape(self, binding: int) -> Dims:
        """The shape of an input or output."""
        return self.get_tensor_shape(self.engine.names[binding])

    def get_tensor_strides(self, name: str) -> Dims:
        """Row-major strides in elements."""
        shape = self.get_tensor_shape(name)
        return Dims([math.prod(shape[k + 1 :]) for k in range(len(shape))])

    def get_strides(self, binding: int) -> Dims:
        """Row-major strides in elements."""
        return self.get_tensor_strides(self.engine.names[binding])

    def infer_shapes(self) -> list[str]:
        """Names of inputs whose shape was not chosen."""
        return [t.name for t in self.engine.own.inputs if t.name not in self._shapes]

    all_binding_shapes_specified = property(lambda self: not self.infer_shapes())
    all_shape_inputs_specified = True

    def set_shape_input(self, binding: int, shape: Any) -> bool:
        """No input holds sizes."""
        return False

    def get_shape(self, binding: int) -> list[int]:
        """No input holds sizes."""
        return []

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """One set of kernels serves all profiles."""
        if not 0 <= profile_index < self.engine.num_optimization_profiles:
            return False
        self.active_optimization_profile = profile_index
        return True

    def _full(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self._batch, *shape) if self.engine.plan.implicit_batch else shape

    def _output_shapes(self) -> dict[str, tuple[int, ...]]:
        own = self._running()
        if any(t.is_dynamic for t in self.engine.own.inputs):
            found: dict[str, tuple[int, ...]] = own.resize({name: self._full(s) for name, s in self._shapes.items()})
            return found
        return {t.name: t.shape for t in self.engine.own.outputs}

    def _running(self) -> Any:
        """The context of the engine as it is now, which a refit may have changed."""
        if self._source is not self.engine.own:
            self._source, self._context = self.engine.own, self.engine.own.context()
        return self._context

    # ---- memory

    def set_tensor_address(self, name: str, memory: Any) -> bool:
        """Says where an input or output lies."""
        if name not in self.engine.tensors:
            failed(self.engine.logger, f"no input or output is called {name}")
            return False
        self._addresses[name] = int(memory)
        self._ready = None
        return True

    def get_tensor_address(self, name: str) -> int:
        """Where an input or output lies; 0 for nowhere."""
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        """Asks an allocator for an output's memory."""
        self._allocators[name] = output_allocator
        self._forget()
        return True

    def get_output_allocator(self, name: str) -> Any:
        """The allocator of an output."""
        return self._allocators.get(name)

    def get_max_output_size(self, name: str) -> int:
        """Bytes that an output takes at most."""
        info = self.engine._info(name)
        return int(math.prod(info.most or info.shape) * info.dtype.size)

    def set_device_memory(self, memory: int, size: int) -> None:
        """Contexts own their arena."""
        self.device_memory = memory

    def update_device_memory_size_for_shapes(self) -> int:
        """Bytes that the context takes."""
        return int(self.engine.device_memory_size_v2)

    def set_aux_streams(self, aux_streams: Any) -> None:
        """Without effect."""

    def set_input_consumed_event(self, event: int) -> bool:
        """Kept: inputs are consumed when the call returns."""
        self._consumed = event
        return True

    def get_input_consumed_event(self) -> int:
        """What was set."""
        return self._consumed

    # ---- running

    def execute_v2(self, bindings: Sequence[int]) -> bool:
        """Runs on addresses in the order of bindings."""
        return self._run(tuple(map(int, bindings)), self._batch)

    def execute(self, batch_size: int = 1, bindings: Sequence[int] = ()) -> bool:
        """Runs a batch of so many samples where it is implicit."""
        return self._run(tuple(map(int, bindings)), batch_size)

    def execute_async(self, batch_size: int = 1, bindings: Sequence[int] = (), stream_handle: int = 0, input_consumed: Any = None) -> bool:
        """As ``execute``; done when it returns."""
        return self.execute(batch_size, bindings)

    def execute_async_v2(self, bindings: Sequence[int], stream_handle: int = 0, input_consumed: Any = None) -> bool:
        """As ``execute_v2``; done when it returns."""
        return self.execute_v2(bindings)

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Runs on the addresses that were set; done when it returns."""
        if self._ready is not None and self._source is self.engine.own and self.profiler is None:
            try:
                self._ready()
                return True
            except FAILURES as error:
                return self._failed(error)
        return self._run(tuple(self._addresses.get(name, 0) for name in self.engine.names), self._batch, keep=True)

    def _run(self, addresses: tuple[int, ...], batch: int, *, keep: bool = False) -> bool:
        """Binds and runs; ``keep``: they are the addresses that were set, so that the call is the next one's too."""
        try:
            if self._source is not self.engine.own or batch != self._batch:
                self._forget()
            self._batch = batch
            call = self._bound.get(addresses)
            if call is None or self._allocators:
                call = self._bind(addresses)
            call()
            if self._computed:
                self._found()
            elif keep and not self._allocators:
                self._ready = call
            if self.profiler is not None and self.enqueue_emits_profile:
                self._report(addresses)
        except FAILURES as error:
            return self._failed(error)
        return True

    def _failed(self, error: Exception) -> bool:
        """Records and logs why a run failed."""
        if self.error_recorder is not None:
            self.error_recorder.report_error(enums.ErrorCodeTRT.FAILED_EXECUTION, str(error))
        failed(self.engine.logger, error)
        return False

    def _forget(self) -> None:
        """Nothing is bound any more: shapes, the batch or the engine are others."""
        self._bound.clear()
        self._ready = None

    def _bind(self, addresses: tuple[int, ...]) -> Any:
        """The call that runs on these addresses, kept for the next time."""
        plan, engine = self.engine.plan, self.engine
        if plan.implicit_batch and not 1 <= self._batch <= plan.max_batch:
            raise InputError("batch size out of range", got=self._batch, expected=f"1..{plan.max_batch}")
        missing = self.infer_shapes()
        if missing:
            raise InputError("the shape of an input was not chosen", got=", ".join(missing))
        where, shapes, out = dict(zip(engine.names, addresses)), self._output_shapes(), {}
        room = self._running().new_outputs() if self._computed else {}
        for info in engine.own.outputs:
            allocator = self._allocators.get(info.name)
            if info.is_computed and allocator is not None:
                out[info.name] = room[info.name]  # what is found is given to the allocator after the run
                continue
            if allocator is not None:
                size = math.prod(shapes[info.name]) * info.dtype.size
                where[info.name] = allocator.reallocate_output_async(info.name, where.get(info.name, 0), size, 64, 0)
                allocator.notify_shape(info.name, Dims(shapes[info.name]))
            out[info.name] = self._array(info, room[info.name].shape if info.is_computed else shapes[info.name], where)
        call = self._running().bind(self._inputs(where), out)
        self._room = {name: out[name] for name in self._computed}
        if len(self._bound) >= _MOST_BOUND:
            self._bound.clear()
        self._bound[addresses] = call
        return call

    def _found(self) -> None:
        """Gives allocators the outputs whose sizes the run has found."""
        shapes = self._running().output_shapes()
        for name in self._computed:
            self._sizes[name], allocator = shapes[name], self._allocators.get(name)
            if allocator is not None:
                values = self._room[name][: math.prod(shapes[name])]
                address = allocator.reallocate_output_async(name, self._addresses.get(name, 0), max(values.nbytes, 1), 64, 0)
                array_at(int(address), values.dtype, values.shape)[...] = values
                allocator.notify_shape(name, Dims(shapes[name]))

    def _inputs(self, where: dict[str, int]) -> dict[str, np.ndarray[Any, Any]]:
        return {t.name: self._array(t, self._full(self._shapes[t.name]), where) for t in self.engine.own.inputs}

    def _array(self, info: Any, shape: tuple[int, ...], addresses: dict[str, int]) -> np.ndarray[Any, Any]:
        address = addresses.get(info.name, 0)
        if not address:
            raise InputError("no address was given", got=info.name, expected="set_tensor_address, or one binding each")
        return array_at(address, info.dtype.numpy, shape)

    def report_to_profiler(self) -> bool:
        """Reports the layers' times to the profiler."""
        if self.profiler is None:
            return False
        self._report(tuple(self._addresses.get(name, 0) for name in self.engine.names))
        return True

    def _report(self, addresses: tuple[int, ...]) -> None:
        inputs = self._inputs(dict(zip(self.engine.names, addresses)))
        for step in self._running().profile(inputs, runs=1):
            self.profiler.report_layer_time(step.name, step.nanoseconds / 1e6)

    # ---- debugging

    def set_debug_listener(self, listener: Any) -> bool:
        """Kept."""
        self._listener = listener
        return True

    def get_debug_listener(self) -> Any:
        """What was set."""
        return self._listener

    def get_debug_state(self, name: str) -> bool:
        """False: no tensor is watched."""
        return False


class IDebugListener:
    """Told of tensors while an engine runs; subclasses override the method. Tensors are not watched yet."""

    def __init__(self) -> None:
        return None

    def process_debug_tensor(self, addr: int, location: Any, type: Any, shape: Any, name: str, stream: int) -> bool:
        """Called with a tensor."""
        return True


class IProfiler:
    """Told of the time of every layer; subclasses override ``report_layer_time``."""

    def __init__(self) -> None:
        return None

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Called for every layer."""
        raise NotImplementedError("IProfiler.report_layer_time must be overridden")


class Profiler(IProfiler):
    """Prints the time of every layer."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        print(f"{layer_name}: {ms:.6g}ms")

