"""Text of a graph: one line per node, printed by ``show`` and read back by ``parse``.

::

    graph "name"
    symbol batch = 1..8 opt 4
    input %x : f32[batch,3,8,8]
    const %w : f32[4,3,3,3] = #0b5c...
    const %two : f32[] = [2.0]
    %y : f32[batch,4,6,6] = conv(%x, %w) {strides=[1,1], groups=1} @ "Conv_0"
    %z : f32[batch,4,6,6] = mul(%y, %two) as "scaled" @ "Mul_0", "Div_3"
    output %z as "result"

A name that is not a plain word is a JSON string. ``as`` gives a node's name where it is not its first
result's; ``@`` gives its provenance. A constant of at most 16 elements is written out; a larger one, or one
with a NaN, by ``digest`` of its content. The text may come from an engine file and is not trusted:
``parse`` answers with a Graph or a ModelError that names the line.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from strop.errors import GraphError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op, Type, dims_in
from strop.ir.parse import RESERVED, SIGNS, parse
from strop.ir.shape import Dim, DimExpr, Sym

__all__ = [
    "by_digest",
    "digest",
    "parse",
    "show",
    "show_attribute",
    "show_attributes",
    "show_dim",
    "show_node",
    "show_type",
    "show_value",
    "written_out",
]

INLINE = 16  # elements up to which a constant is written out

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VALUE_WORD = re.compile(r"[A-Za-z0-9_./-]+\Z")
_digests: dict[int, tuple[weakref.ref[Array], str]] = {}


def digest(array: Array) -> str:
    """Content hash of dtype, shape and elements: 32 hexadecimal digits, remembered per array object."""
    known = _digests.get(id(array))
    if known is not None and known[0]() is array:
        return known[1]
    type = Type(dt.from_numpy(array.dtype), array.shape)
    hasher = hashlib.sha256(str(type).encode())
    hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    text = hasher.hexdigest()[:32]
    key = id(array)
    _digests[key] = (weakref.ref(array, lambda _: _digests.pop(key, None)), text)
    return text


def by_digest(graph: Graph) -> dict[str, Array]:
    """The constants that ``show`` does not write out, by digest: what ``parse`` needs beside the text."""
    arrays = [v.const for v in graph.constants() if v.const is not None]
    return {digest(a): a for a in arrays if not written_out(a)}


def written_out(array: Array) -> bool:
    """True when ``show`` prints the elements of a constant."""
    if array.size > INLINE:
        return False
    return not dt.from_numpy(array.dtype).is_float or not bool(
        np.isnan(array.astype(np.float64)).any()
    )


# ---- printing


def show(graph: Graph) -> str:
    """The text of a graph; ``parse`` gives back an equal one."""
    lines = [f"graph {json.dumps(graph.name)}"]
    lines += [f"symbol {_word(s.name)} = {s.min}..{s.max} opt {s.opt}" for s in _symbols(graph)]
    lines += [f"input {show_value(v)}" for v in graph.inputs]
    for value in graph.constants():
        assert value.const is not None
        lines.append(f"const {show_value(value)} = {_content(value.const)}")
    lines += [show_node(node) for node in graph.nodes]
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        lines.append(f"output {_ref(value)} as {json.dumps(name)}")
    return "\n".join(lines) + "\n"


def show_node(node: Node) -> str:
    """The line of one node."""
    results = ", ".join(show_value(v) for v in node.outputs)
    operands = ", ".join("none" if v is None else _ref(v) for v in node.inputs)
    text = f"{results} = {_word(node.op.label)}({operands})" + show_attributes(node.op)
    if node.name != node.outputs[0].name:
        text += f" as {json.dumps(node.name)}"
    if node.source:
        text += " @ " + ", ".join(json.dumps(s) for s in node.source)
    return text


def show_attributes(op: Op) -> str:
    """`` {name=value, ...}`` with every attribute, or nothing for an op without any."""
    pairs: list[tuple[str, Any]] = []
    for name, value in op.attributes().items():
        if op.label != op.name and name == "fn":
            continue  # the label says it
        pairs += value if name == "params" else [(name, value)]
    inner = ", ".join(f"{name}={show_attribute(value)}" for name, value in pairs)
    return f" {{{inner}}}" if inner else ""


def show_attribute(value: Any) -> str:
    """Text of an attribute value: number, bool, string, dtype, dim, tuple or None."""
    if value is None:
        return "none"
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, (Sym, DimExpr)):
        return show_dim(value)
    if isinstance(value, tuple):
        return "[" + ",".join(show_attribute(item) for item in value) + "]"
    if isinstance(value, Op):  # printed only: no op that a graph is read with has one
        return f"{value.label}{show_attributes(value)}"
    raise GraphError("an attribute value has no text form", got=f"{type(value).__name__} {value!r}")


def show_dim(dim: Dim) -> str:
    """``3``, ``batch``, ``(h+1)``, ``max(h,w)``."""
    if isinstance(dim, int):
        return str(dim)
    if isinstance(dim, Sym):
        return _word(dim.name)
    args = [show_dim(arg) for arg in dim.args]
    return f"({SIGNS[dim.op].join(args)})" if dim.op in SIGNS else f"{dim.op}({','.join(args)})"


def show_type(type: Type) -> str:
    """``f32[batch,3,8,8]``"""
    return f"{type.dtype}[{','.join(map(show_dim, type.shape))}]"


def show_value(value: Value) -> str:
    """``%name : type``"""
    return f"{_ref(value)} : {show_type(value.type)}"


def _ref(value: Value) -> str:
    return "%" + (value.name if _VALUE_WORD.match(value.name) else json.dumps(value.name))


def _word(name: str) -> str:
    return name if _WORD.match(name) and name not in RESERVED else json.dumps(name)


def _content(array: Array) -> str:
    if not written_out(array):
        return "#" + digest(array)
    return "[" + ",".join(_element(item) for item in array.reshape(-1)) + "]"


def _element(item: Any) -> str:
    if dt.from_numpy(item.dtype).is_float:
        short = str(item) if item.dtype == np.float32 and math.isfinite(item) else ""
        exact = short and np.float32(float(short)) == item  # printing in f32 needs fewer digits
        return repr(float(short)) if exact else repr(float(item))
    return show_attribute(item)


def _symbols(graph: Graph) -> list[Sym]:
    found: dict[str, Sym] = {}
    for symbol in sh.symbols(_dims(graph)):
        if found.setdefault(symbol.name, symbol) != symbol:
            raise GraphError("two symbols have one name", where=graph.name, got=symbol.name)
    return list(found.values())


def _dims(graph: Graph) -> Iterable[Dim]:
    for value in graph.values.values():
        yield from value.shape
    for node in graph.nodes:
        for attribute in node.op.attributes().values():
            yield from dims_in(attribute)
