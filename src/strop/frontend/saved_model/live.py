"""Functions of TensorFlow that are in memory. TensorFlow is loaded by whoever made them; nothing here imports it."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.errors import OptionError, UnsupportedError
from strop.frontend.saved_model.program import Program, Ref, Tensor, bodies, tensor_of


def program_of(function: Any, signature: str | None) -> Program:
    """A ConcreteFunction as a program: its graph, and the values of what it captures.

    Args:
        function: a ConcreteFunction; a tf.function with an input signature; or an object with ``signatures``, as ``tf.saved_model.load`` gives.
        signature: key of one of the ``signatures``.

    Raises:
        UnsupportedError: another object, or a function that captures what is neither a variable nor a tensor of numbers.
        OptionError: the function has no input signature; there is no such signature.
    """
    concrete = _concrete(function, signature)
    graph, functions = bodies(concrete.graph.as_graph_def().SerializeToString(), "the function's graph")
    name = str(getattr(concrete, "name", "function")).strip("_") or "function"
    inputs: dict[str, Tensor] = {}
    captured = {id(inner) for _, inner in concrete.graph.captures}
    for tensor in concrete.inputs:
        if id(tensor) not in captured:
            inputs[tensor.op.name] = tensor_of(_ref(tensor), tensor.dtype.as_datatype_enum, tensor.shape.as_proto(), f"input {tensor.op.name}")
    outputs = {key: tensor_of(_ref(tensor), tensor.dtype.as_datatype_enum, None, f"output {key}") for key, tensor in _outputs(concrete).items()}
    program = Program(name, graph, functions, inputs, outputs)
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    for outer, inner in concrete.graph.captures:
        node = inner.op.name
        if id(outer) in variables:
            program.values[node] = np.asarray(variables[id(outer)].numpy())
        elif hasattr(outer, "numpy") and outer.dtype.is_numpy_compatible and outer.dtype.name != "string":
            program.constants[node] = np.asarray(outer.numpy())
        else:
            raise UnsupportedError("the function captures what is neither a variable nor a tensor of numbers", where=f"capture {node}", got=outer.dtype.name)
    return program


def _concrete(function: Any, signature: str | None) -> Any:
    signatures = getattr(function, "signatures", None)
    if signatures:
        key = signature or ("serving_default" if "serving_default" in signatures else next(iter(signatures)))
        if key not in signatures:
            raise OptionError("the model has no such signature", where="argument signature", got=signature, expected=", ".join(signatures))
        return signatures[key]
    if signature is not None:
        raise OptionError("a function has no signatures", where="argument signature", got=signature, expected="none")
    if hasattr(function, "structured_outputs") and hasattr(function, "graph"):
        return function
    if hasattr(function, "get_concrete_function"):
        try:
            return function.get_concrete_function()
        except (TypeError, ValueError) as error:
            raise OptionError(
                "the function does not say what its inputs are", got=str(error).split("\n")[0][:160], expected="an input signature",
                hint="give function.get_concrete_function(tf.TensorSpec(...)) instead",
            ) from error  # fmt: skip
    raise UnsupportedError(
        "this object of TensorFlow is not read", got=type(function).__qualname__, expected="a ConcreteFunction, a tf.function, or an object with signatures"
    )


def _outputs(concrete: Any) -> dict[str, Any]:
    """Tensors of the graph by name: of a dictionary its keys, else output_0 and so on."""
    structured = concrete.structured_outputs
    if isinstance(structured, dict) and len(structured) == len(concrete.outputs):
        return dict(zip(sorted(structured), concrete.outputs, strict=True))
    return {f"output_{k}": tensor for k, tensor in enumerate(concrete.outputs)}


def _ref(tensor: Any) -> Ref:
    return Ref(tensor.op.name, "", tensor.value_index)
