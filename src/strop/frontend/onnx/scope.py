"""The names of one graph, function body or subgraph while it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, NodeProto

from strop.errors import ModelError
from strop.frontend.onnx.operands import Operand, Unknown


@dataclass
class Scope:
    """Names of one graph, function body or subgraph.

    Attributes:
        names: what each name stands for.
        opsets: domain to version.
        prefix: put before node names.
        attributes: a function call's attributes, for nodes that refer to them.
        depth: how many functions and subgraphs it lies in.
        parent: the scope whose names a subgraph sees beside its own; None for a function body, which sees only its operands.
    """

    names: dict[str, Operand | Unknown]
    opsets: Mapping[str, int]
    prefix: str = ""
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict)
    depth: int = 0
    parent: Scope | None = None

    def sees(self, name: str) -> bool:
        """Whether the scope or one around it already gives the name a meaning."""
        return name in self.names or (self.parent is not None and self.parent.sees(name))


def attributes_of(node: NodeProto, scope: Scope, where: str) -> dict[str, AttributeProto]:
    """A node's attributes, with references to a function's attributes resolved."""
    found: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if attribute.name in found:
            raise ModelError("an attribute is given twice", where=where, got=attribute.name)
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in scope.attributes:
            found[attribute.name] = scope.attributes[attribute.ref_attr_name]
    return found


def without(node: NodeProto, absent: set[str]) -> NodeProto:
    """A function's node with the operands left out that the call left out."""
    if not any(i in absent for i in node.input):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["" if i in absent else i for i in node.input]
    return copy
