"""A subgraph that is ready to run: its arrays, its engine, and views of them that callers hold."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.compat.tflite.source import Program
from strop.frontend.tflite_sheet import Sheet
from strop.ir import dtype as dt

Array = NDArray[Any]
#: numpy's dtypes of TFLite's element types; handles are objects.
NUMPY: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype(np.float32), "FLOAT16": np.dtype(np.float16), "BFLOAT16": dt.bf16.numpy, "FLOAT64": np.dtype(np.float64),
    "INT4": np.dtype(np.int8), "INT8": np.dtype(np.int8), "INT16": np.dtype(np.int16), "INT32": np.dtype(np.int32), "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8), "UINT16": np.dtype(np.uint16), "UINT32": np.dtype(np.uint32), "UINT64": np.dtype(np.uint64),
    "BOOL": np.dtype(np.bool_), "RESOURCE": np.dtype(object), "STRING": np.dtype(np.bytes_), "COMPLEX64": np.dtype(np.complex64),
    "COMPLEX128": np.dtype(np.complex128),
}  # fmt: skip


class _Hold:
    """Memory that views are made of: it lives as long as any of them, or any slice of one."""

    __slots__ = ("__weakref__", "_array")

    def __init__(self, array: Array) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._array.view(np.uint8).__array_interface__


class Views:
    """The views of an interpreter's memory that callers hold."""

    def __init__(self) -> None:
        self._held: list[weakref.ref[_Hold]] = []

    def make(self, array: Array) -> Array:
        """A view that is seen as long as it is held."""
        whole = np.require(array, requirements=("C", "A"))
        hold = _Hold(whole.reshape(-1))
        self._held = [r for r in self._held if r() is not None]
        self._held.append(weakref.ref(hold))
        found: Array = np.asarray(hold).view(array.dtype).reshape(array.shape)
        return found

    def any(self) -> bool:
        """Whether any is still held."""
        self._held = [r for r in self._held if r() is not None]
        return bool(self._held)


class Runner:
    """One subgraph with its memory.

    Attributes:
        sheet: tensors at the shapes in force.
        state: values of the variables, shared with the interpreter's other subgraphs, by their names.
    """

    def __init__(self, program: Program, threads: int, shapes: dict[int, tuple[int, ...]], state: dict[str, Array]) -> None:
        """StropError when the engine does not serve the shapes."""
        self.program, self.sheet, self._shapes = program, program.sheet, shapes
        self._context = program.engine.context(threads=threads)
        self.state = state
        inputs = {port.name: port for port in program.engine.inputs}
        self._inputs: dict[int, Array] = {}
        self._feeds: dict[str, Array] = {}
        for number in dict.fromkeys(self.sheet.inputs):
            name = self.sheet.tensors[number].place.partition(":")[2]
            self._inputs[number] = self._feeds[name] = np.zeros(shapes.get(number, inputs[name].shape), inputs[name].dtype.numpy)
        for variable in self.sheet.variables:
            first = program.state[variable.input]
            if variable.input not in state or state[variable.input].shape != first.shape:
                state[variable.input] = first.copy()
            self._feeds[variable.input] = state[variable.input]
        if any(port.is_dynamic for port in inputs.values()):
            found = self._context.resize({name: array.shape for name, array in self._feeds.items()})
            self._reshape(found)
        self._allocate_outputs(program.engine.outputs)

    def _reshape(self, outputs: dict[str, tuple[int, ...]]) -> None:
        shapes = {f"in:{name}": array.shape for name, array in self._feeds.items()} | {f"out:{name}": shape for name, shape in outputs.items()}
        tensors = tuple(replace(t, shape=shapes.get(t.place, t.shape)) for t in self.sheet.tensors)
        self.sheet = replace(self.sheet, tensors=tensors)

    def _allocate_outputs(self, ports: Sequence[Any]) -> None:
        self._outputs = self._context.new_outputs()
        for array in self._outputs.values():
            array.fill(0)
        self._run: Callable[[], object] = self._run_found
        if not any(port.is_computed for port in ports):
            self._run = self._context.bind(self._feeds, self._outputs)

    def _run_found(self) -> None:
        """A run whose results have shapes that only it finds."""
        self._outputs = self._context.run(self._feeds)
        self._reshape({name: array.shape for name, array in self._outputs.items()})

    @property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Of the inputs, by their tensors' numbers, where they were given."""
        return self._shapes

    def input(self, number: int) -> Array | None:
        """The memory of an input."""
        return self._inputs.get(number)

    def array(self, number: int) -> Array | None:
        """What a tensor holds: an input, an output, a tensor that is kept, or a constant; None for any other."""
        tensor = self.sheet.tensors[number]
        if number in self._inputs:
            return self._inputs[number]
        if tensor.place:
            return self._outputs[tensor.place.partition(":")[2]]
        return None if tensor.const is None else np.asarray(tensor.const)

    def invoke(self) -> None:
        """Runs once; variables then have their next values."""
        self._run()
        for variable in self.sheet.variables:
            np.copyto(self._feeds[variable.input], self._outputs[variable.output])

    def reset(self) -> None:
        """Variables have their first values again."""
        for name, first in self.program.state.items():
            np.copyto(self._feeds[name], first)


def details(sheet: Sheet, number: int) -> dict[str, Any]:
    """A tensor as the interpreter's methods describe it."""
    tensor = sheet.tensors[number]
    single = len(tensor.scales) == 1
    return {
        "name": tensor.name,
        "index": number,
        "shape": np.array(tensor.shape, np.int32),
        "shape_signature": np.array(tensor.signature, np.int32),
        "dtype": NUMPY[tensor.type].type,
        "quantization": (float(np.float32(tensor.scales[0])), tensor.zeros[0]) if single else (0.0, 0),
        "quantization_parameters": {
            "scales": np.array(tensor.scales, np.float32),
            "zero_points": np.array(tensor.zeros, np.int32),
            "quantized_dimension": tensor.axis,
            "block_size": 0,
        },
        "sparsity_parameters": tensor.sparsity,
    }
