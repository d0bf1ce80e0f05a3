"""What PyTorch says a module gives, beside what its graph gives in the numpy oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from strop.frontend.torch.reader import read
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.verify import verify

Array = np.ndarray[Any, Any]


def leaves(module: Any, inputs: Sequence[torch.Tensor]) -> list[tuple[str, Array]]:
    """Results of a module by their paths."""
    with torch.no_grad():
        results = module(*inputs)
    found, _ = pytree.tree_flatten_with_path(results)
    return [(pytree.keystr(path), _numpy(leaf)) for path, leaf in found]


def _numpy(tensor: torch.Tensor) -> Array:
    return tensor.float().numpy() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor.numpy()


def arrays(graph: Graph, inputs: Sequence[torch.Tensor]) -> dict[str, Array]:
    """Inputs of a graph, in its dtypes."""
    found = {}
    for value, tensor in zip(graph.inputs, inputs, strict=True):
        array = tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()
        found[value.name] = array.astype(value.dtype.numpy)
    return found


def check(module: Any, inputs: Sequence[torch.Tensor], rtol: float = 1e-5, atol: float = 1e-5, **options: Any) -> Graph:
    """Compares a module with its graph; answers the graph."""
    expected = leaves(module, inputs)
    graph = read(module, example_inputs=tuple(inputs), **options)
    verify(graph, "imported")
    compare(graph, inputs, expected, rtol, atol)
    return graph


def compare(graph: Graph, inputs: Sequence[torch.Tensor], expected: Sequence[tuple[str, Array]], rtol: float, atol: float) -> None:
    """Compares results of a graph with those expected, every one by its path."""
    got = list(run(graph, arrays(graph, inputs)).values())
    assert len(got) == len(expected)
    for (path, want), have in zip(expected, got, strict=True):
        assert have.shape == want.shape, path
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(have, want, err_msg=path)
        else:
            np.testing.assert_allclose(have.astype(want.dtype), want, rtol, atol, err_msg=path)
