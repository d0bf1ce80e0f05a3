"""``tensorrt.plugin``: plugins as functions.

    import tensorrt.plugin as trtp

    @trtp.register("mylib::double")
    def double_desc(x: trtp.TensorDesc) -> trtp.TensorDesc:
        return x.like()

    @trtp.impl("mylib::double")
    def double(x: trtp.Tensor, outputs: tuple[trtp.Tensor], stream: int) -> None:
        outputs[0].numpy()[...] = 2 * x.numpy()

    layer = network.add_plugin(trtp.op.mylib.double(tensor))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.compat.tensorrt.basics import Dims, own_dtype, their_dtype
from strop.compat.tensorrt.plugin import declare
from strop.compat.tensorrt.tensor import ITensor
from strop.errors import CustomError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Dim


class SymInt32:
    """A size that may be free; counts like a number."""

    def __init__(self, value: Dim = 0) -> None:
        self.dim = value

    def _with(self, other: Any, function: Callable[[Dim, Dim], Dim]) -> SymInt32:
        return SymInt32(function(self.dim, other.dim if isinstance(other, SymInt32) else int(other)))

    def __add__(self, other: Any) -> SymInt32:
        return self._with(other, sh.add)

    def __sub__(self, other: Any) -> SymInt32:
        return self._with(other, sh.sub)

    def __mul__(self, other: Any) -> SymInt32:
        return self._with(other, sh.mul)

    def __floordiv__(self, other: Any) -> SymInt32:
        return self._with(other, sh.floordiv)

    __radd__, __rmul__ = __add__, __mul__

    is_constant = property(lambda self: isinstance(self.dim, int))

    def constant_value(self) -> int | None:
        """The number, or None."""
        return self.dim if isinstance(self.dim, int) else None


class ShapeExpr(list[Any]):
    """Sizes of a tensor."""

    def numel(self) -> SymInt32:
        """Number of elements."""
        return SymInt32(sh.volume(tuple(d.dim if isinstance(d, SymInt32) else int(d) for d in self)))


Shape = ShapeExpr


@dataclass
class TensorDesc:
    """dtype and sizes of an operand or result."""

    dtype: Any
    shape_expr: ShapeExpr = field(default_factory=ShapeExpr)

    ndim = property(lambda self: len(self.shape_expr))

    def like(self) -> TensorDesc:
        """The same again."""
        return TensorDesc(self.dtype, ShapeExpr(self.shape_expr))

    aliased = like


@dataclass
class Tensor:
    """An operand or result in memory."""

    array: Array

    shape = property(lambda self: Dims(self.array.shape))
    dtype = property(lambda self: their_dtype(dt.from_numpy(self.array.dtype)))
    data_ptr = property(lambda self: int(self.array.ctypes.data))
    ndim = property(lambda self: self.array.ndim)

    def numel(self) -> int:
        """Number of elements."""
        return int(self.array.size)

    def numpy(self) -> Array:
        """The array itself: writing to that of a result gives the result."""
        return self.array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.array.__array_interface__


@dataclass
class _Declared:
    describe: Callable[..., Any]
    attributes: list[str]
    run: Callable[..., Any] | None = None


_DECLARED: dict[str, _Declared] = {}


def register(plugin_id: str, *, lazy_register: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares a plugin by a function from TensorDescs and attributes to TensorDescs."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        names = [p.name for p in inspect.signature(function).parameters.values() if not _is_tensor(p)]
        _DECLARED[plugin_id] = _Declared(function, names)
        return function

    return apply


def _is_tensor(parameter: inspect.Parameter) -> bool:
    return "TensorDesc" in str(parameter.annotation)


def impl(plugin_id: str, tactic: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Says what a plugin computes: a function of Tensors, attributes, ``outputs`` and ``stream``, and of ``tactic`` where it wants it."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        _find(plugin_id).run = function
        return function

    return apply


def autotune(plugin_id: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Combinations of dtypes and formats; values are always row-major here, so this has no effect."""
    return lambda function: function


def aot_impl(plugin_id: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """GPU kernels; not used on the processor, where ``impl`` is."""
    return lambda function: function


def _find(plugin_id: str) -> _Declared:
    found = _DECLARED.get(plugin_id)
    if found is None:
        raise CustomError("no plugin of this name is registered", where=plugin_id, expected=", ".join(_DECLARED) or "none is registered")
    return found


@dataclass
class Use:
    """A plugin applied to tensors; ``INetworkDefinition.add_plugin`` takes it."""

    plugin_id: str
    inputs: Sequence[ITensor]
    attributes: dict[str, Any]

    def op(self, index: int) -> Op:
        """The op."""
        declared = _find(self.plugin_id)
        run = declared.run
        if run is None:
            raise CustomError("the plugin has no implementation", where=self.plugin_id, hint="@tensorrt.plugin.impl")

        def shapes(inputs: Sequence[Type]) -> list[Type]:
            descs = [TensorDesc(their_dtype(t.dtype), ShapeExpr(SymInt32(d) for d in t.shape)) for t in inputs]
            found = declared.describe(*descs, **self.attributes)
            return [_type(d) for d in (found if isinstance(found, (tuple, list)) else (found,))]

        def compute(outputs: Sequence[Array], inputs: Sequence[Array]) -> None:
            wanted = inspect.signature(run).parameters
            more = {k: v for k, v in (("outputs", tuple(map(Tensor, outputs))), ("stream", 0), ("tactic", 0)) if k in wanted}
            run(*map(Tensor, inputs), **self.attributes, **more)

        name = f"{self.plugin_id.replace('::', '.')}_{index}"
        return declare(f"tensorrt::{name}", shapes, compute)


def _type(desc: TensorDesc) -> Type:
    return Type(own_dtype(desc.dtype), tuple(d.dim if isinstance(d, SymInt32) else int(d) for d in desc.shape_expr))


class _Space:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, op: str) -> Callable[..., Use]:
        plugin_id = f"{self._name}::{op}"
        _find(plugin_id)

        def use(*inputs: Any, **attributes: Any) -> Use:
            tensors = [t for t in inputs if isinstance(t, ITensor)]
            names = _find(plugin_id).attributes
            given = dict(zip(names, inputs[len(tensors) :]))
            return Use(plugin_id, tensors, {k: _value(v) for k, v in {**given, **attributes}.items()})

        return use


def _value(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, list) else value


class _Op:
    def __getattr__(self, name: str) -> _Space:
        return _Space(name)


#: ``op.namespace.name(tensors, attributes)``.
op = _Op()
