"""Small ONNX models for tests, and what the ONNX reference evaluator says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import FunctionProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from strop.frontend.onnx import read_onnx
from strop.ir.graph import Graph
from strop.ir.interp import run

Array = np.ndarray[Any, Any]
Shape = Sequence[int | str | None]


def build(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, tuple[Any, Shape]],
    outputs: Sequence[str],
    initializers: Mapping[str, Array] | None = None,
    opset: int = 17,
    functions: Sequence[FunctionProto] = (),
    domains: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model; input types are (numpy dtype, shape), outputs are left untyped."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
            )
            for name, (dtype, shape) in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(a, name) for name, a in (initializers or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(d, v) for d, v in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def single(
    op_type: str,
    operands: Sequence[Array | None],
    opset: int = 17,
    known: Sequence[int] = (),
    results: int = 1,
    **attributes: Any,
) -> tuple[ModelProto, dict[str, Array]]:
    """A model of one node and its inputs; operands in ``known`` are initializers, None is left out. An op type outside ai.onnx has its
    domain in front."""
    domain, _, op_type = op_type.rpartition(".")
    names = ["" if a is None else f"x{i}" for i, a in enumerate(operands)]
    outputs = [f"y{i}" for i in range(results)]
    arrays = {n: a for n, a in zip(names, operands, strict=True) if a is not None}
    fixed = {names[i]: arrays[names[i]] for i in known}
    feeds = {n: a for n, a in arrays.items() if n not in fixed}
    node = helper.make_node(op_type, names, outputs, name="node", domain=domain, **attributes)
    inputs = {n: (a.dtype, a.shape) for n, a in feeds.items()}
    return build([node], inputs, outputs, fixed, opset, domains={domain: 1} if domain else None), feeds


def check(
    model: ModelProto,
    feeds: Mapping[str, Array],
    rtol: float = 1e-5,
    atol: float = 1e-6,
    peer: str = "onnx",
    **options: Any,
) -> Graph:
    """Reads a model and compares the oracle's results with a peer's: onnx (its reference evaluator) or onnxruntime."""
    graph = read_onnx(model, **options)
    got = run(graph, {v.name: feeds[v.name] for v in graph.inputs})
    wanted = onnx_runtime(model, feeds) if peer == "onnxruntime" else reference(model, feeds)
    assert list(got) == [o.name for o in model.graph.output]
    for name, expected in zip(got, wanted, strict=True):
        compare(got[name], np.asarray(expected), rtol, atol)
    return graph


def reference(model: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Results of the ONNX reference evaluator."""
    return list(ReferenceEvaluator(model).run(None, dict(feeds)))


def onnx_runtime(model: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Results of ONNX Runtime on the CPU; outputs may be left untyped, those of other domains than ai.onnx are then f32."""
    typed = onnx.shape_inference.infer_shapes(model)
    for value in typed.graph.output:
        if not value.type.HasField("tensor_type"):
            value.type.CopyFrom(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        typed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feeds)))


def compare(got: Array, expected: Array, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Equal dtype and shape, close elements."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    unit = {"bfloat16": 2**-7, "float16": 2**-10}.get(got.dtype.name)
    if (
        unit is not None
    ):  # two units in the last place, as onnx.backend.test.runner has it for bfloat16
        got, expected = got.astype(np.float32), expected.astype(np.float32)
        rtol = max(rtol, 2 * unit)
    np.testing.assert_allclose(got, expected, rtol, atol)


def floats(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Array:
    """Uniform f32 elements."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def longs(*values: int) -> Array:
    """A list of i64."""
    return np.asarray(values, np.int64)
