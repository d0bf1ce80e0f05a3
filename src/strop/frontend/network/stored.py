"""Networks of layers as files, which C++ programs write, too (``compat/tensorrt/include/NvInfer.h``), and as graphs.

A file is ``STROPNET``, the size of what follows as u64, and JSON, then the bytes of arrays. The JSON has

    name, implicit_batch, batch (the largest implicit one), outputs: [tensor, ...]
    inputs:  [{name, dtype, shape, axes: {axis: name of a free one}}, ...]
    groups:  [{kind: Loop or Conditional, name}, ...]
    layers:  [{kind, name, inputs: [tensor or null, ...], outputs: [tensor, ...], fields: {name: value}}, ...]

where a value is a number, a text, a list, null, ``{"array": [offset, dtype, shape]}``, ``{"group": number}``, or ``{"items": [[key, value], ...]}``.
Numbers are little-endian; offsets count from the first byte behind the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from strop.errors import ModelError, OptionError, StropError, UnsupportedError
from strop.files import replacing
from strop.frontend import network as nw
from strop.frontend.network.control import Conditional, Loop, LoopResult, Recurrence, TripLimit
from strop.frontend.network.imported import ImportedNode
from strop.frontend.network.layer import Layer, Tensor
from strop.frontend.network.network import Network, Range
from strop.frontend.verdicts import Verdict
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.ranges import Free, parse_shape

MAGIC = b"STROPNET"
_HEAD = len(MAGIC) + 8
_KINDS: dict[str, type[Layer]] = {
    found.kind: found for name in nw.__all__ if isinstance(found := getattr(nw, name), type) and issubclass(found, Layer) and not issubclass(found, ImportedNode)
}
_GROUPS: dict[str, type[Loop | Conditional]] = {"Loop": Loop, "Conditional": Conditional}

# ---- writing


def save(network: Network, path: str | Path, *, batch: int = 1) -> None:
    """Writes a network to a file; ``batch`` is the largest implicit batch. Errors as ``dumps``, and ModelError where it cannot be written."""
    data = dumps(network, batch=batch)
    try:
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ModelError("the network cannot be written", where=str(path), got=error.strerror) from error


def dumps(network: Network, *, batch: int = 1) -> bytes:
    """A network as the bytes of a file.

    Raises:
        UnsupportedError: it has nodes of a model that was read, or custom layers.
    """
    writer = _Writer()
    rows = [writer.layer(layer) for layer in network.layers]
    text = json.dumps(
        {
            "name": network.name,
            "implicit_batch": network.implicit_batch,
            "batch": batch,
            "inputs": [_input(network, tensor) for tensor in network.inputs],
            "groups": [{"kind": type(g).__name__, "name": getattr(g, "name", "")} for g in writer.groups],
            "layers": rows,
            "outputs": [tensor.name for tensor in network.outputs],
        }
    ).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text + b"".join(writer.blobs)


def _input(network: Network, tensor: Tensor) -> dict[str, Any]:
    dtype, shape = network.declared(tensor)
    return {"name": tensor.name, "dtype": dtype.name, "shape": list(shape), "axes": {str(k): v for k, v in tensor.axis_names.items()}}


@dataclass
class _Writer:
    blobs: list[bytes] = field(default_factory=list)
    groups: list[Loop | Conditional] = field(default_factory=list)
    size: int = 0

    def layer(self, layer: Layer) -> dict[str, Any]:
        if layer.kind not in _KINDS:
            raise UnsupportedError("this kind of layer cannot be stored", where=layer.name, got=layer.kind, expected="layers of strop.layers")
        return {
            "kind": layer.kind,
            "name": layer.name,
            "inputs": [None if t is None else t.name for t in layer.inputs],
            "outputs": [t.name for t in layer.outputs],
            "fields": {f.name: self.value(getattr(layer, f.name)) for f in fields(layer)},  # type: ignore[arg-type]
        }

    def value(self, value: Any) -> Any:
        if isinstance(value, (Loop, Conditional)):
            if value not in self.groups:
                self.groups.append(value)
            return {"group": self.groups.index(value)}
        if isinstance(value, dict):
            return {"items": [[list(k), self.value(v)] for k, v in value.items()]}
        if isinstance(value, np.ndarray):
            data = np.ascontiguousarray(value)
            offset, self.size = self.size, self.size + data.nbytes
            self.blobs.append(data.tobytes())
            return {"array": [offset, dt.from_numpy(data.dtype).name, list(value.shape)]}
        if isinstance(value, (list, tuple)):
            return [self.value(v) for v in value]
        return value.item() if isinstance(value, np.generic) else value


# ---- reading


def load(source: str | Path | bytes) -> tuple[Network, int]:
    """A network of a file or of its bytes, and the largest implicit batch.

    Raises:
        ModelError: the file cannot be read, or is no such file or an inconsistent one.
        StropError: as ``Network.add``.
    """
    where = "the given bytes" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ModelError("the network cannot be read", where=where, got=error.strerror) from error
    size = int.from_bytes(data[len(MAGIC) : _HEAD], "little")
    if data[: len(MAGIC)] != MAGIC or size > len(data) - _HEAD:
        raise ModelError("not a network of layers, or a truncated one", where=where, got=f"{len(data)} bytes")
    try:
        facts = json.loads(data[_HEAD : _HEAD + size])
        return _Reader(facts, data[_HEAD + size :]).network(), int(facts["batch"])
    except StropError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError("the network is inconsistent", where=where, got=f"{type(error).__name__}: {error}") from error


class _Reader:
    def __init__(self, facts: dict[str, Any], blob: bytes) -> None:
        self._facts, self._blob = facts, blob
        self._made = Network(str(facts["name"]), implicit_batch=bool(facts["implicit_batch"]))
        self._groups = [_group(self._made, row) for row in facts["groups"]]

    def network(self) -> Network:
        made = self._made
        for row in self._facts["inputs"]:
            tensor = made.add_input(str(row["name"]), str(row["dtype"]), [int(d) for d in row["shape"]])
            tensor.axis_names = {int(k): str(v) for k, v in row["axes"].items()}
        later: list[tuple[Layer, int, Any]] = []
        for row in self._facts["layers"]:
            cls = _KINDS.get(row["kind"])
            if cls is None:
                raise ModelError("unknown kind of layer", where=row["name"], got=row["kind"], expected=", ".join(sorted(_KINDS)))
            layer = cls(**{name: self._value(value) for name, value in row["fields"].items()})
            made.add(layer, *(None if n is None else made.tensor(n) for n in row["inputs"]), name=str(row["name"]))
            later += [(layer, k, n) for k, n in enumerate(row["inputs"]) if n is not None and layer.inputs[k] is None]
            _join(layer)
            for tensor, name in zip(layer.outputs, row["outputs"], strict=True):
                tensor.name = str(name)
        for layer, index, name in later:  # operands that were given after what they are computed from
            layer.set_input(index, self._tensor(name))
        for name in self._facts["outputs"]:
            made.mark_output(self._tensor(name))
        return made

    def _tensor(self, name: Any) -> Tensor:
        found = self._made.tensor(name)
        if found is None:
            raise ModelError("no tensor has this name", got=name)
        return found

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._value(v) for v in value)
        if not isinstance(value, dict):
            return value
        if "group" in value:
            return self._groups[int(value["group"])]
        if "items" in value:
            return {tuple(k): self._value(v) for k, v in value["items"]}
        offset, name, shape = value["array"]
        dtype = dt.BY_NAME[name].numpy
        count = int(np.prod(shape, dtype=np.int64))
        if min(shape, default=0) < 0 or offset < 0 or offset + count * dtype.itemsize > len(self._blob):
            raise ModelError("an array leaves the file", got=value, expected=f"within {len(self._blob)} bytes")
        return np.frombuffer(self._blob, dtype, count, offset).reshape(shape)


def _group(network: Network, row: dict[str, Any]) -> Loop | Conditional:
    return Loop(network, str(row["name"])) if _GROUPS[row["kind"]] is Loop else Conditional(network)


def _join(layer: Layer) -> None:
    """Tells a loop or a conditional of a layer."""
    if isinstance(layer, TripLimit):
        layer.loop.limits.append(layer)
    elif isinstance(layer, Recurrence):
        layer.loop.recurrences.append(layer)
    elif isinstance(layer, LoopResult):
        layer.loop.results.append(layer)
    elif isinstance(layer, nw.Condition):
        layer.branch.condition = layer
    elif isinstance(layer, nw.ConditionalInput):
        layer.branch.inputs.append(layer)
    elif isinstance(layer, nw.ConditionalOutput):
        layer.branch.outputs.append(layer)


# ---- as a frontend


def graph_of(network: Network, shapes: Mapping[str, Any] | None = None, *, batch: int = 1) -> Graph:
    """The graph of a network.

    Args:
        network: the network.
        shapes: shapes and ranges of inputs by name, see ``strop.ir.ranges``; for every input with free axes.
        batch: the largest implicit batch.

    Raises:
        OptionError: ``shapes`` names no input, or cannot be read.
        StropError: as ``Network.to_graph``.
    """
    known = {tensor.name: tensor for tensor in network.inputs}
    ranges: dict[str, Range] = {}
    for name, given in (shapes or {}).items():
        if name not in known:
            raise OptionError("the network has no such input", where=f"shapes['{name}']", expected=", ".join(known))
        ranges[name] = _range(known[name], parse_shape(given, f"shapes['{name}']"))
    return network.to_graph(ranges, batch=batch)


def _range(tensor: Tensor, dims: Sequence[Any]) -> Range:
    found: tuple[list[int], list[int], list[int]] = ([], [], [])
    for axis, dim in enumerate(dims):
        if isinstance(dim, Free):
            if dim.step != 1:
                raise OptionError("axes of layers are no multiples", where=f"shapes['{tensor.name}']", got=f"%{dim.step}")
            if dim.name:
                tensor.axis_names[axis] = dim.name
            limits = (1 if dim.least is None else dim.least, dim.opt, dim.most)
        elif isinstance(dim, int):
            limits = (dim, dim, dim)
        else:
            raise OptionError("a size of an input is no number", where=f"shapes['{tensor.name}']", got=dim)
        for part, limit in zip(found, limits, strict=True):
            part.append(limit)
    return found


def read(model: str | Path | bytes, shapes: Mapping[str, Any] | None = None) -> Graph:
    """The graph of a file. Arguments and errors as ``load`` and ``graph_of``."""
    network, batch = load(model)
    try:
        return graph_of(network, shapes, batch=batch)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelError("the network is inconsistent", where=network.name, got=f"{type(error).__name__}: {error}") from error


def judge(model: str | Path | bytes, shapes: Mapping[str, Any] | None = None) -> tuple[list[Verdict], Graph]:
    """Every node of a file, and its graph. Arguments and errors as ``read``."""
    graph = read(model, shapes)
    return [Verdict(node.name, node.op.label, 0, True) for node in graph.nodes], graph
