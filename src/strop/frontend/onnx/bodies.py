"""Ops that the ONNX standard defines by other ops: the importer expands those that have no import function of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TypeProto

from strop.errors import UnsupportedError
from strop.frontend.onnx.operands import Listed, Operand
from strop.frontend.onnx.registry import MAX_OPSET, RULES
from strop.ir.op import Type

#: Ops with a body that cannot be expanded: it draws random numbers.
_RANDOM = ("Bernoulli",)


def body_of(
    op_type: str,
    opset: int,
    attributes: Mapping[str, AttributeProto],
    operands: Sequence[Operand | None],
    results: int,
    where: str,
) -> tuple[FunctionProto, dict[str, AttributeProto]] | None:
    """The body of an op of the default domain, and its attributes with the schema's defaults.

    Args:
        op_type: ONNX op type.
        opset: version of the domain that the model imports.
        attributes: attributes that the node gives, with references resolved.
        operands: what its inputs stand for; the bodies of some ops depend on their types.
        results: how many results the node names.
        where: the node, for messages.

    Returns:
        None when the standard defines the op otherwise or not at all.

    Raises:
        UnsupportedError: an attribute that the op does not have.
    """
    try:
        schema: Any = onnx.defs.get_schema(op_type, opset, "")  # the stubs lack what it can do
    except onnx.defs.SchemaError:
        return None
    if not (schema.has_function or schema.has_context_dependent_function):
        return None
    unknown = sorted(set(attributes) - set(schema.attributes))
    if unknown:
        raise UnsupportedError(
            f"{op_type}: attribute {unknown[0]} is not known",
            where=where,
            expected=", ".join(sorted(schema.attributes)),
        )
    given = {
        name: a.default_value for name, a in schema.attributes.items() if a.default_value.name
    } | dict(attributes)
    function = FunctionProto()
    if schema.has_function:
        function.CopyFrom(schema.function_body)
        return function, given
    call = NodeProto(op_type=op_type, attribute=attributes.values())
    call.input.extend("" if o is None else f"i{k}" for k, o in enumerate(operands))
    call.output.extend(f"o{k}" for k in range(results))
    types = [b"" if o is None else _type(o).SerializeToString() for o in operands]
    text = schema.get_context_dependent_function(call.SerializeToString(), types)
    if not text:
        return None
    function.ParseFromString(text)
    return function, given


def _type(operand: Operand) -> TypeProto:
    """An operand's type as ONNX writes it; symbolic dims are left unknown."""
    proto = TypeProto()
    if isinstance(operand, Listed):
        proto.sequence_type.elem_type.tensor_type.elem_type = 1
        return proto
    type: Type = operand.type
    proto.tensor_type.elem_type = type.dtype.code
    proto.tensor_type.shape.SetInParent()
    for dim in type.shape:
        entry = proto.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
    return proto


def expanded_op_types() -> dict[str, str]:
    """Op types of the default domain that are read through their bodies, with their opset ranges."""
    found: dict[str, str] = {}
    schemas: Sequence[Any] = onnx.defs.get_all_schemas()
    for schema in schemas:
        if schema.domain or (("", schema.name) in RULES) or schema.name in _RANDOM:
            continue
        if schema.has_function or schema.has_context_dependent_function:
            found[schema.name] = f"{_first(schema.name)}-{MAX_OPSET}"
    return found


def _first(op_type: str) -> int:
    """The first opset that has the op."""
    version = 1
    while version < MAX_OPSET and not onnx.defs.has(op_type, version, ""):
        version += 1
    return version
