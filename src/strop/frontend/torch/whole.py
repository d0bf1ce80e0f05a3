"""Keeps recurrent layers whole while PyTorch exports a program.

PyTorch finds the shapes of an LSTM by unrolling it, so that exporting one takes long and fixes its number of steps. Operators
``strop::lstm``, ``gru``, ``rnn_tanh`` and ``rnn_relu`` of the same arguments stand for the layers here; they know their shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_LIBRARY = torch.library.Library("strop", "FRAGMENT")
_REST = "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
_NAMES = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _define(name: str) -> None:
    states = 2 if name == "lstm" else 1
    hx = "Tensor[] hx" if states == 2 else "Tensor hx"
    results = ", ".join(["Tensor"] * (1 + states))
    _LIBRARY.define(f"{name}(Tensor input, {hx}, {_REST}) -> ({results})")

    def computed(*args: Any) -> Any:
        return getattr(torch.ops.aten, name).input(*args)

    def shaped(
        x: torch.Tensor, hx: Any, params: list[torch.Tensor], has_biases: bool, num_layers: int, dropout: float, train: bool,
        bidirectional: bool, batch_first: bool,
    ) -> Any:  # fmt: skip
        first = list(hx) if states == 2 else [hx]
        width = first[0].shape[-1] * (2 if bidirectional else 1)
        return (x.new_empty((*x.shape[:-1], width)), *(torch.empty_like(s) for s in first))

    _LIBRARY.impl(name, computed, "CompositeExplicitAutograd")
    torch.library.register_fake(f"strop::{name}", shaped, lib=_LIBRARY)


for _name in _NAMES:
    _define(_name)

#: PyTorch's operators and those that stand for them.
_WHOLE = {getattr(torch.ops.aten, name).input: getattr(torch.ops.strop, name).default for name in _NAMES}


class WholeLayers(TorchFunctionMode):  # type: ignore[misc]
    """While it is active, recurrent layers of modules call the operators that stand for them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _NAMES and len(args) == 9 and isinstance(args[2], (list, tuple)):
            return getattr(torch.ops.strop, name)(*args)
        return func(*args, **(kwargs or {}))


@contextmanager
def whole_nodes(graph: Any) -> Iterator[None]:
    """While it is active, the recurrent layers of a graph are nodes of these operators."""
    changed = [node for node in graph.nodes if node.op == "call_function" and node.target in _WHOLE]
    before = [node.target for node in changed]
    for node in changed:
        node.target = _WHOLE[node.target]
    try:
        yield
    finally:
        for node, target in zip(changed, before, strict=True):
            node.target = target
