"""Declared types: graph inputs, their shapes with symbols for what is unknown, and operator set versions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import OperatorSetIdProto, TensorShapeProto, ValueInfoProto

from strop.errors import ModelError, OptionError, UnsupportedError
from strop.frontend.onnx.registry import MAX_OPSET, MIN_OPSET
from strop.frontend.onnx.tensors import check_shape, element_type
from strop.ir.dtype import DType
from strop.ir.ranges import Free, parse_shape
from strop.ir.shape import Dim, Sym


def input_type(info: ValueInfoProto) -> DType:
    """Element type of an input; UnsupportedError for sequences, maps and optionals."""
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(
            "an input is no tensor",
            where=f"input {info.name}",
            got=kind or "no type",
            hint="export the model with tensors as inputs",
        )
    return element_type(info.type.tensor_type.elem_type, f"input {info.name}")


def plain_domain(domain: str) -> str:
    """The domain with "" for ai.onnx."""
    return "" if domain == "ai.onnx" else domain


def opset_imports(entries: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    """Domain to version; UnsupportedError when that of ai.onnx is out of range."""
    opsets = {plain_domain(e.domain): int(e.version) for e in entries}
    version = opsets.get("")
    if version is not None and not MIN_OPSET <= version <= MAX_OPSET:
        raise UnsupportedError(
            f"opset {version} is too {'old' if version < MIN_OPSET else 'new'}",
            where="opset_import of ai.onnx",
            got=version,
            expected=f"{MIN_OPSET} to {MAX_OPSET}",
            hint="convert the model with onnx.version_converter, or export it with another opset",
        )
    return opsets


#: Behind a value's name: its elements, not its shape.
ELEMENTS = "[]"

#: Begins a text that gives an input a value in place of a shape.
VALUE = "="


def split_values(
    given: Mapping[str, str | Sequence[int | str | Dim]],
) -> tuple[dict[str, str], dict[str, str | Sequence[int | str | Dim]]]:
    """(texts of values without their mark, shapes) of a mapping that holds both."""
    values = {n: g[len(VALUE) :] for n, g in given.items() if isinstance(g, str) and g.startswith(VALUE)}
    return values, {n: g for n, g in given.items() if n not in values}


def check_fixed(values: Mapping[str, str], inputs: Sequence[ValueInfoProto]) -> None:
    """OptionError for a value that is given to something that is no input."""
    unknown = [name for name in values if name not in {info.name for info in inputs}]
    if unknown:
        raise OptionError(
            "there is no such input to give a value to", got=", ".join(unknown), expected=", ".join(i.name for i in inputs) or None
        )


def fixed_input(info: ValueInfoProto, text: str) -> NDArray[Any]:
    """The constant that takes the place of an input: every element of it is one number.

    Raises:
        OptionError: the text is no number of the input's type, or its declared shape is not fixed.
    """
    where, dtype = f"value of input {info.name}", input_type(info)
    if not info.type.tensor_type.HasField("shape"):
        raise OptionError("an input without a shape takes no value", where=where)
    dims = info.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        raise OptionError(
            "an input takes a value only where its shape is fixed", where=where, got=[_name(d) or d.dim_value for d in dims]
        )
    problem = OptionError("not a number of the input's type", where=where, got=text, expected=dtype)
    try:
        number: Any = float(text) if dtype.is_float else int({"true": "1", "false": "0"}.get(text.lower(), text))
        with np.errstate(over="ignore"):
            array = np.full([int(dim.dim_value) for dim in dims], number, dtype.numpy)
    except (ValueError, OverflowError):
        raise problem from None
    if not dtype.is_float and array.size and int(array.flat[0]) != number:
        raise problem
    return array


class InputShapes:
    """Shapes of the graph inputs: declared, or replaced by the caller, with symbols for what is unknown.

    A dim with a name becomes the symbol of that name, one without becomes ``INPUT_AXIS``. Symbols are at least 1.

    Args:
        given: shapes by input name that replace the declared ones, or dims by their name in the model; see ``strop.ir.ranges``.
        inputs: the model's inputs.
        values: all values of the model; a range given for ``NAME[]`` says how large sizes may become that the elements of this value
            decide, or that the value itself gets from data.

    Attributes:
        ranges: these ranges, by the values' names.

    Raises:
        OptionError: a shape is for no input, has another rank, contradicts another one or cannot be read.
    """

    def __init__(
        self, given: Mapping[str, str | Sequence[int | str | Dim]], inputs: Sequence[ValueInfoProto], values: Collection[str] = ()
    ) -> None:
        self._bound: dict[str, Dim] = {}
        self._symbols: dict[str, Sym] = {}
        self._ranges: dict[str, Free] = {}
        names = {info.name for info in inputs}
        shapes = {name: parse_shape(shape, f"shape of {name}") for name, shape in given.items()}
        for free in (dim for shape in shapes.values() for dim in shape if isinstance(dim, Free)):
            if free.name is not None and free.least is not None and self._ranges.setdefault(free.name, free) != free:
                raise OptionError(f"dim {free.name} is given two ranges", got=free.name)
        self.ranges = {n.removesuffix(ELEMENTS): _range(n, shapes.pop(n)) for n in list(shapes) if n.endswith(ELEMENTS)}
        unknown = [name for name in self.ranges if name not in values]
        if unknown:
            raise OptionError("there is no such value whose elements could be given a range", got=", ".join(unknown))
        self._bind_names({n: s for n, s in shapes.items() if n not in names}, inputs)
        self.given = {i.name: self._given(i, shapes[i.name]) for i in inputs if i.name in shapes}
        for info in inputs:
            self.bind(info)

    def _bind_names(self, named: Mapping[str, Sequence[Dim | Free]], inputs: Sequence[ValueInfoProto]) -> None:
        """Dims that are given by their name in the model."""
        declared = {name for i in inputs for d in i.type.tensor_type.shape.dim if (name := _name(d))}
        unknown = [name for name in named if name not in declared]
        if unknown:
            raise OptionError(
                "there is no such input to give a shape to",
                got=", ".join(unknown),
                expected=", ".join([i.name for i in inputs] + sorted(declared)) or "a model without inputs takes none",
            )
        for name, shape in named.items():
            if len(shape) != 1:
                raise OptionError("a dim is given a shape", where=f"dim {name}", got=f"{len(shape)} dims", expected="one number or range")
            self._bound[name] = self._free(shape[0], name)

    def _given(self, info: ValueInfoProto, shape: Sequence[Dim | Free]) -> tuple[Dim, ...]:
        """A shape with symbols for its ranges, named as the model names them."""
        declared = [_name(d) for d in info.type.tensor_type.shape.dim]
        names = declared if len(declared) == len(shape) else [""] * len(shape)
        return tuple(self._free(dim, name or f"{info.name}_{k}") for k, (dim, name) in enumerate(zip(shape, names, strict=True)))

    def _free(self, dim: Dim | Free, usual: str) -> Dim:
        if not isinstance(dim, Free):
            return dim
        if dim.name is not None:
            dim = self._ranges.get(dim.name, dim)
        made = dim.dim(self._symbol(dim.name or usual).name)
        return made if dim.name is None else self._bound.setdefault(dim.name, made)

    def bind(self, info: ValueInfoProto) -> None:
        """Notes what a replaced shape says about named dims, for the other inputs that use the names.

        Raises:
            OptionError: a replaced shape has another rank, a dim below 1, or contradicts another one.
        """
        shape = self.given.get(info.name)
        if shape is None:
            return
        where = f"shape of input {info.name}"
        if any(isinstance(dim, int) and dim < 1 for dim in shape):
            raise OptionError("a dim must be positive", where=where, got=tuple(shape))
        if not info.type.tensor_type.HasField("shape"):
            return
        declared = info.type.tensor_type.shape.dim
        if len(declared) != len(shape):
            raise OptionError(
                "a shape has the wrong rank",
                where=where,
                got=f"{len(shape)} dims",
                expected=f"{len(declared)} dims",
            )
        for dim, new in zip(declared, shape, strict=True):
            name = _name(dim)
            if name and self._bound.setdefault(name, new) != new:
                known = self._bound[name]
                raise OptionError(
                    f"dim {name} is given two values", where=where, got=new, expected=known
                )

    def of(self, info: ValueInfoProto) -> tuple[Dim, ...]:
        """The shape of an input; ModelError when it is neither declared nor given."""
        if info.name in self.given:
            return tuple(self.given[info.name])
        if not info.type.tensor_type.HasField("shape"):
            raise ModelError(
                "an input declares no shape",
                where=f"input {info.name}",
                hint=f"give it one with --shape {info.name}=...",
            )
        shape = tuple(
            self._dim(dim, info, axis) for axis, dim in enumerate(info.type.tensor_type.shape.dim)
        )
        check_shape(tuple(dim for dim in shape if isinstance(dim, int)), f"input {info.name}")
        return shape

    def _dim(self, dim: TensorShapeProto.Dimension, info: ValueInfoProto, axis: int) -> Dim:
        if dim.HasField("dim_value") and dim.dim_value != -1:  # some exporters write -1 for unknown
            return int(dim.dim_value)
        wanted = _name(dim) or f"{info.name}_{axis}"
        return self._bound[wanted] if wanted in self._bound else self._symbol(wanted)

    def _symbol(self, text: str) -> Sym:
        """The symbol for a dim's name: an identifier, unique per name."""
        if text not in self._symbols:
            name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "dim"
            name = f"d{name}" if name[0].isdigit() else name
            taken = {s.name for s in self._symbols.values()}
            while name in taken:
                name += "_"
            self._symbols[text] = Sym(name)
        return self._symbols[text]


def _range(name: str, shape: Sequence[Dim | Free]) -> Free:
    """The one range or number that is given for elements of a value."""
    if len(shape) != 1:
        raise OptionError("the elements of a value are given a shape", where=name, got=f"{len(shape)} dims", expected="one range")
    (dim,) = shape
    return dim if isinstance(dim, Free) else Free(None, 1, int(str(dim)), int(str(dim)))


def _name(dim: TensorShapeProto.Dimension) -> str:
    """The model's name of a dim; exporters also write ``?`` for one without a name."""
    return str(dim.dim_param) if re.search(r"\w", dim.dim_param) else ""


def static_type(info: ValueInfoProto) -> tuple[DType, tuple[int, ...]] | None:
    """dtype and shape that a value_info declares, or None when they are not complete."""
    if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.HasField(
        "shape"
    ):
        return None
    dims = info.type.tensor_type.shape.dim
    if not all(d.HasField("dim_value") and d.dim_value >= 0 for d in dims):
        return None
    try:
        return element_type(info.type.tensor_type.elem_type, info.name), tuple(
            int(d.dim_value) for d in dims
        )
    except (ModelError, UnsupportedError):
        return None
