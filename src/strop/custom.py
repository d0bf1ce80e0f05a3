"""Custom layers: ops of your own, in numpy, in C, or in a shared library. docs/custom.md is the guide.

    from strop import custom

    @custom.layer("mydomain::Scale")
    class Scale(custom.Layer):
        factor: float = 1.0

        def shape(self, x):
            return x

        def compute(self, x):
            return x * np.float32(self.factor)

Declaring a layer lets ``strop.build`` read models with it, and registers its code for engines that are run in this process; a process
that only runs engines imports the same module before ``strop.load``. Nothing here needs the compiler.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from strop.errors import CustomError
from strop.ir import dtype
from strop.ir import shape as dims
from strop.ir.expr import Expr, call
from strop.ir.op import Type
from strop.ops import custom as _ops
from strop.ops.custom import (
    ANY,
    CHANNELS_LAST,
    LAYOUTS,
    ROW_MAJOR,
    CArray,
    Code,
    Declined,
    Layer,
    declared,
    elementwise,
    known,
    make,
)
from strop.runtime import callbacks as _callbacks

__all__ = [
    "ANY",
    "CHANNELS_LAST",
    "LAYOUTS",
    "ROW_MAJOR",
    "CArray",
    "Code",
    "Declined",
    "Expr",
    "Layer",
    "Type",
    "call",
    "declared",
    "dims",
    "dtype",
    "elementwise",
    "forget",
    "known",
    "layer",
    "load_library",
    "make",
]

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
    """Class decorator: declares a subclass of ``Layer`` as the custom layer ``name``.

    Args:
        name: ``domain::type``; of an ONNX node its domain (``ai.onnx`` for none) and op type.
        takes: how its operands and results lie: ``any`` (with strides), ``row-major`` or ``channels-last`` (both dense).
        pure: False for one that may not be folded, shared or left out.
        fuses: its ``emit`` stores by ``code.store`` or ``code.store_vector``, so that elementwise ops behind it join it.
        library: path of a shared library with its kernel, a function by the ABI of strop_kernel.h; loaded at once.
        source: C text of such a kernel, which becomes part of engines; its functions should be static.
        symbol: the function's name in ``library`` or ``source``.

    Raises:
        OptionError: the declaration does not hold.
        CustomError: the library cannot be loaded, or has no such function.
    """
    declare: Callable[[LayerT], LayerT] = _ops.layer(
        name, takes=takes, pure=pure, fuses=fuses, library=library, source=source, symbol=symbol
    )

    def apply(cls: LayerT) -> LayerT:
        made = declare(cls)
        if library is not None:
            load_library(library, {name: symbol})
        else:
            _callbacks.register_callback(name, _callback(made))
        return made

    return apply


def _callback(cls: type[Layer]) -> _callbacks.Callback:
    """Computes the layer in numpy; ops are made once per set of attributes."""
    ops: dict[str, Layer] = {}

    def run(given: _callbacks.CustomCall) -> None:
        op = ops.get(given.attributes)
        if op is None:
            op = ops[given.attributes] = _ops.make_of(cls, json.loads(given.attributes))
        op.run_into(given.outputs, given.inputs)

    return run


def load_library(path: str | Path, kernels: Mapping[str, str]) -> None:
    """Registers kernels of a shared library for engines that need them.

    Args:
        path: of the library.
        kernels: symbol by name of the custom layer. A symbol is a function by the ABI of strop_kernel.h.

    Raises:
        CustomError: the library cannot be loaded, or has no such function.
    """
    full = str(Path(path).resolve())
    try:
        library = ctypes.CDLL(full)
    except OSError as error:
        raise CustomError(
            "the shared library of a custom layer cannot be loaded", where=", ".join(kernels), got=error, hint="give its path"
        ) from error
    for name, symbol in kernels.items():
        try:
            function = library[symbol]
        except AttributeError as error:
            raise CustomError("the shared library of a custom layer has no such function", where=name, got=symbol, expected=full) from error
        _callbacks.register_kernel(name, function, library)


def forget(name: str) -> None:
    """Takes a custom layer away: builds know it no more, and contexts created from now on do not find its code."""
    _ops.forget(name)
    _callbacks.forget(name)


def __dir__() -> list[Any]:
    return sorted(__all__)
