"""What a frontend says about every node of a model: whether it can be read, and one error for all that cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strop.errors import StropError, UnsupportedError


@dataclass(frozen=True)
class Verdict:
    """What becomes of one node of the model.

    Attributes:
        name: its name, or one made of its op type when it has none; an output that cannot be given is ``output NAME``.
        op_type: source op, e.g. an ONNX op type with its domain in front when that is not ai.onnx, or ``aten.relu.default``.
        opset: version of its ONNX domain, else 0.
        supported: whether it can be read.
        checked: False when only the op was looked at, because an operand comes from an unsupported node.
        reason: why it is not supported, else "".
        hint: what to try, or None.
    """

    name: str
    op_type: str
    opset: int
    supported: bool
    checked: bool = True
    reason: str = ""
    hint: str | None = None


def origins(verdicts: Sequence[Verdict]) -> tuple[tuple[str, str], ...]:
    """(name, op type) of every node, in order, each name once."""
    return tuple({v.name: v.op_type for v in verdicts}.items())


def reason(error: StropError) -> str:
    """One line without the place, which a verdict names by itself."""
    parts = [error.what]
    if error.got is not None:
        parts.append(f"got {error.got}")
    if error.expected is not None:
        parts.append(f"expected {error.expected}")
    return "; ".join(parts)


def combined(errors: Sequence[StropError], total: int) -> StropError:
    """One error for all that went wrong: a defect of the model first, else everything that is not supported."""
    for error in errors:
        if not isinstance(error, UnsupportedError):
            return error
    if len(errors) == 1:
        return errors[0]
    lines = [f"{error.where}: {reason(error)}" for error in errors]
    hints = list(dict.fromkeys(e.hint for e in errors if e.hint))
    return UnsupportedError(
        f"{len(errors)} of {total} nodes are not supported",
        got="\n    ".join(["", *lines]),
        hint="; ".join(hints) or None,
    )
