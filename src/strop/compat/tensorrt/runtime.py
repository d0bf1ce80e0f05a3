"""Runtime and ICudaEngine."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import Any

from strop.compat.tensorrt import enums
from strop.compat.tensorrt import plan as plans
from strop.compat.tensorrt.basics import (
    FAILURES,
    Dims,
    Flags,
    IHostMemory,
    ILogger,
    Managed,
    failed,
    their_dtype,
)
from strop.compat.tensorrt.context import IExecutionContext
from strop.compat.tensorrt.enums import TensorIOMode, TensorLocation
from strop.compat.tensorrt.inspector import EngineInspector
from strop.compat.tensorrt.plugin import restore
from strop.compat.tensorrt.plugin_types import get_plugin_registry
from strop.compat.tensorrt.streams import IStreamReaderV2
from strop.engine.engine import Engine
from strop.errors import InputError


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
        return get_plugin_registry()


def _stream(reader: Any) -> bytes:
    pieces: list[bytes] = []
    while True:
        piece = reader.read(1 << 24, 0) if isinstance(reader, IStreamReaderV2) else reader.read(1 << 24)
        if not piece:
            return b"".join(pieces)
        pieces.append(bytes(piece))


def _opened(data: bytes) -> Engine:
    """An engine of bytes, in a file of its own that goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="strop-")
    path = Path(folder.name) / "engine.strop"
    path.write_bytes(data)
    engine = Engine(path)
    for record in plans.read(engine).plugins:
        restore(record)
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
        self.tensors: dict[str, Any] = {name: known[name] for name in names if name in known}
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
        return self.device_memory_size_v2

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
            return self.names.index(key) if key in self.tensors else -1
        return self.names[key]

    def get_tensor_name(self, index: int) -> str:
        """The name of an input or output."""
        return self.names[index]

    get_binding_name = get_tensor_name

    def get_binding_index(self, name: str) -> int:
        """The number of an input or output; -1 for none."""
        return int(self[name])

    def _info(self, key: int | str) -> Any:
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
        return int(self._info(name).dtype.size)

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
        return EngineInspector(self)

    def replace(self, engine: Engine) -> None:
        """Another engine of the same inputs and outputs takes this one's place (refit)."""
        self.own = engine


class ISerializationConfig(Flags):
    """Settings of a serialization; without effect."""

