"""A per-op executor in FP32: every op of a graph is one or a few numpy calls on whole arrays, one op after the other.

This is how a network runs without a compiler: nothing is fused, every result goes through memory, a convolution copies its patches into a
matrix and calls BLAS. Comparisons with an engine take it as their starting point. It is no oracle (that is ``strop.ir.interp``,
which computes in double precision and takes its time), and no engine.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from strop import knobs
from strop.engine.bench import WARMUP_SECONDS, time_calls
from strop.errors import RuntimeFailure, UnsupportedError
from strop.frontend.onnx import read_onnx
from strop.ir import interp
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul

#: What the BLAS libraries that numpy comes with ask for.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")


@dataclass(frozen=True)
class _Call:
    node: Node
    function: Callable[..., tuple[Array, ...]]


class PerOp:
    """Runs a graph op by op. Convolutions and matrix products have f32 forms; all others run their numpy meaning."""

    def __init__(self, graph: Graph) -> None:
        """Looks up the function of every node; UnsupportedError when a dim is symbolic."""
        for value in graph.inputs:
            if not all(isinstance(dim, int) for dim in value.shape):
                raise UnsupportedError("input shape is symbolic", where=value.name, got=value.type)
        self._graph = graph
        self._calls = [_Call(node, function_of(node)) for node in graph.nodes]
        self._consts = {value: value.const for value in graph.constants() if value.const is not None}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; InputError when an input does not fit."""
        interp.bind_symbols(self._graph, inputs)
        arrays: dict[Value, Array] = dict(self._consts)
        arrays.update((value, np.asarray(inputs[value.name])) for value in self._graph.inputs)
        for call in self._calls:
            operands = [interp.ABSENT if v is None else arrays[v] for v in call.node.inputs]
            arrays.update(zip(call.node.outputs, call.function(*operands), strict=True))
        return {n: arrays[v] for n, v in zip(self._graph.output_names, self._graph.outputs, strict=True)}


def function_of(node: Node) -> Callable[..., tuple[Array, ...]]:
    """What computes a node: takes its operands, answers its results. Convolutions and products of f32 are BLAS calls."""
    op = node.op
    f32 = all(v.dtype.name == "f32" for v in (*node.operands, *node.outputs))
    if f32 and isinstance(op, Conv) and op.layout == "NCHW":
        return lambda *operands: (_conv(op, *operands),)
    if f32 and isinstance(op, MatMul):
        return lambda *operands: (_matmul(op, *operands),)
    return op.reference


def _patches(x: Array, kernel: tuple[int, ...], op: Conv) -> Array:
    """View [N, C, *out, *kernel] of x [N, C, *spatial], padded with zeros."""
    rank = len(kernel)
    if any(op.pads):
        pads = [(0, 0), (0, 0), *zip(op.pads[:rank], op.pads[rank:], strict=True)]
        x = np.pad(x, pads)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, op.dilations, strict=True))
    windows = sliding_window_view(x, reach, axis=tuple(range(2, 2 + rank)))
    outer = tuple(slice(None, None, s) for s in op.strides)
    inner = tuple(slice(None, None, d) for d in op.dilations)
    return windows[(slice(None), slice(None), *outer, *inner)]


def _conv(op: Conv, x: Array, w: Array, b: Array | None = None) -> Array:
    """The patches of each group as rows of a matrix, times its filters: x [N, C, *S], w [O, C / groups, *K], b [O]."""
    rank = x.ndim - 2
    windows = _patches(x, w.shape[2:], op)
    batch, out_shape = x.shape[0], windows.shape[2 : 2 + rank]
    columns, filters = w[0].size, w.shape[0] // op.groups
    results = []
    for group in range(op.groups):
        part = windows[:, group * w.shape[1] : (group + 1) * w.shape[1]]
        rows = np.moveaxis(part, 1, 1 + rank).reshape(-1, columns)
        results.append(rows @ w[group * filters : (group + 1) * filters].reshape(filters, columns).T)
    flat = results[0] if op.groups == 1 else np.concatenate(results, axis=1)
    if b is not None:
        flat += b
    return np.ascontiguousarray(np.moveaxis(flat.reshape(batch, *out_shape, -1), -1, 1))


def _matmul(op: MatMul, a: Array, b: Array) -> Array:
    left = a.swapaxes(-1, -2) if op.transpose_a else a
    right = b.swapaxes(-1, -2) if op.transpose_b else b
    return np.asarray(np.matmul(left, right))


def median_ms(model: Path, seconds: float) -> float:
    """Median time of one inference on random inputs, measured in a child process whose BLAS has one thread.

    Args:
        model: ONNX file.
        seconds: how long to measure.

    Raises:
        RuntimeFailure: the child process failed.
    """
    command = [sys.executable, "-m", "strop.engine.per_op", str(model), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, env=knobs.environment(_ONE_THREAD), check=False)
    if done.returncode != 0:
        raise RuntimeFailure("the per-op executor failed", where=str(model), got=done.stderr.strip()[-2000:])
    return float(done.stdout)


def _measure(model: str, seconds: str) -> float:
    graph = read_onnx(model)
    rng = np.random.default_rng(0)
    inputs = {
        v.name: rng.standard_normal(v.type.static_shape).astype(v.dtype.numpy) for v in graph.inputs
    }
    executor = PerOp(graph)
    time_calls(lambda: executor.run(inputs), seconds=WARMUP_SECONDS)
    return median(time_calls(lambda: executor.run(inputs), seconds=float(seconds))) / 1e6


if __name__ == "__main__":
    print(_measure(*sys.argv[1:]))
