"""``tf.lite.Interpreter`` on engines: also ``tflite_runtime.interpreter`` and ``ai_edge_litert.interpreter``.

Exceptions have the types and texts of LiteRT 2. A model is compiled, at level 0, when its tensors are allocated first; a ``.strop``
engine in its place is loaded. Variables keep their values from one ``invoke`` to the next.
"""

from __future__ import annotations

import enum
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.compat.tflite.delegates import Delegate, load_delegate
from strop.compat.tflite.runner import NUMPY, Runner, Views, details
from strop.compat.tflite.source import open_source
from strop.errors import StropError
from strop.frontend.tflite_sheet import Sheet, SheetSignature

__all__ = ["Delegate", "Interpreter", "InterpreterWithCustomOps", "OpResolverType", "SignatureRunner", "load_delegate"]

Array = NDArray[Any]
log = logging.getLogger("strop.compat.tflite")

_NOT_READY = "Invoke called on model that is not ready."
_NULL = "Tensor data is null. Run allocate_tensors() first"
_UNALLOCATED = "Cannot set tensor: Tensor is unallocated. Try calling allocate_tensors() first"
_HELD = """There is at least 1 reference to internal data
      in the interpreter in the form of a numpy array or slice. Be sure to
      only hold the function returned from tensor() if you are using raw
      data access."""
_PRESERVE = (
    "Warning: Enabling `experimental_preserve_all_tensors` makes every tensor an output of the engine: nothing is fused across tensors, and all of them "
    "are stored. It is for looking at values."
)
#: Types by numpy's dtypes, as messages name them.
_KINDS = {dtype: name for name, dtype in NUMPY.items() if name not in ("STRING", "RESOURCE", "INT4")}


@enum.unique
class OpResolverType(enum.Enum):
    """Which kernels TFLite takes; an engine has its own."""

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


@contextmanager
def _as_runtime_error() -> Iterator[None]:
    """What Strop refuses or finds wrong as the exception that TFLite raises."""
    try:
        yield
    except StropError as error:
        raise RuntimeError(str(error)) from error


class Interpreter:
    """Runs a TensorFlow Lite model.

    Args:
        model_path: of a .tflite file, or of an engine.
        model_content: its bytes.
        experimental_delegates: of ``load_delegate``; they take over nothing.
        num_threads: of a run; 1 if nothing is said.
        experimental_op_resolver_type: without effect.
        experimental_preserve_all_tensors: intermediate tensors can be read with ``get_tensor``.

    Raises:
        ValueError: there is no such model or it is unsound.
    """

    def __init__(
        self,
        model_path: Any = None,
        model_content: bytes | None = None,
        experimental_delegates: Sequence[Delegate] | None = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: OpResolverType = OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        experimental_disable_delegate_clustering: bool = False,
        experimental_default_delegate_latest_features: bool = False,
        experimental_compress_quantization_zero_points: bool = False,
        experimental_disable_delegate_node_fusion: bool = False,
        experimental_force_delegate_node_profiling: bool = False,
    ) -> None:
        if not isinstance(experimental_op_resolver_type, OpResolverType):
            raise ValueError(f"Unrecognized passed in op resolver type: {experimental_op_resolver_type}")
        if experimental_preserve_all_tensors:
            warnings.warn(_PRESERVE, stacklevel=2)
        if num_threads is not None:
            if not isinstance(num_threads, int):
                raise ValueError("type of num_threads should be int")
            if num_threads < 1:
                raise ValueError("num_threads should >= 1")
        if not model_path and not model_content:
            raise ValueError("`model_path` or `model_content` must be specified.")
        if model_path and model_content:
            raise ValueError("Can't both provide `model_path` and `model_content`")
        self._source = open_source(model_path, None if model_path else model_content)
        self._threads = num_threads or 1
        self._keep = bool(experimental_preserve_all_tensors)
        self._experimental_compress_quantization_zero_points = experimental_compress_quantization_zero_points
        for name, given in (
            ("experimental_op_resolver_type", experimental_op_resolver_type not in (OpResolverType.AUTO, OpResolverType.BUILTIN)),
            ("experimental_disable_delegate_clustering", experimental_disable_delegate_clustering),
            ("experimental_default_delegate_latest_features", experimental_default_delegate_latest_features),
            ("experimental_compress_quantization_zero_points", experimental_compress_quantization_zero_points),
            ("experimental_disable_delegate_node_fusion", experimental_disable_delegate_node_fusion),
            ("experimental_force_delegate_node_profiling", experimental_force_delegate_node_profiling),
        ):
            if given:
                log.info("%s has no effect: an engine has its own kernels and no delegates", name)
        self._delegates = list(experimental_delegates or ())
        self._views = Views()
        self._state: dict[str, Array] = {}
        self._sheets: dict[int, Sheet] = {0: self._source.sheet(0)}
        self._runners: dict[int, Runner] = {}
        #: Shapes of inputs that were asked for, by subgraph and tensor, and the subgraphs whose tensors are allocated at them.
        self._shapes: dict[int, dict[int, tuple[int, ...]]] = {}
        self._ready: set[int] = set()

    # ---- what is there

    def _sheet(self, subgraph: int) -> Sheet:
        """What is known of a subgraph's tensors, with the shapes that were asked for."""
        if not 0 <= subgraph < self._sheets[0].subgraphs:
            raise ValueError(f"Invalid subgraph index {subgraph} exceeds max subgraph index {self._sheets[0].subgraphs}")
        if subgraph not in self._sheets:
            self._sheets[subgraph] = self._source.sheet(subgraph)
        return self._sheets[subgraph]

    def _get_tensor_details(self, tensor_index: int, subgraph_index: int) -> dict[str, Any]:
        """One tensor: name, index, shape, shape_signature, dtype, quantization, quantization_parameters, sparsity_parameters."""
        sheet = self._sheet(int(subgraph_index))
        _check_index(sheet, int(tensor_index))
        return details(sheet, int(tensor_index))

    def get_input_details(self) -> list[dict[str, Any]]:
        """What the inputs are, in order."""
        return [self._get_tensor_details(k, 0) for k in self._sheets[0].inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """What the outputs are, in order."""
        return [self._get_tensor_details(k, 0) for k in self._sheets[0].outputs]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """What all tensors of a subgraph are.

        Raises:
            ValueError: no such subgraph.
        """
        count = self.num_subgraphs()
        if not 0 <= subgraph_index < count:
            raise ValueError(f"subgraph_index is out of range: {subgraph_index} for the model, which has {count} subgraphs.")
        return [self._get_tensor_details(k, subgraph_index) for k in range(len(self._sheet(subgraph_index).tensors))]

    def _get_op_details(self, op_index: int) -> dict[str, Any]:
        """One operator: index, op_name, inputs, outputs, operand_types, result_types."""
        sheet = self._sheets[0]
        op = sheet.operators[op_index]

        def types(numbers: Sequence[int]) -> list[Any]:
            return [NUMPY[sheet.tensors[k].type].type for k in numbers if k != -1]

        return {
            "index": int(op_index),
            "op_name": op.code,
            "inputs": np.array(op.inputs, np.int32),
            "outputs": np.array(op.outputs, np.int32),
            "operand_types": types(op.inputs),
            "result_types": types(op.outputs),
        }

    def _get_ops_details(self) -> list[dict[str, Any]]:
        """All operators of the main subgraph."""
        return [self._get_op_details(k) for k in range(len(self._sheets[0].operators))]

    def num_subgraphs(self) -> int:
        """How many subgraphs the model has."""
        return self._sheets[0].subgraphs

    @property
    def experimental_compress_quantization_zero_points(self) -> bool:
        """As it was given."""
        return self._experimental_compress_quantization_zero_points

    # ---- shapes and memory

    def _ensure_safe(self) -> None:
        """RuntimeError while a view of ``tensor`` is held."""
        if self._views.any():
            raise RuntimeError(_HELD)

    def resize_tensor_input(self, input_index: int, tensor_size: Any, strict: bool = False) -> None:
        """Gives an input another shape; tensors must then be allocated anew.

        Args:
            input_index: number of the tensor.
            tensor_size: its shape.
            strict: only sizes that are -1 in ``shape_signature`` may change.

        Raises:
            RuntimeError: no input, or a size that may not change.
        """
        self._ensure_safe()
        self._resize(int(input_index), tuple(int(d) for d in np.array(tensor_size, np.int32).reshape(-1)), strict, 0)

    def _resize(self, index: int, shape: tuple[int, ...], strict: bool, subgraph: int) -> None:
        sheet = self._sheet(subgraph)
        if not 0 <= index < len(sheet.tensors):
            raise RuntimeError("tensor_index < context_.tensors_size && tensor_index >= 0 was not true.")
        if index not in sheet.inputs:
            raise RuntimeError("Attempting to resize a fixed-size tensor.")
        tensor = sheet.tensors[index]
        if any(d < 0 for d in shape):
            raise RuntimeError(f"a size of tensor {index} is negative: {list(shape)}")
        if strict and len(shape) == len(tensor.shape):
            for axis, (old, new, told) in enumerate(zip(tensor.shape, shape, tensor.signature, strict=True)):
                if old != new and told != -1:
                    raise RuntimeError(
                        f"Attempting to resize dimension {axis} of tensor {index} with value {old} to {new}. "
                        "ResizeInputTensorStrict only allows mutating unknown dimensions identified by -1."
                    )
        if strict and len(shape) != len(tensor.shape):
            raise RuntimeError(f"Attempting to resize tensor {index} of rank {len(tensor.shape)} to rank {len(shape)}.")
        if shape == tensor.shape:
            return
        signature = tuple(-1 if t == -1 else d for t, d in zip(tensor.signature, shape, strict=True)) if len(shape) == len(tensor.shape) else shape
        self._sheets[subgraph] = _with_shape(sheet, index, shape, signature)
        self._shapes.setdefault(subgraph, {})[index] = shape
        self._ready.discard(subgraph)

    def allocate_tensors(self) -> None:
        """Makes inputs, outputs and the engine for the shapes that are asked for; does nothing when that is done.

        Raises:
            RuntimeError: the network cannot be compiled, for what the message says.
        """
        self._ensure_safe()
        self._allocate(0, None)

    def _allocate(self, subgraph: int, key: str | None) -> Runner:
        with _as_runtime_error():
            self._source.check(key)
        if subgraph in self._ready:
            return self._runners[subgraph]
        shapes = dict(self._shapes.get(subgraph, {}))
        with _as_runtime_error():
            program = self._source.program(key if subgraph else None, shapes, self._threads, self._keep)
            runner = Runner(program, self._threads, shapes, self._state)
        self._runners[subgraph] = runner
        self._sheets[subgraph] = runner.sheet
        self._ready.add(subgraph)
        return runner

    # ---- values

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copies an array into an input, or into another tensor that is stored.

        Raises:
            ValueError: no such tensor, another dtype or shape, or tensors are not allocated.
        """
        self._set(_integer("SetTensor", tensor_index), value, 0)

    def _set(self, index: int, value: Any, subgraph: int) -> None:
        sheet = self._sheet(subgraph)
        _check_index(sheet, index)
        tensor, array = sheet.tensors[index], np.asarray(value)
        kind = "STRING" if array.dtype.kind in "SUO" else _KINDS.get(array.dtype, str(array.dtype))
        if kind != tensor.type:
            raise ValueError(f"Cannot set tensor: Got value of type {kind} but expected type {tensor.type} for input {index}, name: {tensor.name} ")
        if array.ndim != len(tensor.shape):
            raise ValueError(f"Cannot set tensor: Dimension mismatch. Got {array.ndim} but expected {len(tensor.shape)} for input {index}.")
        for axis, (got, wanted) in enumerate(zip(array.shape, tensor.shape, strict=True)):
            if got != wanted:
                raise ValueError(f"Cannot set tensor: Dimension mismatch. Got {got} but expected {wanted} for dimension {axis} of input {index}.")
        held = self._runners[subgraph].array(index) if subgraph in self._ready else None
        if held is None:
            raise ValueError(_UNALLOCATED)
        if tensor.const is not None:
            raise ValueError(f"Cannot set tensor: tensor {index}, name: {tensor.name}, is a constant of the model")
        np.copyto(held, array)

    def _stored(self, index: int, subgraph: int) -> Array:
        sheet = self._sheet(subgraph)
        _check_index(sheet, index)
        if sheet.tensors[index].const is not None:
            return np.asarray(sheet.tensors[index].const)
        found = self._runners[subgraph].array(index) if subgraph in self._ready else None
        if found is None:
            hint = "" if subgraph not in self._ready or self._keep else "; intermediate tensors are kept with experimental_preserve_all_tensors=True"
            raise ValueError(_NULL + hint)
        return found

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> Array:
        """A copy of what a tensor holds.

        Raises:
            ValueError: no such tensor, or it is not stored.
        """
        return self._stored(_integer("GetTensor", tensor_index), subgraph_index).copy()

    def tensor(self, tensor_index: int) -> Callable[[], Array]:
        """A function that gives a view of what a tensor holds now; views must be let go before the interpreter runs."""

        def view() -> Array:
            return self._views.make(self._stored(_integer("tensor", tensor_index), 0))

        return view

    # ---- running

    def invoke(self) -> None:
        """Computes the outputs from the inputs.

        Raises:
            RuntimeError: tensors are not allocated, or a view is held.
        """
        self._ensure_safe()
        self._invoke(0)

    def _invoke(self, subgraph: int) -> None:
        if subgraph not in self._ready:
            raise RuntimeError(_NOT_READY)
        runner = self._runners[subgraph]
        with _as_runtime_error():
            runner.invoke()
        self._sheets[subgraph] = runner.sheet

    def reset_all_variables(self) -> None:
        """Variables have their first values again."""
        for runner in self._runners.values():
            runner.reset()

    # ---- signatures

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Names of the inputs and outputs of every signature."""
        return {key: {"inputs": list(s.inputs), "outputs": list(s.outputs)} for key, s in self._sheets[0].signatures.items()}

    def _get_full_signature_list(self) -> dict[str, dict[str, dict[str, int]]]:
        """The same with the numbers of their tensors."""
        return {key: {"inputs": dict(s.inputs), "outputs": dict(s.outputs)} for key, s in self._sheets[0].signatures.items()}

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """A function that runs a signature by the names of its inputs; the key may be left out where there is only one.

        Raises:
            ValueError: no such signature.
        """
        known = self._sheets[0].signatures
        if signature_key is None:
            if len(known) != 1:
                raise ValueError(f"SignatureDef signature_key is None and model has {len(known)} Signatures. None is only allowed when the model has 1 SignatureDef")
            signature_key = next(iter(known))
        return SignatureRunner(interpreter=self, signature_key=signature_key)


class InterpreterWithCustomOps(Interpreter):
    """An Interpreter for models with custom ops, which are declared with ``strop.custom`` as ``tflite::NAME``."""

    def __init__(self, custom_op_registerers: Sequence[Any] | None = None, **kwargs: Any) -> None:
        """ValueError for registerers: they hand over TFLite kernels."""
        if custom_op_registerers:
            raise ValueError("custom ops are declared with strop.custom.layer('tflite::NAME'), not with functions that register TFLite kernels")
        super().__init__(**kwargs)


class SignatureRunner:
    """Runs a signature: keyword arguments by the names of its inputs, a dict by the names of its outputs."""

    def __init__(self, interpreter: Interpreter | None = None, signature_key: str | None = None) -> None:
        """ValueError when there is no such signature."""
        if not interpreter:
            raise ValueError("None interpreter provided.")
        if not signature_key:
            raise ValueError("None signature_key provided.")
        known = interpreter._sheets[0].signatures
        if signature_key not in known:
            raise ValueError(f'Invalid signature_key provided: "{signature_key}".')
        self._interpreter = interpreter
        self._key = signature_key
        self._signature: SheetSignature = known[signature_key]

    def __call__(self, **kwargs: Any) -> dict[str, Array]:
        """Runs once, at the shapes of the arrays that are given.

        Raises:
            ValueError: other names than the signature's, or another dtype.
        """
        inputs, subgraph, interpreter = self._signature.inputs, self._signature.subgraph, self._interpreter
        if len(kwargs) != len(inputs):
            raise ValueError(f"Invalid number of inputs provided for running a SignatureDef, expected {len(inputs)} vs provided {len(kwargs)}")
        for name, value in kwargs.items():
            if name not in inputs:
                raise ValueError(f"Invalid Input name ({name}) for SignatureDef")
            interpreter._resize(inputs[name], tuple(value.shape), False, subgraph)
        interpreter._allocate(subgraph, self._key)
        for name, value in kwargs.items():
            interpreter._set(inputs[name], value, subgraph)
        interpreter._invoke(subgraph)
        return {name: interpreter.get_tensor(number, subgraph) for name, number in self._signature.outputs.items()}

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """What the inputs are, by name."""
        return {name: self._interpreter._get_tensor_details(k, self._signature.subgraph) for name, k in self._signature.inputs.items()}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """What the outputs are, by name."""
        return {name: self._interpreter._get_tensor_details(k, self._signature.subgraph) for name, k in self._signature.outputs.items()}


def _integer(method: str, given: Any) -> int:
    if not isinstance(given, (int, np.integer)) or isinstance(given, bool):
        raise TypeError(f"{method}(): incompatible function arguments: the tensor index is an int, not {type(given).__name__}")
    return int(given)


def _check_index(sheet: Sheet, index: int) -> None:
    if not 0 <= index < len(sheet.tensors):
        raise ValueError(f"Invalid tensor index {index} exceeds max tensor index {len(sheet.tensors)}")


def _with_shape(sheet: Sheet, index: int, shape: tuple[int, ...], signature: tuple[int, ...]) -> Sheet:
    tensors = list(sheet.tensors)
    tensors[index] = replace(tensors[index], shape=shape, signature=signature)
    return replace(sheet, tensors=tuple(tensors))
