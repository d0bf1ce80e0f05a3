"""Custom layers: ops that users define, by name ``domain::type``, beside the built-in ones.

A custom layer is an Op like any other, so graphs, text, oracle, passes and kernels need to know nothing more of it: attributes are the
fields of a frozen dataclass, result types come from ``shape``, the meaning is ``compute``, and C is written by ``emit``, or is in a C
source or a shared library. One that is elementwise is a row of ``strop.ops.elementwise.FUNCTIONS``. Frontends ask ``known`` and ``make``.
``strop.custom`` is what users see.
"""

from __future__ import annotations

import dataclasses
import hashlib
import marshal
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Union

import numpy as np

from strop.errors import CustomError, OptionError, StropError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Expr
from strop.ir.interp import ABSENT
from strop.ir.op import REGISTRY, Array, Op, Type
from strop.ops.elementwise import FUNCTIONS, KINDS, Elementwise, Function

#: How the code of a layer wants its operands and results to lie: as they do, or densely in one order. Constant operands lie row-major.
ANY, ROW_MAJOR, CHANNELS_LAST = "any", "row-major", "channels-last"
LAYOUTS = (ANY, ROW_MAJOR, CHANNELS_LAST)

_NAME = re.compile(r"[A-Za-z_][\w.\-]*::[A-Za-z_][\w.\-]*\Z")
_SYMBOL = re.compile(r"[A-Za-z_]\w*\Z")
_ABSENT_TYPE = Type(dt.f32, (0,))  # what Graph.add and the oracle hand to infer in the place of an operand that is left out


class Declined(Exception):
    """Raised by ``emit``: it has no C for these operands; the text says why."""


@dataclass(frozen=True)
class CArray:
    """A result or operand in C.

    Attributes:
        pointer: C name of the address of its first element.
        shape: ints; where a size is free, something that counts like one and prints as a C name.
        strides: likewise, in elements.
        dtype: of its elements.
        const: its elements, when they are known, in the logical shape.
    """

    pointer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: DType
    const: Array | None = None

    def at(self, *index: str | int) -> str:
        """C text of the element at an index, one C text or number per axis."""
        if len(index) != len(self.shape):
            raise Declined(f"{self.pointer} has {len(self.shape)} axes, not {len(index)}")
        terms = [f"({i}) * {s}" for i, s in zip(index, self.strides, strict=True) if s != 0]
        return f"{self.pointer}[{' + '.join(terms) or '0'}]"


@dataclass
class Code:
    """What ``emit`` sees. The C text that it returns does the tasks ``begin`` to ``end`` of ``layer.tasks(code)``.

    Attributes:
        outputs: the results.
        inputs: the operands; None for one left out.
        isa: name of the instruction set; the text may use its vector names (``vf``, ``VL``, ``vload``, ``vfma`` ...).
        store: C statement that stores a value as the first result's element, through the epilogue of fused ops:
            store(value, index texts...).
        store_vector: the same for ``VL`` f32 values along an axis in which the result is dense, or for the first ``count`` of them:
            store_vector(value, axis, index texts..., count=None).
        scratch: bytes of memory of each thread at ``a->scratch``; set it when you need some.
        helpers: C texts put before the function, such as static functions; add to it.
    """

    outputs: tuple[CArray, ...]
    inputs: tuple[CArray | None, ...]
    isa: str
    store: Callable[..., str]
    store_vector: Callable[..., str]
    scratch: int = 0
    helpers: list[str] = field(default_factory=list)


class Layer(Op):
    """Base of custom layers. Give a subclass its name with ``layer``; its annotated fields are the attributes.

    Class attributes:
        takes: ``any`` (views with strides), ``row-major`` or ``channels-last`` (dense; of tensors with three axes and more, axis 1 innermost).
        pure: equal operands give equal results and nothing else happens: it may be folded, shared and left out.
        fuses: ``emit`` stores f32 results by ``code.store``, so that elementwise ops behind the layer may join it.
        library: path of a shared library that has its kernel, or None.
        source: C text that has its kernel, or "".
        symbol: name of the kernel in ``library`` or ``source``: a ``strop_kernel`` of strop_kernel.h.
        digest: of the code of the class; set by ``layer``.
    """

    takes: ClassVar[str] = ANY
    pure: ClassVar[bool] = True
    fuses: ClassVar[bool] = False
    library: ClassVar[Path | None] = None
    source: ClassVar[str] = ""
    symbol: ClassVar[str] = ""
    digest: ClassVar[str] = ""

    # ---- what users write

    def shape(self, *inputs: Any) -> Type | Sequence[Type]:
        """Result types from operand types (None for one left out). Dims may be symbols: count with ``strop.ir.shape``."""
        raise NotImplementedError("shape")

    def compute(self, *inputs: Any) -> Any:
        """The results in numpy, one array or several; operands are read-only views."""
        raise NotImplementedError("compute")

    def write(self, outputs: Sequence[Array], *inputs: Any) -> None:
        """Computes the results where they belong; without it those of ``compute`` are copied there."""
        for index, (out, got) in enumerate(zip(outputs, self._results(inputs, len(outputs)), strict=True)):
            self._check_result(index, got, Type(dt.from_numpy(out.dtype), out.shape))
            out[...] = got

    def emit(self, code: Code) -> str:
        """C text; Declined when there is none for these operands."""
        raise NotImplementedError("emit")

    def tasks(self, code: Code) -> int:
        """Independent pieces of work that ``emit``'s C, or the kernel, can do on different threads."""
        return 1

    def run_into(self, outputs: Sequence[Array], inputs: Sequence[Array | None]) -> None:
        """``write``, with failures as errors that name the layer."""
        self._call("write", [outputs, *inputs])

    # ---- the contract of Op

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        given = [None if t == _ABSENT_TYPE else t for t in inputs]
        found = self._call("shape", given)
        types = (found,) if isinstance(found, Type) else found
        if not isinstance(types, (tuple, list)) or not types or not all(isinstance(t, Type) for t in types):
            raise self._error("shape gave no types", found, "a Type, or several")
        return tuple(types)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        given = [None if a is ABSENT else _frozen(a) for a in inputs]
        expected = self.infer([Type(dt.from_numpy(a.dtype), a.shape) for a in inputs])
        results = [np.empty(t.static_shape, t.dtype.numpy) for t in expected]
        if self.has("write"):
            self._call("write", [results, *given])
            return tuple(results)
        found = self._results(given, len(expected))
        for index, (got, type) in enumerate(zip(found, expected, strict=True)):
            self._check_result(index, got, type)
        return tuple(found)

    # ---- helpers

    @classmethod
    def has(cls, method: str) -> bool:
        """Whether the class defines one of the methods above itself."""
        return getattr(cls, method) is not getattr(Layer, method)

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self.attributes().items())
        return f"{self.name}#{self.digest}({inner})"

    def _results(self, inputs: Sequence[Any], count: int) -> list[Array]:
        found = self._call("compute", inputs)
        arrays = [np.asarray(a) for a in (found if isinstance(found, (tuple, list)) else (found,))]
        if len(arrays) != count:
            raise self._error("compute gave another number of results than shape", len(arrays), count)
        return arrays

    def _check_result(self, index: int, got: Array, expected: Type) -> None:
        if got.dtype != expected.dtype.numpy or got.shape != expected.shape:
            shown = f"{got.dtype}{list(got.shape)}"
            raise self._error(f"compute gave result {index} of another type than shape", shown, f"{expected.dtype.numpy}{list(expected.shape)}")

    def _call(self, method: str, arguments: Sequence[Any]) -> Any:
        try:
            return getattr(self, method)(*arguments)
        except StropError:
            raise
        except Exception as error:
            told = self._error(f"{method} of the custom layer failed: {type(error).__name__}: {error}", None, None)
            raise told from error

    def _error(self, what: str, got: object, expected: object) -> CustomError:
        return CustomError(what, where=self.name, got=got, expected=expected)


def _frozen(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


# ---- declaring

LayerT = TypeVar("LayerT", bound=type[Layer])


def layer(
    name: str,
    *,
    takes: str = ANY,
    pure: bool = True,
    fuses: bool = False,
    library: str | Path | None = None,
    source: str = "",
    symbol: str = "",
) -> Callable[[LayerT], LayerT]:
    """Class decorator: makes a subclass of Layer the custom layer ``name``; the other arguments are its class attributes.

    Raises:
        OptionError: a name that is no ``domain::type`` or is taken, an unknown layout, a class without shape and compute, or an
            attribute of a type that has no text.
    """

    def declare(cls: LayerT) -> LayerT:
        _check_name(name, cls)
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise OptionError("a custom layer is no subclass of Layer", where=name, got=cls)
        if vars(cls).get("name", name) != name:
            raise OptionError("a class is one custom layer", where=name, got=f"{cls.__name__}, which is {cls.name}", hint="make a subclass")
        missing = [m for m in ("shape",) if not cls.has(m)]
        missing += [] if cls.has("compute") or cls.has("write") else ["compute"]
        if missing:
            raise OptionError("a custom layer lacks a method", where=name, got=cls.__name__, expected=", ".join(missing))
        if takes not in LAYOUTS:
            raise OptionError("unknown layout of a custom layer", where=name, got=takes, expected=", ".join(LAYOUTS))
        if (library is not None or source) and not _SYMBOL.match(symbol):
            raise OptionError("a custom layer in C without the name of its function", where=name, got=repr(symbol), expected="symbol=...")
        if library is not None and source:
            raise OptionError("a custom layer has its C in one place", where=name, got="library and source", expected="one of them")
        cls.takes, cls.pure, cls.fuses = takes, pure, fuses
        cls.library, cls.source, cls.symbol = None if library is None else Path(library).resolve(), source, symbol
        _make_dataclass(cls)
        for attribute, kind in attribute_types(cls).items():
            _check_kind(name, attribute, kind)
        cls.name, cls.digest = name, _digest(cls)
        REGISTRY[name] = cls
        return cls

    return declare


def _make_dataclass(cls: type[Layer]) -> None:
    """Makes frozen dataclasses of the class and of those between it and Layer, so that their annotations are attributes too."""
    for base in reversed(cls.__mro__[: cls.__mro__.index(Layer)]):
        if issubclass(base, Layer) and "__dataclass_fields__" not in vars(base):
            dataclass(frozen=True, repr=False)(base)


def _digest(cls: type[Layer]) -> str:
    """Changes when the class's code does."""
    hasher = hashlib.sha256(cls.source.encode())
    for base in cls.__mro__[: cls.__mro__.index(Layer)]:
        for name, member in sorted(vars(base).items()):
            if isinstance(member, types.FunctionType) and not name.startswith("__"):
                hasher.update(name.encode() + marshal.dumps(member.__code__))
    if cls.library is not None and cls.library.is_file():
        hasher.update(cls.library.read_bytes())
    return hasher.hexdigest()[:8]


def elementwise(
    name: str,
    build: Callable[..., Expr],
    kinds: str = "float",
    domain: tuple[tuple[float, float], ...] = ((-3.0, 3.0),),
    **attributes: float,
) -> None:
    """Makes an elementwise function a custom layer; it fuses like the built-in ones.

    Args:
        name: ``domain::type``.
        build: takes one Expr per word of ``kinds`` and the attributes by name; answers the result's Expr.
        kinds: per operand a word of ``strop.ops.elementwise.KINDS``; operands of one kind have one dtype.
        domain: ranges of the values that it is tested on.
        attributes: names and default values.

    Raises:
        OptionError: a name that is no ``domain::type`` or is taken, or unknown kinds.
    """
    _check_name(name, build)
    words = tuple(kinds.split())
    if not words or any(word not in KINDS for word in words):
        raise OptionError("unknown kinds of operands", where=name, got=repr(kinds), expected=", ".join(KINDS))
    FUNCTIONS[name] = Function(name, len(words), build, words, tuple((k, float(v)) for k, v in attributes.items()), domain)


def _check_name(name: str, declared: Any) -> None:
    if not _NAME.match(name):
        raise OptionError("unusable name of a custom layer", got=repr(name), expected="domain::type, such as 'mediapipe::TransformLandmarks'")
    before: Any = REGISTRY.get(name) or (FUNCTIONS[name].build if name in FUNCTIONS else None)
    same = before is None or (before.__module__, before.__qualname__) == (declared.__module__, declared.__qualname__)
    if not same:
        raise OptionError(
            "two custom layers have one name", where=name, got=f"{declared.__module__}.{declared.__qualname__}",
            expected=f"{before.__module__}.{before.__qualname__}", hint="strop.custom.forget(name) takes the first one away",
        )  # fmt: skip
    FUNCTIONS.pop(name, None)
    REGISTRY.pop(name, None)


def forget(name: str) -> None:
    """Takes a custom layer away; nothing when there is none."""
    if "::" in name:
        FUNCTIONS.pop(name, None)
        REGISTRY.pop(name, None)


# ---- finding


def known(name: str) -> bool:
    """Whether there is a custom layer of this name."""
    return "::" in name and (name in REGISTRY or name in FUNCTIONS)


def declared() -> list[str]:
    """Names of all custom layers, sorted."""
    return sorted(name for name in (*REGISTRY, *FUNCTIONS) if "::" in name)


def make(name: str, attributes: Mapping[str, Any]) -> Op:
    """The op of a custom layer. Lists count as tuples, whole numbers as floats and 0 and 1 as bools where such are declared.

    Raises:
        CustomError: no such layer, or attributes that it does not have, lacks, or cannot take.
    """
    if not known(name):
        raise CustomError(
            "no custom layer of this name is declared", where=name, expected=", ".join(declared()) or "none is declared",
            hint="import the module that declares it with strop.custom.layer, see docs/custom.md",
        )  # fmt: skip
    if name not in FUNCTIONS:
        return make_of(typing.cast(type[Layer], REGISTRY[name]), attributes)
    values = _values(name, attributes, {k: float for k, _ in FUNCTIONS[name].params})
    return Elementwise(name, tuple(values.items()))


def make_of(cls: type[Layer], attributes: Mapping[str, Any]) -> Layer:
    """The same for a class, whether or not it is the one that has the name now."""
    kinds = attribute_types(cls)
    values = _values(cls.name, attributes, kinds)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    lacking = [k for k, f in fields.items() if k not in values and f.default is dataclasses.MISSING]
    if lacking:
        raise CustomError(f"attribute {lacking[0]} of the custom layer is missing", where=cls.name, expected=kinds[lacking[0]])
    return cls(**values)


def _values(name: str, attributes: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [a for a in attributes if a not in kinds]
    if unknown:
        raise CustomError(f"the custom layer has no attribute {unknown[0]}", where=name, expected=", ".join(kinds) or "none")
    return {k: _value(name, k, v, kinds[k]) for k, v in attributes.items()}


def attribute_types(cls: type[Layer]) -> dict[str, Any]:
    """Names and types of a layer's attributes."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _check_kind(name: str, attribute: str, kind: Any) -> None:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (tuple, Union, types.UnionType) and arguments:
        for part in arguments:
            if part is not Ellipsis:
                _check_kind(name, attribute, part)
    elif kind not in (int, float, bool, str, type(None)):
        raise OptionError(
            f"attribute {attribute} of a custom layer has a type that has no text", where=name, got=kind,
            expected="int, float, bool, str, tuples and unions of these",
        )  # fmt: skip


_NOT = object()


def _value(name: str, attribute: str, value: Any, kind: Any) -> Any:
    found = _as(value, kind)
    if found is _NOT:
        raise CustomError(f"attribute {attribute} of the custom layer has the wrong type", where=name, got=repr(value), expected=kind)
    return found


def _as(value: Any, kind: Any) -> Any:
    """The value as one of a declared type; _NOT when it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return next((v for part in arguments if (v := _as(value, part)) is not _NOT), _NOT)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return _NOT
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        items = [_as(v, k) for v, k in zip(value, kinds, strict=False)]
        return tuple(items) if len(kinds) == len(value) and _NOT not in items else _NOT
    if isinstance(value, np.generic):
        value = value.item()
    if kind is bool and value in (0, 1) and isinstance(value, int):
        return bool(value)
    if kind is float and isinstance(value, (int, float)):
        return float(value)
    fits = type(value) is kind or (kind is type(None) and value is None)
    return value if fits else _NOT


def numbers(op: Layer) -> list[int]:
    """The numeric attributes in the order of their declaration, as kernels find them behind the dims: a float as the bits of a double."""
    found: list[int] = []

    def add(value: Any) -> None:
        if isinstance(value, tuple):
            for item in value:
                add(item)
        elif isinstance(value, float):
            found.append(int(np.float64(value).view(np.int64)))
        elif isinstance(value, int):
            found.append(int(value))

    for value in op.attributes().values():
        add(value)
    return found

