"""Sheets of TFLite files: what programs ask an interpreter about a file's tensors, operators and signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strop.frontend.tflite.model import Model, Sparsity, Tensor
from strop.frontend.tflite_sheet import Sheet, SheetOp, SheetSignature, SheetTensor, SheetVariable
from strop.ir.op import Type
from strop.ir.shape import is_static


def sheet_of(
    model: Model, number: int = 0, key: str | None = None, types: Mapping[int, Type] | None = None, places: Mapping[int, str] | None = None,
    variables: Sequence[SheetVariable] = (),
) -> Sheet:  # fmt: skip
    """The sheet of one subgraph.

    Args:
        model: the file.
        number: of the subgraph.
        key: of the signature that it is read by.
        types, places: of tensors by number, where they are known.
        variables: of the engine.
    """
    subgraph = model.subgraphs[number]
    types, places = types or {}, places or {}
    tensors = tuple(_tensor(t, types.get(k), places.get(k, "")) for k, t in enumerate(subgraph.tensors))
    operators = tuple(SheetOp(o.custom or o.code, o.inputs, o.outputs) for o in subgraph.operators)
    signatures = {name: SheetSignature(s.subgraph, dict(s.inputs), dict(s.outputs)) for name, s in model.signatures.items()}
    return Sheet(tensors, subgraph.inputs, subgraph.outputs, operators, signatures, tuple(variables), len(model.subgraphs), number, key or "")


def _tensor(tensor: Tensor, type: Type | None, place: str) -> SheetTensor:
    shape = tensor.shape
    if type is not None and is_static(type.shape):
        shape = tuple(int(d) for d in type.shape)  # type: ignore[arg-type]
    signature = tuple(-1 if k in tensor.free and len(shape) == len(tensor.shape) else d for k, d in enumerate(shape))
    scales, zeros, axis = ((), (), 0) if tensor.grid is None else (tensor.grid.scale.tolist(), tensor.grid.zero.tolist(), tensor.grid.axis)
    const = None
    if tensor.buffer is not None and tensor.sparsity is None and tensor.dtype is not None:
        const = tensor.elements().reshape(tensor.shape)
    sparsity = {} if tensor.sparsity is None else _sparsity(tensor.sparsity)
    return SheetTensor(tensor.name, tensor.type, shape, signature, tuple(scales), tuple(zeros), axis, place, sparsity, const)


def _sparsity(given: Sparsity) -> dict[str, Any]:
    """As an interpreter's details have it: int32 arrays, and a dict per axis with format 0 (dense) or 1 (CSR)."""
    levels: list[dict[str, Any]] = []
    for level in given.levels:
        if level.segments is None:
            levels.append({"format": 0, "dense_size": level.size})
        else:
            levels.append({"format": 1, "array_segments": np.asarray(level.segments, np.int32), "array_indices": np.asarray(level.indices, np.int32)})
    blocks = {"block_map": np.asarray(given.blocks, np.int32)} if given.blocks else {}
    return {"traversal_order": np.asarray(given.order, np.int32), **blocks, "dim_metadata": levels}
