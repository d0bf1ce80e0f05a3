"""Reads the text of a graph (grammar: ``strop.ir.text``). The text is not trusted.

A hand-written tokenizer and recursive descent: nothing is evaluated, nesting, lengths and numbers are
bounded, attributes are checked against the op class's declared field types, and every result type that
the text states must be the one that the op infers.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Union

import numpy as np

from strop.errors import ModelError, StropError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Value
from strop.ir.op import REGISTRY, Array, Op, Type
from strop.ir.shape import Dim, DimExpr, Sym

SIGNS = {"add": "+", "mul": "*", "floordiv": "//"}
CALLS = ("mod", "min", "max")  # DimExprs that print as calls
RESERVED = frozenset({"true", "false", "none", "inf", "nan", "opt", "as", *CALLS})

MAX_TEXT = 1 << 28  # characters
MAX_LINES = 1 << 20
MAX_DEPTH = 32  # brackets within brackets
MAX_ITEMS = 1 << 16  # of one list
MAX_DIM = 1 << 48

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<digest>\#[0-9a-f]{1,64}(?![0-9A-Za-z]))
    |(?P<float>-?[0-9]{1,400}(?:\.[0-9]{1,400}(?:e[+-]?[0-9]{1,4})?|e[+-]?[0-9]{1,4})(?![0-9A-Za-z.]))
    |(?P<range>\.\.)
    |(?P<int>-?[0-9]{1,20}(?![0-9A-Za-z]|\.[0-9]))
    |(?P<value>%(?:[A-Za-z0-9_./-]+|"(?:[^"\\]|\\.)*"))
    |(?P<word>-?[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>//|[][(){}=,:@+*])""",
    re.VERBOSE,
)


def parse(text: str, constants: Mapping[str, Array]) -> Graph:
    """The graph that a text describes.

    Args:
        text: what ``strop.ir.text.show`` printed.
        constants: arrays by digest for the constants that the text does not write out.

    Raises:
        ModelError: the text is malformed, inconsistent, or needs a constant that is not there. The
            line is named.
    """
    if len(text) > MAX_TEXT:
        raise ModelError("graph text is too long", got=len(text), expected=f"at most {MAX_TEXT}")
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        raise ModelError("graph text has too many lines", got=len(lines), expected=MAX_LINES)
    reader = _Reader(constants)
    for number, line in enumerate(lines, 1):
        try:
            reader.line(line)
        except _Bad as bad:
            where = f"graph text, line {number}"
            raise ModelError(bad.what, where=where, got=bad.got, expected=bad.expected) from None
        except StropError as error:
            where = f"graph text, line {number}"
            raise ModelError(
                f"the text does not describe a valid graph: {error.what}",
                where=where if error.where is None else f"{where}, {error.where}",
                got=error.got,
                expected=error.expected,
                hint=error.hint,
            ) from error
    if not reader.started:
        raise ModelError("graph text is empty", expected='graph "name"')
    return reader.finish()


class _Bad(Exception):
    """A problem in the current line."""

    def __init__(self, what: str, got: object = None, expected: object = None) -> None:
        super().__init__(what)
        self.what, self.got, self.expected = what, got, expected


# ---- tokens


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True)
class _Name:
    """A bare word as an attribute value: a dtype, a symbol or a literal such as ``inf``."""

    text: str


@dataclass(frozen=True)
class _Math:
    """A dim expression as an attribute value, before its symbols are known."""

    op: str
    args: tuple[Any, Any]


_END = _Token("end", "end of line")


def _tokens(line: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(line):
        match = _TOKEN.match(line, at)
        if match is None:
            raise _Bad("unexpected character", got=line[at : at + 20])
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(_Token(kind, match.group()))
        at = match.end()
    return found


class _Cursor:
    """The tokens of one line, read from the left."""

    def __init__(self, line: str) -> None:
        self.tokens = _tokens(line)
        self.at = 0
        self.depth = 0

    def peek(self) -> _Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def next(self, kind: str, what: str) -> str:
        token = self.peek()
        if token.kind != kind:
            raise _Bad("unexpected text", got=token.text, expected=what)
        self.at += 1
        return token.text

    def accept(self, text: str) -> bool:
        token = self.peek()
        if token.text != text or token.kind not in ("sign", "word", "range"):
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise _Bad("unexpected text", got=self.peek().text, expected=text)

    def end(self) -> None:
        if self.peek() is not _END:
            raise _Bad("unexpected text", got=self.peek().text, expected="end of line")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Bad("brackets are nested too deep", expected=f"at most {MAX_DEPTH}")

    def string(self) -> str:
        return _unquote(self.next("string", "a quoted string"))

    def word(self) -> str:
        if self.peek().kind == "string":
            return self.string()
        return self.next("word", "a name")

    def integer(self) -> int:
        return int(self.next("int", "an integer"))

    def value_name(self) -> str:
        text = self.next("value", "a value such as %x")[1:]
        return _unquote(text) if text.startswith('"') else text


def _unquote(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        raise _Bad("malformed string", got=text[:40]) from None
    assert isinstance(found, str)
    return found


# ---- values of attributes, dims, types


def _attribute(cursor: _Cursor) -> Any:
    """A number, string, bare word, dim expression or list, not yet given a type."""
    token = cursor.peek()
    if token.kind == "int":
        return cursor.integer()
    if token.kind == "float":
        return float(cursor.next("float", "a number"))
    if token.kind == "string":
        return cursor.string()
    if cursor.accept("["):
        return _list(cursor)
    if token.kind == "word" and token.text not in CALLS:
        return _Name(cursor.next("word", "a word"))
    return _dim_expression(cursor)


def _list(cursor: _Cursor) -> tuple[Any, ...]:
    cursor.enter()
    items: list[Any] = []
    while not cursor.accept("]"):
        if items:
            cursor.expect(",")
        items.append(_attribute(cursor))
        if len(items) > MAX_ITEMS:
            raise _Bad("a list is too long", expected=f"at most {MAX_ITEMS} items")
    cursor.depth -= 1
    return tuple(items)


def _dim_expression(cursor: _Cursor) -> _Math:
    cursor.enter()
    op = next((op for op in CALLS if cursor.accept(op)), None)
    cursor.expect("(")
    first = _attribute(cursor)
    if op is None:
        op = next((name for name, sign in SIGNS.items() if cursor.accept(sign)), None)
        if op is None:
            raise _Bad("unexpected text", got=cursor.peek().text, expected="+, * or //")
    else:
        cursor.expect(",")
    second = _attribute(cursor)
    cursor.expect(")")
    cursor.depth -= 1
    return _Math(op, (first, second))


def _dim(raw: Any, symbols: Mapping[str, Sym]) -> Dim:
    if isinstance(raw, (bool, float, tuple)):
        raise _Bad("not a dim", got=raw, expected="an integer or a symbol")
    if isinstance(raw, int):
        if abs(raw) > MAX_DIM:
            raise _Bad("a dim is out of range", got=raw, expected=f"at most {MAX_DIM}")
        return raw
    if isinstance(raw, _Math):
        return DimExpr(raw.op, (_dim(raw.args[0], symbols), _dim(raw.args[1], symbols)))
    name = raw.text if isinstance(raw, _Name) else str(raw)
    if name not in symbols:
        raise _Bad("unknown symbol", got=name, expected=", ".join(symbols) or "no symbols")
    return symbols[name]


def _dtype(name: str) -> DType:
    if name not in dt.BY_NAME:
        raise _Bad("unknown dtype", got=name, expected=", ".join(dt.BY_NAME))
    return dt.BY_NAME[name]


# ---- giving attributes their declared types


@cache
def _fields(cls: Any) -> dict[str, Any]:
    """Attribute names and declared types of an op class."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _coerce(raw: Any, kind: Any, symbols: Mapping[str, Sym], where: str) -> Any:
    """``raw`` as a value of the declared type ``kind``."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if DimExpr in args:
        return _dim(raw, symbols)
    if origin in (Union, types.UnionType):
        for choice in args:
            try:
                return _coerce(raw, choice, symbols, where)
            except _Bad:
                continue
    elif origin is tuple and isinstance(raw, tuple):
        kinds = [args[0]] * len(raw) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) == len(raw):
            return tuple(_coerce(r, k, symbols, where) for r, k in zip(raw, kinds, strict=True))
    elif origin is typing.Literal and raw in args:
        return raw
    else:
        found = _scalar(raw, kind)
        if found is not _NO:
            return found
    shown = raw.text if isinstance(raw, _Name) else raw
    raise _Bad(f"attribute {where} has the wrong type", got=shown, expected=_show_kind(kind))


_NO = object()


def _scalar(raw: Any, kind: Any) -> Any:
    word = raw.text if isinstance(raw, _Name) else None
    if kind is bool and word in ("true", "false"):
        return word == "true"
    if kind is type(None) and word == "none":
        return None
    if kind is DType and word in dt.BY_NAME:
        return dt.BY_NAME[word]
    if kind is float and word in ("inf", "-inf", "nan"):
        return float(word)
    if kind is float and isinstance(raw, (int, float)):
        return float(raw)
    if kind in (int, str) and isinstance(raw, kind):
        return raw
    return _NO


def _show_kind(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def make_op(label: str, given: Mapping[str, Any], symbols: Mapping[str, Sym]) -> Op:
    """The op that a label and raw attributes stand for. A label that is no class name is an elementwise
    function's: the class named ``elementwise`` takes it as ``fn`` and the attributes as ``params``.
    """
    if label in REGISTRY and label != "elementwise":
        cls = REGISTRY[label]
        fields = _fields(typing.cast(Hashable, cls))
        unknown = [name for name in given if name not in fields]
        if unknown:
            raise _Bad(
                f"{label} has no attribute {unknown[0]}", expected=", ".join(fields) or "none"
            )
        values = {k: _coerce(v, fields[k], symbols, f"{label}.{k}") for k, v in given.items()}
    elif "elementwise" in REGISTRY:
        cls = REGISTRY["elementwise"]
        typing.cast(Any, cls)(fn=label)  # refused before its attributes are
        params = [(k, _coerce(v, float, symbols, f"{label}.{k}")) for k, v in given.items()]
        values = {"fn": label, "params": tuple(params)}
    else:
        raise _Bad("unknown op", got=label)
    try:
        return cls(**values)
    except TypeError as error:
        raise _Bad(f"the attributes of {label} are incomplete", got=str(error)) from None


# ---- lines


class _Reader:
    """Builds a graph line by line."""

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self.constants = constants
        self.graph = Graph()
        self.started = False
        self.symbols: dict[str, Sym] = {}
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.node_names: set[str] = set()

    def line(self, text: str) -> None:
        cursor = _Cursor(text)
        token = cursor.peek()
        if token is _END:
            return
        if token.kind == "value":
            if self.outputs:
                raise _Bad("a node after the outputs")
            self._node(cursor)
        else:
            word = cursor.next("word", "graph, symbol, input, const, output or a node")
            if (word == "graph") == self.started:
                raise _Bad("unexpected text", got=word, expected="one graph line, first")
            match word:
                case "graph":
                    self.graph.name, self.started = cursor.string(), True
                case "symbol":
                    self._symbol(cursor)
                case "input":
                    name, type = self._declared(cursor)
                    self.graph.add_input(name, type)
                case "const":
                    self._const(cursor)
                case "output":
                    self.outputs.append(self._value(cursor.value_name()))
                    cursor.expect("as")
                    self.output_names.append(cursor.string())
                case _:
                    raise _Bad("unexpected text", got=word, expected="graph, symbol, input, ...")
        cursor.end()

    def finish(self) -> Graph:
        if not self.outputs:
            raise ModelError("graph text has no output line", where="end of graph text")
        self.graph.set_outputs(self.outputs, self.output_names)
        return self.graph

    def _value(self, name: str) -> Value:
        found = self.graph.values.get(name)
        if found is None:
            raise _Bad("value is not defined above", got="%" + name)
        return found

    def _declared(self, cursor: _Cursor) -> tuple[str, Type]:
        name = cursor.value_name()
        if not self.started:
            raise _Bad("unexpected text", got="%" + name, expected='graph "name"')
        if name in self.graph.values or not name:
            raise _Bad("value name is taken or empty", got="%" + name)
        cursor.expect(":")
        dtype = _dtype(cursor.next("word", "a dtype"))
        cursor.expect("[")
        shape = tuple(_dim(raw, self.symbols) for raw in _list(cursor))
        if len(shape) > 64 or any(isinstance(dim, int) and dim < 0 for dim in shape):
            raise _Bad("a shape is out of range", got=sh.show(shape))
        return name, Type(dtype, shape)

    def _symbol(self, cursor: _Cursor) -> None:
        name = cursor.word()
        if name in self.symbols:
            raise _Bad("symbol is declared twice", got=name)
        cursor.expect("=")
        low = cursor.integer()
        cursor.expect("..")
        high = cursor.integer()
        cursor.expect("opt")
        opt = cursor.integer()
        if not 0 <= low <= opt <= high <= MAX_DIM:
            raise _Bad("a symbol's bounds are out of order", got=f"{low}..{high} opt {opt}")
        self.symbols[name] = Sym(name, low, opt, high)

    def _const(self, cursor: _Cursor) -> None:
        name, type = self._declared(cursor)
        if not sh.is_static(type.shape):
            raise _Bad("a constant's shape must be static", got=sh.show(type.shape))
        cursor.expect("=")
        if cursor.peek().kind == "digest":
            key = cursor.next("digest", "a digest")[1:]
            if key not in self.constants:
                raise _Bad("a constant is missing", got="#" + key)
            array = self.constants[key]
            if Type(dt.from_numpy(array.dtype), array.shape) != type:
                got = Type(dt.from_numpy(array.dtype), array.shape)
                raise _Bad("a constant has another type", got=got, expected=type)
        else:
            cursor.expect("[")
            array = self._literal(_list(cursor), type)
        self.graph.add_const(array, name)

    def _literal(self, raw: tuple[Any, ...], type: Type) -> Array:
        if len(raw) != type.count:
            raise _Bad("wrong number of elements", got=len(raw), expected=type.count)
        kind = bool if type.dtype is dt.boolean else float if type.dtype.is_float else int
        items = [_coerce(item, kind, {}, "element") for item in raw]
        if kind is int and items:
            limits = np.iinfo(typing.cast("np.dtype[np.integer[Any]]", type.dtype.numpy))
            if min(items) < limits.min or max(items) > limits.max:
                raise _Bad("an element is out of range", got=items, expected=type.dtype)
        with np.errstate(over="ignore"):
            return np.array(items, dtype=type.dtype.numpy).reshape(type.static_shape)

    def _node(self, cursor: _Cursor) -> None:
        results = [self._declared(cursor)]
        while cursor.accept(","):
            results.append(self._declared(cursor))
        cursor.expect("=")
        label = cursor.word()
        inputs = self._operands(cursor)
        given = self._attributes(cursor) if cursor.accept("{") else {}
        op = make_op(label, given, self.symbols)
        names = [name for name, _ in results]
        if len(set(names)) != len(names):
            raise _Bad("value name is taken or empty", got=", ".join(names))
        node_name = cursor.string() if cursor.accept("as") else names[0]
        source = self._sources(cursor) if cursor.accept("@") else []
        if node_name in self.node_names or not node_name:
            raise _Bad("node name is taken or empty", got=node_name)
        self.node_names.add(node_name)
        try:
            node = self.graph.add(op, inputs, name=node_name, source=source, outputs=names)
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            got = ", ".join("none" if v is None else str(v.type) for v in inputs)
            raise _Bad(f"{label} does not take these operands: {error}", got=got) from error
        got_types = [v.type for v in node.outputs]
        if got_types != [type for _, type in results]:
            raise _Bad(
                f"{label} has another result type than stated",
                got=", ".join(str(type) for _, type in results),
                expected=", ".join(map(str, got_types)),
            )

    def _operands(self, cursor: _Cursor) -> list[Value | None]:
        cursor.expect("(")
        inputs: list[Value | None] = []
        while not cursor.accept(")"):
            if inputs:
                cursor.expect(",")
            inputs.append(None if cursor.accept("none") else self._value(cursor.value_name()))
        if inputs and inputs[-1] is None:
            raise _Bad("the last operand is none")
        return inputs

    def _attributes(self, cursor: _Cursor) -> dict[str, Any]:
        given: dict[str, Any] = {}
        while not cursor.accept("}"):
            if given:
                cursor.expect(",")
            name = cursor.next("word", "an attribute name")
            if name in given:
                raise _Bad("attribute is given twice", got=name)
            cursor.expect("=")
            given[name] = _attribute(cursor)
        return given

    def _sources(self, cursor: _Cursor) -> list[str]:
        found = [cursor.string()]
        while cursor.accept(","):
            found.append(cursor.string())
        return found
