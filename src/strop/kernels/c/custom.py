"""Custom layers as kernels: C that the layer emits or brings as a source, a function of a shared library, or a callback into numpy.

The first becomes ordinary code of the engine. The other two are found by name in the process that runs the engine; the body that is
emitted for a shared library is a call of the library on this machine, by which it is checked and timed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from strop.errors import CustomError, StropError
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Expr, Input
from strop.kernels.base import (
    Emitted,
    External,
    In,
    Kernel,
    Out,
    Pointer,
    Region,
    View,
    memory_seconds,
)
from strop.kernels.c.vector import VectorC, vectorizable
from strop.kernels.c.writer import ScalarC, Writer, to_memory
from strop.kernels.extent import Extent, SymbolicError, dims_of, greater
from strop.ops.custom import CArray, Code, Declined, Layer, numbers
from strop.target.base import Target

#: Seconds of a call from the runtime into numpy and back, and operations per second assumed of numpy and of a layer's C.
_CALL, _NUMPY_RATE, _C_RATE = 3e-5, 1e9, 4e9


@dataclass(frozen=True)
class Params:
    """code: digest of what is compiled or called, so that records of other code do not count."""

    code: str


def _layer(region: Region) -> Layer | None:
    return region.op if isinstance(region.op, Layer) else None


def _with_extras(region: Region) -> list[tuple[str, int]]:
    """(C name, operand number) of every operand that is there."""
    names = []
    for index, operand in enumerate(region.operands):
        if operand is not None:
            names.append((f"x{index}" if index < region.anchors else f"e{index - region.anchors}", index))
    return names


def _pointers(region: Region) -> tuple[Pointer, ...]:
    return (*(Out(k) for k in range(len(region.outs))), *(In(k) for _, k in _with_extras(region)))


def _code(region: Region, target: Target) -> tuple[Code, _Stores]:
    """What the layer's ``emit`` sees, and what it stores by."""
    outs = tuple(CArray(f"y{k}", v.shape, v.strides, v.dtype) for k, v in enumerate(region.outs))
    inputs = tuple(
        None if o is None else CArray(f"x{k}", o.view.shape, o.view.strides, o.view.dtype, o.logical)
        for k, o in enumerate(region.operands[: region.anchors])
    )
    stores = _Stores(region, outs[0])
    return Code(outs, inputs, target.isa, stores.scalar, stores.vector), stores


def _guarded(layer: Layer, method: str, code: Code) -> Any:
    """What a method of the layer answers; its failures are errors that name it."""
    try:
        return getattr(layer, method)(code)
    except (Declined, SymbolicError, StropError):
        raise
    except Exception as error:
        raise CustomError(f"{method} of the custom layer failed: {type(error).__name__}: {error}", where=layer.name) from error


def _tasks(layer: Layer, code: Code) -> int:
    found: Any = _guarded(layer, "tasks", code)
    if not isinstance(found, int) and not isinstance(found, Extent):
        raise CustomError("tasks of the custom layer gave no whole number", where=layer.name, got=repr(found))
    return greater(1, cast(int, found))


class _Stores:
    """C statements that store results through the epilogue."""

    def __init__(self, region: Region, out: CArray) -> None:
        self._region, self._out = region, out
        self.used = False
        self._extras = [CArray(f"e{k}", o.view.shape, o.view.strides, o.view.dtype) for k, o in enumerate(region.extras)]
        self._types: list[DType] = [out.dtype, *(e.dtype for e in self._extras)]

    def scalar(self, value: str, *index: str | int) -> str:
        """See ``Code.store``."""
        self.used = True
        w = Writer()
        with w.block(""):
            w(f"const {self._held()} y_ = {value};")
            if not self._region.has_epilogue:
                w(f"{self._out.at(*index)} = {to_memory('y_', self._out.dtype)};")
            else:

                def load(node: Expr, _: list[str]) -> str:
                    assert isinstance(node, Input)
                    return "y_" if node.index == 0 else self._extras[node.index - 1].at(*index)

                text = ScalarC(self._types, load, None, w, "e_").print(self._region.epilogue, self._out.dtype)
                w(f"{self._out.at(*index)} = {text};")
        return w.text()

    def _held(self) -> str:
        return dt.f32.c if self._out.dtype.name in ("f16", "bf16") else self._out.dtype.c

    def vector(self, value: str, axis: int, *index: str | int, count: str | int | None = None) -> str:
        """See ``Code.store_vector``."""
        self.used = True
        region, out = self._region, self._out
        if out.dtype is not dt.f32 or out.strides[axis] != 1:
            raise Declined(f"result 0 is not dense f32 along axis {axis}")
        rest = "" if count is None else f", {count}"
        suffix = "" if count is None else "_n"
        w = Writer()
        with w.block(""):
            w(f"const vf y_ = {value};")
            if vectorizable(region.epilogue, self._types):
                load = lambda k: "y_" if k == 0 else self._vector_of(w, self._extras[k - 1], axis, index, suffix, rest)  # noqa: E731
                text = VectorC(self._types, load, w, "e_").print(region.epilogue)
                w(f"vstore{suffix}(&{out.at(*index)}, {text}{rest});")
            else:
                w("float t_[VL];", "vstore(t_, y_);")
                with w.block(f"for (int64_t k_ = 0; k_ < {'VL' if count is None else count}; k_++)"):
                    place = [f"({i}) + k_" if a == axis else i for a, i in enumerate(index)]
                    w(self.scalar("t_[k_]", *place))
        return w.text()

    @staticmethod
    def _vector_of(w: Writer, extra: CArray, axis: int, index: Sequence[str | int], suffix: str, rest: str) -> str:
        """C text of a vector of an epilogue operand along the axis."""
        if extra.strides[axis] == 1:
            return f"vload{suffix}(&{extra.at(*index)}{rest})"
        if extra.strides[axis] == 0:
            return f"vset1({extra.at(*index)})"
        name = f"{extra.pointer}_"
        place = [f"({i}) + k_" if a == axis else i for a, i in enumerate(index)]
        w(f"float {name}[VL] = {{0}};", f"for (int64_t k_ = 0; k_ < {rest[2:] or 'VL'}; k_++) {name}[k_] = {extra.at(*place)};")
        return f"vload({name})"


class Custom(Kernel[Params]):
    """C that the layer emits, or that calls its source."""

    name = "custom"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        layer = _layer(region)
        if layer is None:
            return "it is no custom layer"
        if not layer.has("emit") and not layer.source:
            return "the custom layer has no C code"
        if region.has_epilogue and not (layer.fuses and layer.has("emit")):
            return "the custom layer does not apply what follows it"
        try:
            self._text(layer, region, target)
        except Declined as reason:
            return f"the custom layer has no C code for it: {reason}"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        layer = _layer(region)
        assert layer is not None
        text, code = self._text(layer, region, target)
        return [Params(hashlib.sha256("\0".join((layer.digest, text, *code.helpers)).encode()).hexdigest()[:8])]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return region.work.flops / _C_RATE + 4 * memory_seconds(region, target) + 1e-6

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        layer = _layer(region)
        assert layer is not None
        try:
            text, code = self._text(layer, region, target)
        except Declined as reason:
            raise SymbolicError(str(reason)) from None
        lines = [f"  {v.dtype.c} *y{k} = a->p[{k}];" for k, v in enumerate(region.outs)]
        for place, (name, index) in enumerate(_with_extras(region)):
            lines.append(f"  const {region.operand(index).view.dtype.c} *{name} = a->p[{len(region.outs) + place}];")
        tasks = _tasks(layer, code)
        return Emitted("\n".join((*lines, text)), _pointers(region), tasks, code.scratch, tuple(code.helpers))

    def _text(self, layer: Layer, region: Region, target: Target) -> tuple[str, Code]:
        code, stores = _code(region, target)
        if layer.has("emit"):
            text = _guarded(layer, "emit", code)
            if not isinstance(text, str):
                raise CustomError("emit of the custom layer gave no text", where=layer.name, got=type(text).__name__, expected="C text")
            if region.has_epilogue and not stores.used:
                raise CustomError(
                    "emit of the custom layer does not store by code.store, as fuses=True says", where=layer.name, got=region.name
                )
            return text, code
        if None in code.inputs:
            raise Declined("an operand is left out")
        if not re.search(rf"\bstatic\b[^;{{]*\b{layer.symbol}\s*\(", layer.source):
            code.helpers.append(f"static void {layer.symbol}(const strop_args *, int64_t, int64_t);\n")
        code.helpers.append(layer.source.rstrip() + "\n")
        sym = ", ".join(f"{v}LL" if isinstance(v, int) else str(v) for v in _sym(layer, region))
        return (
            f"  const int64_t sym_[] = {{{sym.replace(str(-(1 << 63)) + 'LL', 'INT64_MIN')}}};\n"
            f"  strop_args inner_ = *a;\n  inner_.sym = sym_;\n  {layer.symbol}(&inner_, begin, end);"
        ), code


def _views(region: Region) -> list[View]:
    return [*region.outs, *(region.operand(k).view for _, k in _with_extras(region))]


def _sym(layer: Layer, region: Region) -> list[int]:
    """What a kernel by the ABI of strop_kernel.h finds in ``sym``: dims, then strides, of results and operands; then attributes."""
    found: list[int] = []
    for view in _views(region):
        found += [*view.shape, *view.strides]
    return found + numbers(layer)


class CustomLibrary(Kernel[Params]):
    """A function of a shared library, registered by name where the engine runs."""

    name = "custom_library"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        layer = _layer(region)
        if layer is None:
            return "it is no custom layer"
        if layer.library is None:
            return "the custom layer has no shared library"
        if region.has_epilogue:
            return "the custom layer does not apply what follows it"
        if any(o is None for o in region.operands[: region.anchors]):
            return "an operand is left out"
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        layer = _layer(region)
        assert layer is not None
        return [Params(layer.digest)]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return region.work.flops / _C_RATE + 4 * memory_seconds(region, target) + 1e-6

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        layer = _layer(region)
        assert layer is not None and layer.library is not None
        if not layer.library.is_file():
            raise CustomError("the shared library of a custom layer is not there", where=layer.name, got=layer.library)
        body = (
            "  extern void *dlopen(const char *, int);\n  extern void *dlsym(void *, const char *);\n"
            f"  ((strop_kernel)dlsym(dlopen({json.dumps(str(layer.library))}, 2), {json.dumps(layer.symbol)}))(a, begin, end);"
        )
        digest = hashlib.sha256(layer.library.read_bytes()).hexdigest()[:16]
        origin = f"{layer.symbol} of {layer.library.name}, sha256 {digest}"
        external = External("kernel", layer.name, layer.attributes(), origin)
        tasks = _tasks(layer, _code(region, target)[0])
        return Emitted(body, _pointers(region), tasks, dims=dims_of(_sym(layer, region)), external=external)


class CustomCallback(Kernel[None]):
    """A call into numpy with views of the operands, for layers without native code."""

    name = "custom_callback"
    symbolic = True
    measured = False

    def accepts(self, region: Region, target: Target) -> str | None:
        layer = _layer(region)
        if layer is None:
            return "it is no custom layer"
        if region.has_epilogue:
            return "the custom layer does not apply what follows it"
        if layer.library is not None or Custom().accepts(region, target) is None:
            return "the custom layer has native code"
        return None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        return _CALL + region.work.flops / _NUMPY_RATE + 4 * memory_seconds(region, target)

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        layer = _layer(region)
        assert layer is not None
        operands = tuple(None if o is None else o.view for o in region.operands)
        external = External("callback", layer.name, layer.attributes(), "Python", tuple(region.outs), operands)
        return Emitted("", _pointers(region), 1, external=external)


KERNEL = Custom()
LIBRARY = CustomLibrary()
CALLBACK = CustomCallback()
