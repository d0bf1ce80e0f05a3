"""Runtime, ICudaEngine, IExecutionContext: engines that run on addresses."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from strop.compat.memory import array_at
from strop.compat.tensorrt import enums
from strop.compat.tensorrt import plan as plans
from strop.compat.tensorrt.basics import (
    FAILURES,
    Dims,
    IHostMemory,
    ILogger,
    Managed,
    failed,
    their_dtype,
)
from strop.compat.tensorrt.enums import TensorIOMode, TensorLocation
from strop.engine.engine import Engine
from strop.errors import InputError, StropError
from strop.runtime.context import TensorInfo


class Runtime(Managed):
    """Loads engines."""

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        self.error_recorder: Any = None
        self.gpu_allocator: Any = None
        self.DLA_core = -1
        self.max_threads = 1
        self.temporary_directory = tempfile.gettempdir()
        self.tempfile_control_flags = 3
        self.engine_host_code_allowed = True

    num_DLA_cores = 0

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        """An engine of its bytes or of a stream reader; None when they are none, which the log explains."""
        try:
            data = _stream(serialized_engine) if hasattr(serialized_engine, "read") else bytes(serialized_engine)
            return ICudaEngine(_opened(data), self.logger)
        except FAILURES as error:
            if self.error_recorder is not None:
                self.error_recorder.report_error(enums.ErrorCodeTRT.INVALID_ARGUMENT, str(error))
            return failed(self.logger, error)

    def load_runtime(self, path: str) -> Runtime:
        """Engines carry their runtime: this one."""
        return self

    def get_plugin_registry(self) -> Any:
        """The registry of plugins."""
        from strop.compat.tensorrt.plugin import get_plugin_registry

        return get_plugin_registry()


def _stream(reader: Any) -> bytes:
    pieces: list[bytes] = []
    while True:
        piece = reader.read(1 << 24)
        if not piece:
            return b"".join(pieces)
        pieces.append(bytes(piece))


def _opened(data: bytes) -> Engine:
    """An engine of bytes, in a file of its own that goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="strop-")
    path = Path(folder.name) / "engine.strop"
    path.write_bytes(data)
    engine = Engine(path)
    assert engine.session is not None
    weakref.finalize(engine, folder.cleanup)
    return engine


class ICudaEngine(Managed):
    """An engine."""

    def __init__(self, engine: Engine, logger: ILogger | None = None) -> None:
        self.own = engine
        self.logger = logger
        self.plan = plans.read(engine)
        self.error_recorder: Any = None
        known = {t.name: t for t in (*engine.inputs, *engine.outputs)}
        names = [*self.plan.inputs, *self.plan.outputs]
        self.tensors: dict[str, TensorInfo] = {name: known[name] for name in names if name in known}
        self.names = list(self.tensors)
        self._input_names = {t.name for t in engine.inputs}

    # ---- names

    num_io_tensors = property(lambda self: len(self.names))
    num_bindings = num_io_tensors
    name = property(lambda self: self.plan.name)
    num_layers = property(lambda self: len(self.own.session.steps))
    num_optimization_profiles = property(lambda self: max(len(self.plan.profiles), 1))
    refittable = property(lambda self: self.plan.refittable)
    has_implicit_batch_dimension = property(lambda self: self.plan.implicit_batch)
    max_batch_size = property(lambda self: self.plan.max_batch)
    profiling_verbosity = property(lambda self: enums.ProfilingVerbosity(self.plan.verbosity))
    engine_capability = enums.EngineCapability.STANDARD
    hardware_compatibility_level = enums.HardwareCompatibilityLevel.NONE
    tactic_sources = 0
    num_aux_streams = 0
    streamable_weights_size = 0
    weight_streaming_budget = 0
    weight_streaming_budget_v2 = 0
    minimum_weight_streaming_budget = 0
    weight_streaming_scratch_memory_size = 0

    @property
    def device_memory_size(self) -> int:
        """Bytes that a context takes."""
        memory = self.own.memory
        return int(memory.arena + memory.scratch)

    device_memory_size_v2 = device_memory_size

    def get_device_memory_size_for_profile(self, profile_index: int) -> int:
        """Bytes that a context takes."""
        return self.device_memory_size

    get_device_memory_size_for_profile_v2 = get_device_memory_size_for_profile

    def get_weight_streaming_automatic_budget(self) -> int:
        """0: weights are mapped."""
        return 0

    def __len__(self) -> int:
        return len(self.names)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.get_binding_index(key)
        return self.names[key]

    def get_tensor_name(self, index: int) -> str:
        """The name of an input or output."""
        return self.names[index]

    get_binding_name = get_tensor_name

    def get_binding_index(self, name: str) -> int:
        """The number of an input or output; -1 for none."""
        return self.names.index(name) if name in self.tensors else -1

    def _info(self, key: int | str) -> TensorInfo:
        name = self.names[key] if isinstance(key, int) else key
        if name not in self.tensors:
            raise InputError("no input or output has this name", got=name, expected=", ".join(self.names))
        return self.tensors[name]

    # ---- tensors

    def is_input(self, key: int | str) -> bool:
        """Whether it is an input."""
        return self._info(key).name in self._input_names

    binding_is_input = is_input

    def get_tensor_mode(self, name: str) -> Any:
        """Input, output, or neither."""
        if name not in self.tensors:
            return TensorIOMode.NONE
        return TensorIOMode.INPUT if self.is_input(name) else TensorIOMode.OUTPUT

    def get_tensor_shape(self, key: int | str) -> Dims:
        """Sizes; -1 where free; without the batch where it is implicit."""
        info = self._info(key)
        free = [low != high for low, high in zip(info.least, info.most)] or [False] * len(info.shape)
        sizes = [-1 if f else d for f, d in zip(free, info.shape)]
        return Dims(sizes[int(self.plan.implicit_batch) :])

    get_binding_shape = get_tensor_shape

    def get_tensor_dtype(self, key: int | str) -> Any:
        """DataType of the elements."""
        return their_dtype(self._info(key).dtype)

    get_binding_dtype = get_tensor_dtype

    def get_tensor_location(self, name: str) -> Any:
        """Memory that the tensor must lie in."""
        return TensorLocation.DEVICE

    get_location = get_tensor_location

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        """Row-major."""
        return enums.TensorFormat.LINEAR

    get_binding_format = get_tensor_format

    def get_tensor_format_desc(self, name: str, profile_index: int = 0) -> str:
        """Row-major in words."""
        return f"Row-major linear {self.get_tensor_dtype(name).name} format (kLINEAR)"

    get_binding_format_desc = get_tensor_format_desc

    def get_tensor_bytes_per_component(self, name: str, profile_index: int = 0) -> int:
        """Bytes of an element."""
        return self._info(name).dtype.size

    get_binding_bytes_per_component = get_tensor_bytes_per_component

    def get_tensor_components_per_element(self, name: str, profile_index: int = 0) -> int:
        """1: not vectorized."""
        return 1

    get_binding_components_per_element = get_tensor_components_per_element

    def get_tensor_vectorized_dim(self, name: str, profile_index: int = 0) -> int:
        """-1: not vectorized."""
        return -1

    get_binding_vectorized_dim = get_tensor_vectorized_dim

    def is_shape_inference_io(self, name: str) -> bool:
        """False: sizes do not come from inputs."""
        return False

    def is_shape_binding(self, binding: int) -> bool:
        """False: sizes do not come from inputs."""
        return False

    def is_execution_binding(self, binding: int) -> bool:
        """True."""
        return True

    def is_debug_tensor(self, name: str) -> bool:
        """Whether a debug listener sees it."""
        return name in self.plan.debug

    def get_aliased_input_tensor(self, name: str) -> str:
        """Empty: no output lies over an input."""
        return ""

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        """[min, opt, max]."""
        info = self._info(name)
        cut = int(self.plan.implicit_batch)
        return [Dims(shape[cut:]) for shape in (info.least or info.shape, info.shape, info.most or info.shape)]

    def get_profile_shape(self, profile_index: int, binding: int | str) -> list[Dims]:
        """[min, opt, max]."""
        return self.get_tensor_profile_shape(self._info(binding).name, profile_index)

    def get_tensor_profile_values(self, profile_index: int, name: str) -> list[Any]:
        """No input holds sizes."""
        return []

    def get_profile_shape_input(self, profile_index: int, binding: int | str) -> list[Any]:
        """No input holds sizes."""
        return []

    # ---- what is made of it

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        """A context."""
        try:
            return IExecutionContext(self)
        except FAILURES as error:
            return failed(self.logger, error)

    create_execution_context_without_device_memory = create_execution_context

    def serialize(self) -> Any:
        """The bytes of the engine."""
        return IHostMemory(self.own.path.read_bytes())

    def create_serialization_config(self) -> Any:
        """Settings of ``serialize_with_config``."""
        return ISerializationConfig()

    def serialize_with_config(self, config: Any) -> Any:
        """The bytes of the engine."""
        return self.serialize()

    def create_engine_inspector(self) -> Any:
        """What the engine does."""
        from strop.compat.tensorrt.inspector import EngineInspector

        return EngineInspector(self)

    def replace(self, engine: Engine) -> None:
        """Another engine of the same inputs and outputs takes this one's place (refit)."""
        self.own = engine


class ISerializationConfig:
    """Settings of a serialization; without effect."""

    def __init__(self) -> None:
        self.flags = 0

    def set_flag(self, flag: Any) -> bool:
        """Sets a flag."""
        self.flags |= 1 << int(flag)
        return True

    def clear_flag(self, flag: Any) -> bool:
        """Clears a flag."""
        self.flags &= ~(1 << int(flag))
        return True

    def get_flag(self, flag: Any) -> bool:
        """Whether a flag is set."""
        return bool(self.flags >> int(flag) & 1)


class IOutputAllocator:
    """Gives memory for outputs whose sizes become known while running; subclasses override the methods."""

    def __init__(self) -> None:
        return None

    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        """Memory of at least so many bytes."""
        raise NotImplementedError("IOutputAllocator.reallocate_output must be overridden")

    def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:
        """Likewise."""
        return self.reallocate_output(tensor_name, memory, size, alignment)

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        """Called with the shape of an output."""


class IExecutionContext(Managed):
    """Runs an engine on memory given by address."""

    def __init__(self, engine: ICudaEngine) -> None:
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
        self._shapes[name] = sizes
        return True

    def set_binding_shape(self, binding: int, shape: Sequence[int]) -> bool:
        """Chooses the shape of an input."""
        return self.set_input_shape(self.engine.names[binding], shape)

    def get_tensor_shape(self, name: str) -> Dims:
        """The shape under the input shapes that were chosen; -1 where these are missing."""
        if self.engine.is_input(name):
            return Dims(self._shapes[name]) if name in self._shapes else self.engine.get_tensor_shape(name)
        if self.infer_shapes():
            return self.engine.get_tensor_shape(name)
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
        return True

    def get_tensor_address(self, name: str) -> int:
        """Where an input or output lies; 0 for nowhere."""
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        """Asks an allocator for an output's memory."""
        self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        """The allocator of an output."""
        return self._allocators.get(name)

    def get_max_output_size(self, name: str) -> int:
        """Bytes that an output takes at most."""
        info = self.engine._info(name)
        return math.prod(info.most or info.shape) * info.dtype.size

    def set_device_memory(self, memory: int, size: int) -> None:
        """Contexts own their arena."""
        self.device_memory = memory

    def update_device_memory_size_for_shapes(self) -> int:
        """Bytes that the context takes."""
        return self.engine.device_memory_size

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
        return self._run(dict(zip(self.engine.names, map(int, bindings))), self._batch)

    def execute(self, batch_size: int = 1, bindings: Sequence[int] = ()) -> bool:
        """Runs a batch of so many samples where it is implicit."""
        return self._run(dict(zip(self.engine.names, map(int, bindings))), batch_size)

    def execute_async(self, batch_size: int = 1, bindings: Sequence[int] = (), stream_handle: int = 0, input_consumed: Any = None) -> bool:
        """As ``execute``; done when it returns."""
        return self.execute(batch_size, bindings)

    def execute_async_v2(self, bindings: Sequence[int], stream_handle: int = 0, input_consumed: Any = None) -> bool:
        """As ``execute_v2``; done when it returns."""
        return self.execute_v2(bindings)

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Runs on the addresses that were set; done when it returns."""
        return self._run(dict(self._addresses), self._batch)

    def _run(self, addresses: dict[str, int], batch: int) -> bool:
        plan = self.engine.plan
        try:
            if plan.implicit_batch and not 1 <= batch <= plan.max_batch:
                raise InputError("batch size out of range", got=batch, expected=f"1..{plan.max_batch}")
            self._batch = batch
            missing = self.infer_shapes()
            if missing:
                raise InputError("the shape of an input was not chosen", got=", ".join(missing))
            shapes = self._output_shapes()
            for name, allocator in self._allocators.items():
                if allocator is not None:
                    size = math.prod(shapes[name]) * self.engine._info(name).dtype.size
                    addresses[name] = allocator.reallocate_output(name, addresses.get(name, 0), size, 64)
                    allocator.notify_shape(name, Dims(shapes[name]))
            inputs = {t.name: self._array(t, self._full(self._shapes[t.name]), addresses) for t in self.engine.own.inputs}
            outputs = {t.name: self._array(t, shapes[t.name], addresses) for t in self.engine.own.outputs}
            self._running().run(inputs, out=outputs)
        except FAILURES as error:
            if self.error_recorder is not None:
                self.error_recorder.report_error(enums.ErrorCodeTRT.FAILED_EXECUTION, str(error))
            failed(self.engine.logger, error)
            return False
        if self.profiler is not None and self.enqueue_emits_profile:
            self._report(inputs)
        return True

    def _array(self, info: TensorInfo, shape: tuple[int, ...], addresses: dict[str, int]) -> np.ndarray[Any, Any]:
        address = addresses.get(info.name, 0)
        if not address:
            raise InputError("no address was given", got=info.name, expected="set_tensor_address, or one binding each")
        return array_at(address, info.dtype.numpy, shape)

    def report_to_profiler(self) -> bool:
        """Reports the layers' times to the profiler."""
        if self.profiler is None:
            return False
        self._report({t.name: self._array(t, self._full(self._shapes[t.name]), self._addresses) for t in self.engine.own.inputs})
        return True

    def _report(self, inputs: Any) -> None:
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

