"""Plugins as custom layers: of versions 2 and 3, and functions with decorators (``strop.compat.tensorrt.plugins``)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from strop import custom
from strop.compat.tensorrt.basics import Dims, own_dtype, their_dtype
from strop.compat.tensorrt.enums import PluginCapabilityType, PluginFieldType, TensorRTPhase
from strop.compat.tensorrt.plugin_types import (
    DimsExprs,
    DynamicPluginTensorDesc,
    IDimensionExpr,
    IExprBuilder,
    IPluginV2,
    PluginField,
    PluginFieldCollection_,
    PluginTensorDesc,
    get_plugin_registry,
)
from strop.errors import CustomError
from strop.ir import dtype as dt
from strop.ir.op import Array, Op, Type

Shapes = Callable[[Sequence[Type]], Sequence[Type]]
Run = Callable[[Sequence[Array], Sequence[Array]], None]


def declare(name: str, shapes: Shapes, run: Run) -> Op:
    """A custom layer of two functions: result types, and what is written into the results."""

    class PluginLayer(custom.Layer):
        """A plugin."""

        def shape(self, *inputs: Any) -> Sequence[Type]:
            return shapes(inputs)

        def write(self, outputs: Sequence[Array], *inputs: Any) -> None:
            run(outputs, inputs)

    custom.forget(name)
    made = custom.layer(name, takes=custom.ROW_MAJOR, pure=False)(PluginLayer)
    return made()


def op_of(plugin: Any, index: int) -> Op:
    """The op of a plugin; ``index`` keeps plugins of one name apart."""
    core: Any = plugin if isinstance(plugin, IPluginV2) else _part(plugin, PluginCapabilityType.CORE)
    kind = core.plugin_type if isinstance(plugin, IPluginV2) else core.plugin_name
    name = "tensorrt::" + re.sub(r"[^\w.\-]", "_", f"{kind or type(plugin).__name__}_{index}")
    return declare(name, _shapes(plugin), _run(plugin))


def _part(plugin: Any, kind: Any) -> Any:
    found = plugin.get_capability_interface(kind)
    if found is None:
        raise CustomError("the plugin lacks a part", where=type(plugin).__name__, got=kind.name)
    return found


def _shapes(plugin: Any) -> Shapes:
    """Result types by the plugin's own methods."""

    def infer(inputs: Sequence[Type]) -> list[Type]:
        exprs = [DimsExprs([IDimensionExpr(d) for d in t.shape]) for t in inputs]
        types = [their_dtype(t.dtype) for t in inputs]
        builder = IExprBuilder()
        if isinstance(plugin, IPluginV2):
            found = [plugin.get_output_dimensions(k, exprs, builder) for k in range(plugin.num_outputs)]  # type: ignore[attr-defined]
            kinds = [plugin.get_output_datatype(k, types) for k in range(plugin.num_outputs)]  # type: ignore[attr-defined]
        else:
            build = _part(plugin, PluginCapabilityType.BUILD)
            found = build.get_output_shapes(exprs, [], builder)
            kinds = build.get_output_data_types(types)
        return [Type(own_dtype(k), tuple(e.dim if isinstance(e, IDimensionExpr) else int(e) for e in f)) for f, k in zip(found, kinds)]

    return infer


def _run(plugin: Any) -> Run:
    """``enqueue`` on the arrays' addresses."""
    seen: list[Any] = []

    def run(outputs: Sequence[Array], inputs: Sequence[Array]) -> None:
        runtime: Any = plugin if isinstance(plugin, IPluginV2) else _part(plugin, PluginCapabilityType.RUNTIME)
        given, made = ([_desc(a) for a in arrays] for arrays in (inputs, outputs))
        sizes = [a.shape for a in (*inputs, *outputs)]
        if seen != [sizes]:
            _prepare(plugin, runtime, given, made)
            seen[:] = [sizes]
        dynamic = [DynamicPluginTensorDesc(d, d.dims, d.dims, d.dims) for d in (*given, *made)]
        builder: Any = plugin if isinstance(plugin, IPluginV2) else _part(plugin, PluginCapabilityType.BUILD)
        size = builder.get_workspace_size(dynamic[: len(given)], dynamic[len(given) :]) or 0
        workspace = np.empty(max(int(size), 1), np.uint8)
        addresses = [[a.ctypes.data for a in arrays] for arrays in (inputs, outputs)]
        status = runtime.enqueue(given, made, *addresses, workspace.ctypes.data, 0)
        if status not in (None, 0):
            raise CustomError("the plugin's enqueue failed", where=type(plugin).__name__, got=status, expected=0)

    return run


def _prepare(plugin: Any, runtime: Any, given: Sequence[Any], made: Sequence[Any]) -> None:
    if isinstance(plugin, IPluginV2):
        plugin.initialize()
    else:
        runtime.on_shape_change(list(given), list(made))


def _desc(array: Array) -> PluginTensorDesc:
    return PluginTensorDesc(Dims(array.shape), their_dtype(dt.from_numpy(array.dtype)))


# ---- keeping them in engines


def saved(plugin: Any, op: Op) -> dict[str, Any]:
    """What makes the plugin again, as plain JSON."""
    if isinstance(plugin, IPluginV2):
        keys = (plugin.plugin_type, plugin.plugin_version, plugin.plugin_namespace)
        data: Any = base64.b64encode(bytes(plugin.serialize() or b"")).decode()
        return {"op": op.name, "kind": "v2", "key": [str(k) for k in keys], "data": data}
    core = _part(plugin, PluginCapabilityType.CORE)
    fields = _part(plugin, PluginCapabilityType.RUNTIME).get_fields_to_serialize() or []
    rows = [[f.name, int(f.type), _plain(f.data)] for f in fields]
    return {"op": op.name, "kind": "v3", "key": [core.plugin_name, str(core.plugin_version), core.plugin_namespace], "data": rows}


def _plain(data: Any) -> Any:
    if isinstance(data, bytes):
        return {"bytes": base64.b64encode(data).decode()}
    return data if isinstance(data, str) or data is None else np.asarray(data).reshape(-1).tolist()


def restore(record: dict[str, Any]) -> None:
    """Declares the layer of a plugin of a loaded engine, unless it is there already; creators make the plugin again.

    Raises:
        CustomError: no creator of its name, version and namespace is registered.
    """
    name = str(record["op"])
    if custom.known(name):
        return
    kind, version, space = record["key"]
    creator = get_plugin_registry().get_creator(kind, version, space)
    if creator is None:
        raise CustomError(
            "no creator of a plugin is registered", where=kind, got=f"version {version}, namespace {space or 'none'}",
            hint="tensorrt.get_plugin_registry().register_creator(...) before the engine is loaded",
        )  # fmt: skip
    if record["kind"] == "v2":
        plugin = creator.deserialize_plugin(kind, base64.b64decode(record["data"]))
    else:
        fields = PluginFieldCollection_(PluginField(n, _read(d), PluginFieldType(t)) for n, t, d in record["data"])
        plugin = creator.create_plugin(kind, fields, TensorRTPhase.RUNTIME)
    declare(name, _shapes(plugin), _run(plugin))


def _read(data: Any) -> Any:
    return base64.b64decode(data["bytes"]) if isinstance(data, dict) else data
