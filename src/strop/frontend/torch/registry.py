"""The table of ATen ops: overload names such as ``aten.relu.default`` to import functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from strop.frontend.rules import registers
from strop.frontend.torch.context import NodeContext
from strop.ir.graph import Value

#: Emits the ops for one node and returns its results in order; results that nothing asks for may be None or left out.
Handler = Callable[[NodeContext], "Value | Sequence[Value | None]"]
HandlerT = TypeVar("HandlerT", bound=Handler)

RULES: dict[str, Handler] = {}


def torch_op(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Registers the function that imports the given overloads.

    PyTorch does not decompose an op that is registered here; all others it spells out in ops of its own, where it can.

    Args:
        names: overloads with their namespace, such as ``aten.add.Tensor``.
    """

    return registers(RULES, names)


#: Ops that cannot be read whatever their operands are: (start of the overload's name, why, what to try).
REFUSED = (
    ("aten.nonzero", "how many elements it finds depends on the data", "use torch.where(condition, a, b), or a mask, in its place"),
    ("aten.masked_select", "how many elements it finds depends on the data", "multiply with the mask, or use torch.where(condition, a, b)"),
    ("aten._unique", "how many elements it finds depends on the data", "leave it out of the network"),
    ("aten.unique", "how many elements it finds depends on the data", "leave it out of the network"),
    ("aten._local_scalar_dense", "a number taken out of a tensor decides what the program does", "keep it a tensor: no .item(), no if on tensors"),
    ("torchvision.nms", "how many boxes it keeps depends on the data", "end the network before it, and call it on the engine's outputs"),
    ("aten.rand", "random numbers are not supported", "pass them in as an input"),
    ("aten.bernoulli", "random numbers are not supported", "module.eval(), or pass them in as an input"),
    ("aten.multinomial", "random numbers are not supported", "end the network before it"),
    ("higher_order.", "control flow is not supported", "decide it before the export, or compute both branches and use torch.where"),
    ("quantized_decomposed.", "PyTorch's quantized programs are not supported", "export the float module"),
)  # fmt: skip


def refusal(name: str) -> tuple[str, str]:
    """Why an op is not supported, and what to try."""
    for start, why, hint in REFUSED:
        if name.startswith(start):
            return why, hint
    return f"op {name} is not supported", "spell it out with other ops, or end the network before it"
