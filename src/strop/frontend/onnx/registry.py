"""The table of ONNX ops: (domain, op type) to import functions with their opset ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from strop.errors import UnsupportedError
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand

#: Opsets of the default domain that are read, up to what onnx 1.23 defines.
MIN_OPSET = 6
MAX_OPSET = 28

#: Emits the ops for one node and returns its results in order; results nobody can ask for may be left out.
Handler = Callable[[NodeContext], "Operand | Sequence[Operand]"]
HandlerT = TypeVar("HandlerT", bound=Handler)


@dataclass(frozen=True)
class Rule:
    """How one op type is imported for opsets ``since`` to ``until``, both included (None: the newest)."""

    op_type: str
    domain: str
    since: int
    until: int | None
    apply: Handler

    @property
    def opsets(self) -> str:
        """The range as text, e.g. ``7-12``."""
        return f"{self.since}-{MAX_OPSET if self.until is None else self.until}"


RULES: dict[tuple[str, str], list[Rule]] = {}


def onnx_op(
    *op_types: str, since: int = 1, until: int | None = None, domain: str = ""
) -> Callable[[HandlerT], HandlerT]:
    """Registers the function that imports the given op types for a range of opsets.

    Args:
        op_types: ONNX op types that share the function.
        since: first opset, that is the ``since_version`` of the oldest form it reads.
        until: last opset, or None for every later one.
        domain: operator domain; "" is ai.onnx.
    """

    def register(function: HandlerT) -> HandlerT:
        for op_type in op_types:
            rules = RULES.setdefault((domain, op_type), [])
            for other in rules:
                if since <= (other.until or MAX_OPSET) and other.since <= (until or MAX_OPSET):
                    raise ValueError(f"two rules for {op_type} at opset {max(since, other.since)}")
            rules.append(Rule(op_type, domain, since, until, function))
            rules.sort(key=lambda rule: rule.since)
        return function

    return register


def find(domain: str, op_type: str, opset: int, where: str) -> Rule:
    """The rule for a node; UnsupportedError says what is supported instead."""
    rules = RULES.get((domain, op_type), [])
    for rule in rules:
        if (
            rule.since
            <= opset
            <= (rule.until or MAX_OPSET if domain == "" else rule.until or opset)
        ):
            return rule
    if rules:
        raise UnsupportedError(
            f"{op_type} of opset {opset} is not supported",
            where=where,
            got=f"domain {domain or 'ai.onnx'}, opset {opset}",
            expected="opset " + ", ".join(rule.opsets for rule in rules),
            hint="convert the model with onnx.version_converter, or export it with another opset",
        )
    raise UnsupportedError(
        f"op type {op_type} is not supported",
        where=where,
        got=f"domain {domain or 'ai.onnx'}, opset {opset}",
        hint=_hint(domain, op_type),
    )


def _hint(domain: str, op_type: str) -> str:
    declare = f"give it as a custom layer, @strop.custom.layer('{domain or 'ai.onnx'}::{op_type}'), see docs/custom.md"
    if domain:
        return f"{declare}; or export the model with ops of the ai.onnx domain only"
    return f"{declare}; or export the model without this op, or cut it off before or after it"
