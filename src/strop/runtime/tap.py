"""Looking at what every step of an engine writes, before a later step writes over it.

The engine is what it always is: the same steps with the same kernels in the same memory. Only the caller looks in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ctypes import byref, c_uint64, c_void_p, string_at

import numpy as np
from numpy.typing import ArrayLike

from strop.errors import EngineFileError
from strop.runtime.context import Context
from strop.runtime.ports import Array

#: Called as seen(step, read) after each step; read(operand) copies the bytes that the step's kernel may touch there, uint8 [size].
Seen = Callable[[int, Callable[[int], Array]], None]


def observe(context: Context, inputs: Mapping[str, ArrayLike], seen: Seen) -> dict[str, Array]:
    """Runs step by step.

    Args:
        context: of the engine.
        inputs: as for ``Context.run``.
        seen: told after each step.

    Returns:
        Every output, by name.

    Raises:
        InputError: as ``Context.run``.
        EngineFileError: the engine's runtime is older than this function.
    """
    results = context._run(context._by_position(inputs), None, lambda: _walk(context, seen))
    return {port.name: array for port, array in zip(context._outputs, results, strict=True)}


def _walk(context: Context, seen: Seen) -> int:
    library, handle, error, where = context._lib, context._handle, context._error, context._engine.where
    if not hasattr(library, "strop_context_run_steps"):
        raise EngineFileError(
            "the engine's runtime cannot be run step by step", where=where, hint="build the engine again with this version of Strop"
        )

    for step in range(len(context._engine.step_names)):
        code = library.strop_context_run_steps(handle, step, step + 1, byref(error))
        library.check(code, error, where)

        def read(operand: int, step: int = step) -> Array:
            data, size = c_void_p(), c_uint64()
            code = library.strop_context_operand(handle, step, operand, byref(data), byref(size), byref(error))
            library.check(code, error, where)
            return np.frombuffer(string_at(data.value or 0, size.value) if size.value else b"", np.uint8)

        seen(step, read)
    return 0
