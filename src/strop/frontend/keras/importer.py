"""Walks the calls of a model's layers and builds a Graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.errors import ModelError, OptionError, StropError, UnsupportedError
from strop.frontend.keras.archive import Archive
from strop.frontend.keras.calls import (
    INPUT,
    MAX_DEPTH,
    Call,
    Key,
    Layer,
    Net,
    is_model,
    keys_of,
    leaves,
    net_of,
)
from strop.frontend.keras.context import LayerContext
from strop.frontend.keras.registry import RULES
from strop.frontend.keras.weights import Weights
from strop.frontend.names import free_name
from strop.frontend.shapes import input_shapes
from strop.frontend.verdicts import Verdict, reason
from strop.ir import dtype as dt
from strop.ir.dtype import BY_NAME, DType
from strop.ir.graph import Graph, Value
from strop.ir.op import Type

#: Most calls of all models together.
MAX_READ = 1 << 17
#: The symbol of samples, which all inputs have in common.
BATCH = "batch"
#: What an import function may run into on a configuration that Keras does not write; anything else is a defect.
_BAD_LAYER = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
_DTYPES = {str(d.numpy): d for d in BY_NAME.values()}
#: Layers that hold code of the user's own.
_CODE = frozenset(("Lambda", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "TFSMLayer"))


@dataclass(frozen=True)
class _Input:
    """An input as the configuration declares it."""

    shape: tuple[int, ...]
    free: tuple[int, ...]
    dtype: DType


class _Failed:
    """The result of a call that cannot be read."""


class Importer:
    """One import. ``run`` fills ``verdicts`` and ``errors``; the graph is whole when there are no errors.

    Args:
        archive: the file.
        shapes: of inputs by name, or ranges of free dims by their names.
        name: of the graph.
    """

    def __init__(self, archive: Archive, shapes: Mapping[str, Any] | None, name: str) -> None:
        self.graph = Graph(name)
        self.verdicts: list[Verdict] = []
        self.errors: list[StropError] = []
        self._archive = archive
        self._shapes = dict(shapes or {})
        self._reserved: set[str] = set()
        self._names: set[str] = set()
        self._consts: dict[str, dict[str, Value]] = {}
        self._count = 0

    def run(self) -> None:
        """Imports the model.

        Raises:
            ModelError: the configuration is inconsistent.
            UnsupportedError: an input of a type that is not supported, a model of the user's own class.
            OptionError: ``shapes`` does not fit it.
        """
        kind, config = self._archive.config["class_name"], self._archive.config["config"]
        net = net_of(kind, config, "the model")
        declared = {name: _declared(net, name, config) for name in net.inputs}
        shapes = input_shapes(declared, self._shapes, BATCH)
        given: list[Value] = []
        for name, entry in declared.items():
            given.append(self.graph.add_input(name, Type(entry.dtype, shapes[name])))
            self._reserved.add(name)
        results = self._model(net, given, self._archive.weights, "", 0)
        names = [name for name, value in zip(net.outputs, results, strict=True) if isinstance(value, Value)]
        self.graph.set_outputs([v for v in results if isinstance(v, Value)], names)

    def _model(self, net: Net, operands: Sequence[Any], weights: Weights, label: str, depth: int) -> list[Any]:
        """The results of a model that is called with operands."""
        if depth > MAX_DEPTH:
            raise ModelError("models lie too deep in each other", where=f"model {label}")
        if len(operands) != len(net.inputs):
            raise ModelError("a model is called with another number of operands", where=f"model {label or 'itself'}", got=len(operands), expected=len(net.inputs))
        known: dict[Key, Any] = dict(zip(net.inputs.values(), operands, strict=True))
        held = weights.children([(layer.kind, layer.name) for layer in net.layers.values() if layer.kind != INPUT])
        waiting = list(net.calls)
        while waiting:
            ready = [call for call in waiting if all(key in known for key in keys_of((call.operands, call.extra)))]
            if not ready:
                raise ModelError("layers read each other in a circle, or what is not there", where=f"layer {label}{waiting[0].layer}")
            for call in ready:
                layer = net.layers[call.layer]
                found = self._call(layer, call, known, held[layer.name], label, depth)
                known.update({Key(layer.name, call.number, k): value for k, value in enumerate(found)})
                if len(found) == 1 and isinstance(found[0], _Failed):
                    known.update({Key(layer.name, call.number, k): found[0] for k in range(1, 8)})
            done = {(call.layer, call.number) for call in ready}
            waiting = [call for call in waiting if (call.layer, call.number) not in done]
        missing = [key for key in net.outputs.values() if key not in known]
        if missing:
            raise ModelError("an output is no result of a layer", where=f"model {label or 'itself'}", got=missing[0])
        return [known[key] for key in net.outputs.values()]

    def _call(self, layer: Layer, call: Call, known: Mapping[Key, Any], weights: Weights, label: str, depth: int) -> list[Any]:
        self._count += 1
        if self._count > MAX_READ:
            raise ModelError("the models have too many calls", where=f"layer {label}{layer.name}", expected=f"at most {MAX_READ}")
        name = free_name(label + layer.name, self._names, mark=".", first=2)
        self._names.add(name)
        operands, extra = _bound(call.operands, known), _bound(call.extra, known)
        nested = is_model(layer.kind, layer.config)
        if any(isinstance(v, _Failed) for v in leaves((operands, extra))):
            supported = nested or layer.kind in RULES
            if not supported:
                self.errors.append(_unsupported(name, layer.kind))
            self.verdicts.append(Verdict(name, layer.kind, 0, supported, checked=False, reason="" if supported else f"layer {layer.kind} is not supported"))
            return [_Failed()]
        if nested:
            flat = [v for v in leaves(operands) if isinstance(v, Value)]
            return self._model(net_of(layer.kind, layer.config, f"model {name}"), flat, weights, f"{name}/", depth + 1)
        consts = self._consts.setdefault(label + layer.name, {})
        config = layer.config if isinstance(layer.config, dict) else {}
        node = LayerContext(self.graph, self._reserved, name, layer.kind, config, [], extra, weights, self._archive.major, consts)
        try:
            node.operands = [v if isinstance(v, Value) else _constant(node, v, operands) for v in _flat(operands)]
            results = self._results(node)
        except StropError as error:
            return self._failed(node, error)
        self.verdicts.append(Verdict(name, layer.kind, 0, True))
        return results

    def _results(self, node: LayerContext) -> list[Any]:
        rule = RULES.get(node.op)
        if rule is None:
            raise _unsupported(node.name, node.op)
        try:
            found = rule(node)
        except _BAD_LAYER as error:
            raise ModelError(f"{node.op} cannot be read: {type(error).__name__}: {error}", where=node.where) from error
        return list(found) if isinstance(found, (list, tuple)) else [found]

    def _failed(self, node: LayerContext, error: StropError) -> list[Any]:
        if error.where is None or node.where not in error.where:
            place = node.where if error.where is None else f"{node.where}, {error.where}"
            error = type(error)(error.what, where=place, got=error.got, expected=error.expected, hint=error.hint)
        self.errors.append(error)
        self.verdicts.append(Verdict(node.name, node.op, 0, False, True, reason(error), error.hint))
        return [_Failed()]


def _flat(operands: Any) -> list[Any]:
    """Operands side by side; slices and lists of numbers stay what they are."""
    found: list[Any] = []
    for value in operands:
        found += list(value) if isinstance(value, list) and any(isinstance(v, Value) for v in value) else [value]
    return found


def _constant(node: LayerContext, value: Any, operands: Any) -> Any:
    """A number that a layer is called with, in the type of the first tensor; what is no number is left to the layer."""
    first = next((v for v in leaves(operands) if isinstance(v, Value)), None)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and first is not None:
        return node.const(np.asarray(value, first.dtype.numpy))
    return value


def _bound(value: Any, known: Mapping[Key, Any]) -> Any:
    """A structure with the tensors in the places of their keys."""
    if isinstance(value, Key):
        return known[value]
    if isinstance(value, (list, tuple)):
        return [_bound(v, known) for v in value]
    if isinstance(value, dict):
        return {k: _bound(v, known) for k, v in value.items()}
    return value


def _declared(net: Net, name: str, config: Any) -> _Input:
    """Shape and type of an input, from its layer or, of Sequential models without one, from the first layer or the model."""
    where = f"input {name}"
    layer = net.layers.get(name)
    own = layer.config if layer is not None and isinstance(layer.config, dict) else {}
    shape = own.get("batch_shape") or own.get("batch_input_shape")
    if layer is None:
        first = next(iter(net.layers.values()), None)
        inner = first.config if first is not None and isinstance(first.config, dict) else {}
        shape = inner.get("batch_input_shape") or inner.get("batch_shape") or (config.get("build_input_shape") if isinstance(config, dict) else None)
    if not isinstance(shape, list) or not 1 <= len(shape) <= 8 or not all(d is None or (isinstance(d, int) and 0 < d <= 1 << 31) for d in shape):
        hint = "build the model before it is saved: model.build(shape)"
        raise OptionError("the shape of an input is not known", where=where, got=repr(shape)[:80], hint=hint)
    kind = own.get("dtype", "float32")
    if isinstance(kind, dict):
        kind = kind.get("config", {}).get("name", "float32") if isinstance(kind.get("config"), dict) else "float32"
    dtype = _DTYPES.get(str(kind), dt.f32 if str(kind).startswith("mixed_") else None)
    if dtype is None:
        raise UnsupportedError(f"element type {kind} is not supported", where=where, expected=", ".join(_DTYPES))
    return _Input(tuple(1 if d is None else d for d in shape), tuple(k for k, d in enumerate(shape) if d is None), dtype)


def _unsupported(name: str, kind: str) -> UnsupportedError:
    where = f"node {name} ({kind})"
    if kind in _CODE:
        return UnsupportedError(
            f"layer {kind} holds code, which is not run", where=where, got=kind, expected="Keras's own layers",
            hint="write it with Keras's own layers, or export the model: model.export(folder)",
        )  # fmt: skip
    return UnsupportedError(f"layer {kind} is not supported", where=where, got=kind, hint="strop ops --keras lists what is; or export the model: model.export(folder)")
