"""What plugins are written with: fields, tensor descriptions, dimension expressions, base classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.compat.tensorrt import enums
from strop.compat.tensorrt.basics import Dims
from strop.compat.tensorrt.enums import (
    DataType,
    PluginCapabilityType,
    PluginFieldType,
    TensorFormat,
)
from strop.errors import UnsupportedError
from strop.ir import shape as sh
from strop.ir.shape import Dim

# ---- fields

_FIELD_TYPES = {
    PluginFieldType.FLOAT16: np.float16,
    PluginFieldType.FLOAT32: np.float32,
    PluginFieldType.FLOAT64: np.float64,
    PluginFieldType.INT8: np.int8,
    PluginFieldType.INT16: np.int16,
    PluginFieldType.INT32: np.int32,
    PluginFieldType.INT64: np.int64,
}


class PluginField:
    """A named attribute of a plugin: an array, or text."""

    def __init__(self, name: str = "", data: Any = None, type: Any = PluginFieldType.UNKNOWN) -> None:
        self.name, self.type = name, type
        self.data: Any = data if isinstance(data, (bytes, str)) or data is None else np.asarray(data, _FIELD_TYPES.get(type))

    @property
    def size(self) -> int:
        """Number of elements."""
        return 0 if self.data is None else len(self.data) if isinstance(self.data, (bytes, str)) else int(self.data.size)


class PluginFieldCollection_(list[PluginField]):
    """Fields in order."""


PluginFieldCollection = PluginFieldCollection_

# ---- dimension expressions


class DimensionOperation:
    """Operations of dimension expressions."""

    SUM, PROD, MAX, MIN, SUB, EQUAL, LESS, FLOOR_DIV, CEIL_DIV = range(9)


@dataclass(frozen=True)
class IDimensionExpr:
    """A size, which may be free."""

    dim: Dim

    def is_constant(self) -> bool:
        """Whether it is a number."""
        return isinstance(self.dim, int)

    def get_constant_value(self) -> int | None:
        """The number, or None."""
        return self.dim if isinstance(self.dim, int) else None

    def is_size_tensor(self) -> bool:
        """False: sizes do not come from data."""
        return False


class IExprBuilder:
    """Builds sizes from sizes."""

    def constant(self, value: int) -> IDimensionExpr:
        """A number."""
        return IDimensionExpr(int(value))

    def operation(self, op: Any, first: IDimensionExpr, second: IDimensionExpr) -> IDimensionExpr:
        """A function of two sizes."""
        a, b = first.dim, second.dim
        match int(op):
            case DimensionOperation.SUM:
                return IDimensionExpr(sh.add(a, b))
            case DimensionOperation.PROD:
                return IDimensionExpr(sh.mul(a, b))
            case DimensionOperation.MAX:
                return IDimensionExpr(sh.maximum(a, b))
            case DimensionOperation.MIN:
                return IDimensionExpr(sh.minimum(a, b))
            case DimensionOperation.SUB:
                return IDimensionExpr(sh.sub(a, b))
            case DimensionOperation.FLOOR_DIV:
                return IDimensionExpr(sh.floordiv(a, b))
            case DimensionOperation.CEIL_DIV:
                return IDimensionExpr(sh.ceildiv(a, b))
        if isinstance(a, int) and isinstance(b, int):
            return IDimensionExpr(int(a == b if int(op) == DimensionOperation.EQUAL else a < b))
        raise ValueError("free sizes cannot be compared")


class DimsExprs(list[Any]):
    """Sizes of a tensor as expressions. ``DimsExprs(rank)`` has so many to be filled."""

    def __init__(self, given: int | Sequence[Any] = 0) -> None:
        super().__init__([IDimensionExpr(0)] * given if isinstance(given, int) else given)


# ---- tensors


@dataclass
class PluginTensorDesc:
    """What a plugin is told of an operand or result."""

    dims: Any = field(default_factory=Dims)
    type: Any = DataType.FLOAT
    format: Any = TensorFormat.LINEAR
    scale: float = 1.0


@dataclass
class DynamicPluginTensorDesc:
    """The same with least and largest sizes."""

    desc: PluginTensorDesc = field(default_factory=PluginTensorDesc)
    min: Any = field(default_factory=Dims)
    max: Any = field(default_factory=Dims)
    opt: Any = field(default_factory=Dims)


# ---- base classes


class IVersionedInterface:
    """Interfaces have versions."""

    api_language = property(lambda self: "PYTHON")
    interface_info = property(lambda self: type(self).__name__)


class IPluginCapability(IVersionedInterface):
    """Core, build or runtime part of a plugin."""


class IPluginV3OneCore(IPluginCapability):
    """Names of a plugin."""

    plugin_name = ""
    plugin_version = "1"
    plugin_namespace = ""

    def __init__(self) -> None:
        return None


class IPluginV3OneBuild(IPluginCapability):
    """What the build asks a plugin."""

    num_outputs = 1
    format_combination_limit = 100
    metadata_string = ""
    timing_cache_id = ""

    def __init__(self) -> None:
        return None

    def configure_plugin(self, pos: Any, in_out: Any) -> None:
        """Called before the build uses it."""

    def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
        """DataTypes of the results."""
        return [input_types[0]] * self.num_outputs

    def get_output_shapes(self, inputs: Sequence[DimsExprs], shape_inputs: Any, expr_builder: IExprBuilder) -> list[DimsExprs]:
        """Sizes of the results."""
        raise NotImplementedError("get_output_shapes must be overridden")

    def supports_format_combination(self, pos: int, in_out: Any, num_inputs: int) -> bool:
        """Whether a dtype and format fit."""
        return True

    def get_workspace_size(self, inputs: Any, outputs: Any) -> int:
        """Bytes of memory for the run."""
        return 0

    def get_valid_tactics(self) -> list[int]:
        """Ways to run."""
        return []

    def get_aliased_input(self, output_index: int) -> int:
        """Input that a result lies over; -1 for none."""
        return -1


IPluginV3OneBuildV2 = IPluginV3OneBuild


class IPluginV3OneRuntime(IPluginCapability):
    """What a run asks a plugin."""

    tactic = 0

    def __init__(self) -> None:
        return None

    def on_shape_change(self, inputs: Any, outputs: Any) -> None:
        """Called when sizes are others."""

    def set_tactic(self, tactic: int) -> None:
        """Chooses a way to run."""
        self.tactic = tactic

    def get_fields_to_serialize(self) -> PluginFieldCollection_:
        """Attributes to make it again from."""
        return PluginFieldCollection_()

    def enqueue(self, input_desc: Any, output_desc: Any, inputs: Sequence[int], outputs: Sequence[int], workspace: int, stream: int) -> Any:
        """Runs on addresses."""
        raise NotImplementedError("enqueue must be overridden")

    def attach_to_context(self, resource_context: Any) -> Any:
        """The plugin for a context."""
        return self

    clone: Any


class IPluginV3(IVersionedInterface):
    """A plugin of three parts."""

    def __init__(self) -> None:
        return None

    def get_capability_interface(self, type: Any) -> Any:
        """The part of a kind."""
        wanted = {PluginCapabilityType.CORE: IPluginV3OneCore, PluginCapabilityType.BUILD: IPluginV3OneBuild, PluginCapabilityType.RUNTIME: IPluginV3OneRuntime}[type]
        return self if isinstance(self, wanted) else None

    def clone(self) -> Any:
        """A copy; plugins without state of a run are their own."""
        return self

    def destroy(self) -> None:
        """The end."""


class IPluginV2:
    """A plugin of versions 5 to 10."""

    num_outputs = 1
    plugin_type = ""
    plugin_version = "1"
    plugin_namespace = ""
    tensorrt_version = 8600
    serialization_size = 0

    def __init__(self) -> None:
        return None

    def initialize(self) -> Any:
        """Called before the first run."""

    def terminate(self) -> None:
        """Called after the last run."""

    def destroy(self) -> None:
        """The end."""

    def serialize(self) -> bytes:
        """Bytes to make it again from."""
        return b""

    def get_serialization_size(self) -> int:
        """Number of these bytes."""
        return len(self.serialize())

    def clone(self) -> Any:
        """A copy."""
        return self


class IPluginV2Ext(IPluginV2):
    """A plugin with dtypes."""

    def get_output_data_type(self, index: int, input_types: Sequence[Any]) -> Any:
        """DataType of a result."""
        return input_types[0]


class IPluginV2DynamicExt(IPluginV2Ext):
    """A plugin with free sizes."""

    def get_output_dimensions(self, output_index: int, inputs: Sequence[DimsExprs], expr_builder: IExprBuilder) -> DimsExprs:
        """Sizes of a result."""
        raise NotImplementedError("get_output_dimensions must be overridden")

    def get_output_datatype(self, index: int, input_types: Sequence[Any]) -> Any:
        """DataType of a result."""
        return self.get_output_data_type(index, input_types)

    def supports_format_combination(self, pos: int, in_out: Any, num_inputs: int) -> bool:
        """Whether a dtype and format fit."""
        return True

    def configure_plugin(self, pos: Any, in_out: Any) -> None:
        """Called before the build uses it."""

    def get_workspace_size(self, inputs: Any, outputs: Any) -> int:
        """Bytes of memory for the run."""
        return 0

    def enqueue(self, input_desc: Any, output_desc: Any, inputs: Sequence[int], outputs: Sequence[int], workspace: int, stream: int) -> Any:
        """Runs on addresses."""
        raise NotImplementedError("enqueue must be overridden")


class IPluginCreatorInterface(IVersionedInterface):
    """Makes plugins."""

    name = ""
    plugin_version = "1"
    plugin_namespace = ""
    field_names: PluginFieldCollection_ = PluginFieldCollection_()

    def __init__(self) -> None:
        return None


class IPluginCreator(IPluginCreatorInterface):
    """Makes plugins of versions 5 to 10."""

    tensorrt_version = 8600

    def create_plugin(self, name: str, field_collection: PluginFieldCollection_) -> Any:
        """A plugin of its attributes."""
        raise NotImplementedError("create_plugin must be overridden")

    def deserialize_plugin(self, name: str, serialized_plugin: bytes) -> Any:
        """A plugin of its bytes."""
        raise NotImplementedError("deserialize_plugin must be overridden")


class IPluginCreatorV3One(IPluginCreatorInterface):
    """Makes plugins of version 10 and later."""

    def create_plugin(self, name: str, field_collection: PluginFieldCollection_, phase: Any) -> Any:
        """A plugin of its attributes."""
        raise NotImplementedError("create_plugin must be overridden")


class IPluginResource:
    """Something that plugins share."""

    def __init__(self) -> None:
        return None

    def clone(self) -> Any:
        """A copy."""
        return self

    def release(self) -> None:
        """The end."""


class IPluginRegistry:
    """Creators by name, version and namespace."""

    def __init__(self) -> None:
        self._creators: dict[tuple[str, str, str], Any] = {}
        self.parent_search_enabled = True
        self.error_recorder: Any = None
        self._resources: dict[str, Any] = {}

    plugin_creator_list = property(lambda self: list(self._creators.values()))
    all_creators = plugin_creator_list
    all_creators_recursive = plugin_creator_list

    def __iter__(self) -> Iterator[Any]:
        return iter(self._creators.values())

    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        """Adds a creator."""
        space = plugin_namespace or getattr(creator, "plugin_namespace", "") or ""
        self._creators[creator.name, str(creator.plugin_version), space] = creator
        return True

    def deregister_creator(self, creator: Any) -> bool:
        """Takes a creator away."""
        found = [key for key, value in self._creators.items() if value is creator]
        for key in found:
            del self._creators[key]
        return bool(found)

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        """A creator, or None."""
        return self._creators.get((type, str(version), plugin_namespace))

    get_plugin_creator = get_creator

    def load_library(self, plugin_path: str) -> Any:
        """Libraries of TensorRT's plugins are GPU code; ``strop.custom.load_library`` loads custom layers."""
        raise UnsupportedError(
            "a library of plugins cannot be loaded", where=plugin_path, hint="strop.custom.load_library loads custom layers"
        )

    def deregister_library(self, handle: Any) -> None:
        """Libraries stay."""

    def acquire_plugin_resource(self, key: str, resource: IPluginResource) -> Any:
        """A shared thing."""
        return self._resources.setdefault(key, resource.clone())

    def release_plugin_resource(self, key: str) -> None:
        """Gives a shared thing back."""
        found = self._resources.pop(key, None)
        if found is not None:
            found.release()


_REGISTRY = IPluginRegistry()


def get_plugin_registry() -> IPluginRegistry:
    """The one registry."""
    return _REGISTRY


def get_builder_plugin_registry(capability: Any = enums.EngineCapability.STANDARD) -> IPluginRegistry:
    """The one registry."""
    return _REGISTRY
