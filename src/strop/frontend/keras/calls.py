"""The calls of a model's layers, in order, as its configuration has them: of Sequential models and of functional ones in both dialects.

Keras 3 writes a call as ``args`` and ``kwargs`` with tensors as objects of the class ``__keras_tensor__``; Keras 2 writes a list of
[layer, call, result, further arguments] per operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from strop.errors import ModelError, UnsupportedError

#: Most layers and calls of a model, and how deep models and lists may lie in each other.
MAX_CALLS, MAX_DEPTH = 1 << 16, 16


@dataclass(frozen=True)
class Key:
    """A tensor: result ``result`` of call ``call`` of a layer."""

    layer: str
    call: int
    result: int


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        name: unique in its model.
        kind: its class.
        config: its configuration; a list where Keras wrote one.
    """

    name: str
    kind: str
    config: Any


@dataclass(frozen=True)
class Call:
    """A call of a layer.

    Attributes:
        layer: its name.
        number: how many calls of it come before.
        operands: Keys of tensors, and numbers.
        extra: further arguments by name; Keys among them.
    """

    layer: str
    number: int
    operands: tuple[Any, ...]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Net:
    """A model.

    Attributes:
        layers: by name, in the order of the configuration.
        calls: of the layers that are no inputs.
        inputs: of the model, by the names of its input layers.
        outputs: its results, by names.
    """

    layers: dict[str, Layer]
    calls: tuple[Call, ...]
    inputs: dict[str, Key]
    outputs: dict[str, Key]


SEQUENTIAL, FUNCTIONAL = ("Sequential",), ("Functional", "Model")
INPUT = "InputLayer"


def is_model(kind: str, config: Any) -> bool:
    """Whether a class with this configuration is a model whose layers are known."""
    if isinstance(config, list):  # how Keras wrote Sequential models at first
        return kind in SEQUENTIAL
    return kind in (*SEQUENTIAL, *FUNCTIONAL) and isinstance(config, dict) and isinstance(config.get("layers"), list)


def net_of(kind: str, config: Any, where: str) -> Net:
    """The layers and calls of a model.

    Raises:
        ModelError: the configuration is malformed.
        UnsupportedError: a model of a class of the user's own.
    """
    if not is_model(kind, config):
        raise UnsupportedError(
            "a model of this class says nothing about its layers", where=where, got=kind, expected="Sequential or Functional", hint="export it: model.export(folder)"
        )
    entries = config if isinstance(config, list) else config["layers"]
    if len(entries) > MAX_CALLS:
        raise ModelError("the model has too many layers", where=where, got=len(entries), expected=f"at most {MAX_CALLS}")
    layers: dict[str, Layer] = {}
    for number, entry in enumerate(entries):
        layer = _layer(entry, where, number)
        if layer.name in layers:
            raise ModelError("two layers have one name", where=where, got=layer.name)
        layers[layer.name] = layer
    return _sequential(layers) if kind in SEQUENTIAL else _functional(config, entries, layers, where)


def _layer(entry: Any, where: str, number: int) -> Layer:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str) or not isinstance(entry.get("config"), (dict, list)):
        raise ModelError("a layer's configuration is malformed", where=where, got=repr(entry)[:80], expected="class_name and config")
    config = entry["config"]
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None) or f"{entry['class_name'].lower()}_{number}"
    if not isinstance(name, str):
        raise ModelError("a layer's name is no text", where=where, got=repr(name)[:80])
    return Layer(name, entry["class_name"], config)


def _sequential(layers: dict[str, Layer]) -> Net:
    inputs = [layer.name for layer in layers.values() if layer.kind == INPUT]
    first = inputs[0] if inputs else "input"
    at, calls = Key(first, 0, 0), []
    for layer in layers.values():
        if layer.kind != INPUT:
            calls.append(Call(layer.name, 0, (at,)))
            at = Key(layer.name, 0, 0)
    return Net(layers, tuple(calls), {first: Key(first, 0, 0)}, {at.layer: at})


def _functional(config: dict[str, Any], entries: Sequence[dict[str, Any]], layers: dict[str, Layer], where: str) -> Net:
    calls: list[Call] = []
    for entry, layer in zip(entries, layers.values(), strict=True):
        nodes = entry.get("inbound_nodes", [])
        if not isinstance(nodes, list):
            raise ModelError("the calls of a layer are malformed", where=f"{where}, layer {layer.name}", got=repr(nodes)[:80])
        if layer.kind == INPUT:
            continue
        for number, node in enumerate(nodes):
            place = f"{where}, layer {layer.name}"
            operands, extra = _new(node, place) if isinstance(node, dict) else _old(node, place)
            calls.append(Call(layer.name, number, tuple(operands), extra))
    if len(calls) > MAX_CALLS:
        raise ModelError("the model has too many calls", where=where, got=len(calls), expected=f"at most {MAX_CALLS}")
    ends = [_ends(config.get(name), f"{where}, {name}") for name in ("input_layers", "output_layers")]
    read = [key for call in calls for key in keys_of((call.operands, call.extra))] + list(ends[1].values())
    return Net(layers, tuple(_counted(call, calls, layers, read) for call in calls), {key.layer: key for key in ends[0].values()}, ends[1])


def _counted(call: Call, calls: Sequence[Call], layers: dict[str, Layer], read: Sequence[Key]) -> Call:
    """A call of a model counts from 1 on where Keras counts its own making as call 0; what reads it tells."""
    layer = layers[call.layer]
    if not is_model(layer.kind, layer.config):
        return call
    count = sum(c.layer == call.layer for c in calls)
    first = 1 if any(key.layer == call.layer and key.call == count for key in read) else 0
    return Call(call.layer, call.number + first, call.operands, call.extra)


def keys_of(value: Any) -> list[Key]:
    """The tensors in a structure."""
    return [v for v in leaves(value) if isinstance(v, Key)]


def leaves(value: Any) -> list[Any]:
    """What lists and objects consist of in the end."""
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in leaves(v)]
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    return [value]


def _ends(given: Any, where: str) -> dict[str, Key]:
    """Inputs or outputs: [layer, call, result], a list or an object of such; by names."""
    if isinstance(given, list) and len(given) == 3 and isinstance(given[0], str):
        given = [given]
    pairs = list(given.items()) if isinstance(given, dict) else [(None, g) for g in given] if isinstance(given, list) else []
    found: dict[str, Key] = {}
    for name, entry in pairs:
        key = _key(entry, where)
        name = name or key.layer
        number = 1
        while name in found:
            name, number = f"{key.layer}_{number}", number + 1
        found[name] = key
    if not found:
        raise ModelError("the model has no inputs or outputs", where=where, got=repr(given)[:80])
    return found


def _key(entry: Any, where: str) -> Key:
    if not isinstance(entry, (list, tuple)) or len(entry) < 3 or not isinstance(entry[0], str) or not all(isinstance(n, int) and n >= 0 for n in entry[1:3]):
        raise ModelError("a tensor is malformed", where=where, got=repr(entry)[:80], expected="[layer, call, result]")
    return Key(entry[0], entry[1], entry[2])


def _new(node: dict[str, Any], where: str) -> tuple[list[Any], dict[str, Any]]:
    """A call as Keras 3 writes it."""
    args, kwargs = node.get("args", []), node.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ModelError("a call is malformed", where=where, got=sorted(node)[:8], expected="args and kwargs")
    operands: list[Any] = []
    for arg in args:
        found = _plain(arg, where, 0)
        operands += found if isinstance(found, list) and _has_key(found) else [found]
    return operands, {name: _plain(value, where, 0) for name, value in kwargs.items()}


def _has_key(values: list[Any]) -> bool:
    return any(isinstance(v, Key) or (isinstance(v, list) and _has_key(v)) for v in values)


def _plain(value: Any, where: str, depth: int) -> Any:
    """An argument with its tensors as Keys; lists and slices in it."""
    if depth > MAX_DEPTH:
        raise ModelError("an argument is nested too deep", where=where)
    if isinstance(value, list):
        return [_plain(v, where, depth + 1) for v in value]
    if not isinstance(value, dict):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind == "__keras_tensor__" and isinstance(config, dict):
        return _key(config.get("keras_history"), where)
    if kind in ("__tuple__", "__list__") and isinstance(config, dict | list):
        return _plain(config if isinstance(config, list) else list(config.values()), where, depth + 1)
    if kind == "__numpy__" and isinstance(config, dict):
        return _plain(config.get("value"), where, depth + 1)
    if kind == "slice" or kind == "__slice__":
        return _cut(config, where)
    if "class_name" in value:
        return value
    return {k: _plain(v, where, depth + 1) for k, v in value.items()}


def _cut(config: Any, where: str) -> slice:
    parts = [config.get(k) for k in ("start", "stop", "step")] if isinstance(config, dict) else config
    if not isinstance(parts, list) or len(parts) != 3 or not all(p is None or isinstance(p, int) for p in parts):
        raise ModelError("a slice is malformed", where=where, got=repr(config)[:80])
    return slice(*parts)


def _old(node: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    """A call as Keras 2 writes it: an operand, or a list of them, each with further arguments."""
    if isinstance(node, list) and node and isinstance(node[0], str):
        node = [node]
    if not isinstance(node, list) or not node:
        raise ModelError("a call is malformed", where=where, got=repr(node)[:80], expected="[[layer, call, result, arguments], ...]")
    operands: list[Any] = []
    extra: dict[str, Any] = {}
    for entry in node:
        if isinstance(entry, list) and len(entry) >= 3 and entry[0] == "_CONSTANT_VALUE":
            operands.append(entry[2])
        else:
            operands.append(_key(entry, where))
        given = entry[3] if isinstance(entry, list) and len(entry) > 3 else {}
        if not isinstance(given, dict):
            raise ModelError("the arguments of a call are malformed", where=where, got=repr(given)[:80])
        extra.update({name: _argument(value, where) for name, value in given.items()})
    return operands, extra


def _argument(value: Any, where: str) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], str) and len(value) in (3, 4) and all(isinstance(n, int) for n in value[1:3]):
        return _key(value, where)
    if isinstance(value, list) and value and all(isinstance(v, list) and v and isinstance(v[0], str) for v in value):
        return [_argument(v, where) for v in value]
    return value
