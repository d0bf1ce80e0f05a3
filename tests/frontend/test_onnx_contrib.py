"""Ops of ONNX Runtime's own domain, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import helper

import strop
from strop.errors import ModelError, StropError, UnsupportedError
from strop.frontend.onnx import read_onnx
from strop.ir.interp import run
from tests.frontend.backend_cases import Problem, check_all, merged
from tests.frontend.onnx_models import check, floats, longs, single

F32 = np.float32
RNG = np.random.default_rng(3)
X = floats(2, 6, 8)
U8 = RNG.integers(0, 256, (2, 6, 8)).astype(np.uint8)
I8 = RNG.integers(-128, 128, (2, 6, 8)).astype(np.int8)
#: Of 7 bits: with more, ONNX Runtime's sums of two products saturate on x86-64 processors without VNNI.
WEIGHTS = I8[0] // 2
IMAGE = RNG.integers(0, 256, (1, 4, 6, 5)).astype(np.uint8)
IDS = RNG.integers(0, 9, (2, 6)).astype(np.int32)
GAMMA, BETA = floats(8, low=0.5, high=1.5), floats(8, seed=1)


def scalar(value: Any, kind: Any = F32) -> Any:
    return np.asarray(value, kind)


SMALL = (scalar(0.02), scalar(7, np.uint8))
OTHER = (scalar(0.05), scalar(130, np.uint8))
SIGNED = (scalar(0.03), scalar(-4, np.int8))

#: Op type, operands, dtypes of results, attributes.
CASES: list[tuple[str, list[Any], tuple[Any, ...], dict[str, Any]]] = [
    ("Gelu", [X], (F32,), {}),
    ("FastGelu", [X], (F32,), {}),
    ("FastGelu", [X, BETA], (F32,), {}),
    ("FusedConv", [floats(1, 3, 6, 6), floats(4, 3, 3, 3), floats(4)], (F32,), {"activation": "Relu", "pads": [1] * 4}),
    ("FusedConv", [floats(1, 3, 6, 6), floats(4, 3, 1, 1), floats(4), floats(1, 4, 6, 6)], (F32,), {"activation": "Relu"}),
    ("FusedConv", [floats(1, 3, 6, 6), floats(4, 3, 3, 3)], (F32,), {"activation": "Clip", "activation_params": [-1.0, 2.0]}),
    ("FusedConv", [floats(1, 3, 6, 6), floats(4, 3, 3, 3)], (F32,), {"activation": "LeakyRelu", "activation_params": [0.2]}),
    ("FusedGemm", [floats(3, 4), floats(5, 4), floats(5)], (F32,), {"transB": 1, "alpha": 0.5, "activation": "LeakyRelu", "activation_alpha": 0.3}),
    ("FusedMatMul", [floats(2, 4, 3), floats(2, 4, 5)], (F32,), {"transA": 1, "alpha": 0.25}),
    ("FusedMatMul", [floats(2, 3, 4), floats(2, 5, 4)], (F32,), {"transB": 1}),
    ("SkipLayerNormalization", [X, X[::-1].copy(), GAMMA, BETA], (F32,), {"epsilon": 1e-5}),
    ("SkipLayerNormalization", [X, X[::-1].copy(), GAMMA, BETA, floats(8, seed=2)], (F32, None, None, F32), {}),
    ("SkipSimplifiedLayerNormalization", [X, X[::-1].copy(), GAMMA], (F32, None, None, F32), {"epsilon": 1e-5}),
    ("EmbedLayerNormalization", [IDS, IDS % 2, floats(9, 8), floats(6, 8, seed=1), floats(2, 8, seed=2), GAMMA, BETA, (IDS > 2).astype(np.int32)], (F32, np.int32), {}),
    ("EmbedLayerNormalization", [IDS, None, floats(9, 8), floats(6, 8, seed=1), None, GAMMA, BETA], (F32, np.int32), {}),
    ("Attention", [X, floats(8, 24), floats(24)], (F32,), {"num_heads": 2}),
    ("Attention", [X, floats(8, 24), floats(24)], (F32,), {"num_heads": 2, "unidirectional": 1}),
    ("Attention", [X, floats(8, 24), floats(24), np.asarray([6, 4], np.int32)], (F32,), {"num_heads": 4}),
    ("Attention", [X, floats(8, 24), floats(24), (IDS > 2).astype(np.int32)], (F32,), {"num_heads": 2}),
    ("MultiHeadAttention", [X, floats(2, 5, 8, seed=1), floats(2, 5, 8, seed=2)], (F32,), {"num_heads": 2}),
    ("MultiHeadAttention", [X, X, X, floats(24)], (F32,), {"num_heads": 4, "scale": 0.5}),
    ("QuantizeLinear", [X, *SMALL], (np.uint8,), {}),
    ("DequantizeLinear", [U8, *SMALL], (F32,), {}),
    ("QLinearAdd", [U8, *SMALL, U8[::-1].copy(), *OTHER, *OTHER], (np.uint8,), {}),
    ("QLinearAdd", [I8, *SIGNED, I8[::-1].copy(), *SIGNED, scalar(0.06), scalar(3, np.int8)], (np.int8,), {}),
    ("QLinearMul", [U8, *SMALL, U8[:, :1].copy(), *OTHER, *OTHER], (np.uint8,), {}),
    ("QLinearSigmoid", [U8, *OTHER, scalar(1 / 256), scalar(0, np.uint8)], (np.uint8,), {}),
    ("QLinearLeakyRelu", [I8, *SIGNED, *SIGNED], (np.int8,), {"alpha": 0.1}),
    ("QLinearSoftmax", [U8, *OTHER, scalar(1 / 256), scalar(0, np.uint8)], (np.uint8,), {"axis": -1, "opset": 13}),
    ("QLinearConcat", [*OTHER, U8, *SMALL, U8[:, :2].copy(), *OTHER], (np.uint8,), {"axis": 1}),
    ("QLinearAveragePool", [IMAGE, *SMALL, *SMALL], (np.uint8,), {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]}),
    ("QLinearGlobalAveragePool", [IMAGE, *SMALL, *SMALL], (np.uint8,), {"channels_last": 0}),
    ("QLinearGlobalAveragePool", [IMAGE, *SMALL, *SMALL], (np.uint8,), {"channels_last": 1}),
    ("NhwcMaxPool", [IMAGE], (np.uint8,), {"kernel_shape": [2, 2], "strides": [2, 1]}),
    ("MatMulIntegerToFloat", [U8[0], WEIGHTS.T.copy(), *(scalar(s) for s in (0.02, 0.03)), scalar(100, np.uint8), scalar(3, np.int8), floats(6)], (F32,), {}),
    ("MatMulIntegerToFloat", [U8[0], WEIGHTS.T.copy(), scalar(0.02), floats(6, low=0.01, high=0.1)], (F32,), {}),
    ("DynamicQuantizeMatMul", [X, WEIGHTS.T.copy(), scalar(0.03), scalar(3, np.int8), floats(6)], (F32,), {}),
    ("QGemm", [U8[0], *SMALL, WEIGHTS, scalar(0.03), scalar(2, np.int8), np.arange(6, dtype=np.int32)], (F32,), {"transB": 1, "alpha": 0.5}),
    ("QGemm", [U8[0], *SMALL, U8[1], *OTHER, None, scalar(2.0), scalar(9, np.uint8)], (np.uint8,), {"transB": 1}),
    ("MatMulNBits", [floats(3, 32), RNG.integers(0, 256, (5, 2, 8)).astype(np.uint8), floats(10)], (F32,), {"K": 32, "N": 5, "bits": 4, "block_size": 16}),
    ("MatMulNBits", [floats(3, 40), RNG.integers(0, 256, (5, 2, 16)).astype(np.uint8), floats(10), RNG.integers(0, 256, 5).astype(np.uint8)], (F32,), {"K": 40, "N": 5, "bits": 4, "block_size": 32}),
]  # fmt: skip


def model_of(op_type: str, operands: Sequence[Any], kinds: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """A model of one node; weights and the like are constants, results left out are named by None."""
    known = [i for i, a in enumerate(operands) if a is not None and (op_type, i) in CONSTANT]
    given = {name: value for name, value in attributes.items() if name != "opset"}
    model, feeds = single(f"com.microsoft.{op_type}", operands, 17, known, len(kinds), **given)
    if "opset" in attributes:  # an attribute that is named like a parameter of ``single``
        model.graph.node[0].attribute.append(helper.make_attribute("opset", attributes["opset"]))
    for index, kind in enumerate(kinds):
        if kind is None:
            model.graph.node[0].output[index] = ""
        else:
            element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
            model.graph.output[index].type.CopyFrom(helper.make_tensor_type_proto(element, None))
    kept = [o for o, kind in zip(list(model.graph.output), kinds, strict=True) if kind is not None]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return model, feeds


CONSTANT = {("MatMulNBits", i) for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("op_type", "operands", "kinds", "attributes"),
    CASES,
    ids=[f"{k}-{c[0]}" for k, c in enumerate(CASES)],
)
def test_as_onnx_runtime(
    op_type: str, operands: list[Any], kinds: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    model, feeds = model_of(op_type, operands, kinds, attributes)
    rounded = any(k in (np.uint8, np.int8) for k in kinds)  # a tie may fall either way
    check(model, feeds, rtol=2e-5, atol=1 if rounded else 2e-5, peer="onnxruntime")


def test_all_in_one_engine() -> None:
    found = {}
    for number, (op_type, operands, kinds, attributes) in enumerate(CASES):
        model, feeds = model_of(op_type, operands, kinds, attributes)
        graph = read_onnx(model)
        given = {v.name: np.asarray(feeds[v.name]) for v in graph.inputs}
        found[f"{number}-{op_type}"] = Problem(graph, given, list(run(graph, given).values()))
    graph, feeds, outputs = merged(found)
    got = strop.build(graph, level=0, threads=1).run(feeds)
    for name, problem in found.items():
        rounded = any(a.dtype in (np.uint8, np.int8) for a in problem.expected)
        check_all([got[o] for o in outputs[name]], problem, 1e-4, 1 if rounded else 1e-5)


def test_rms_norm_under_its_old_name() -> None:
    model, feeds = single("SimplifiedLayerNormalization", [X, GAMMA], 17, epsilon=1e-5)
    model.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(1, None))
    check(model, feeds, peer="onnxruntime")


@pytest.mark.parametrize(
    ("op_type", "operands", "attributes", "kind", "says"),
    [
        ("FusedConv", [floats(1, 3, 6, 6), floats(4, 3, 3, 3)], {"activation": "Mish"}, UnsupportedError, "activation"),
        ("FusedMatMul", [X, X], {"transBatchA": 1}, UnsupportedError, "transBatchA"),
        ("Attention", [X, floats(8, 24)], {"num_heads": 3}, ModelError, "num_heads"),
        ("Attention", [X, floats(8, 24)], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]}, ModelError, "qkv_hidden_sizes"),
        ("Attention", [X, floats(8, 24), None, None, X], {"num_heads": 2}, UnsupportedError, "past and present"),
        ("Attention", [X, floats(8, 24), None, floats(2, 1, 1, 6)], {"num_heads": 2}, UnsupportedError, "form of mask"),
        ("MultiHeadAttention", [X, floats(2, 2, 5, 4), X], {"num_heads": 2}, UnsupportedError, "packed or 4-D"),
        ("MultiHeadAttention", [X, X, X, None, None, None, X], {"num_heads": 2}, UnsupportedError, "past and present"),
        ("QLinearSoftmax", [U8, *SMALL, *SMALL], {"axis": 1, "opset": 11}, UnsupportedError, "before opset 13"),
        ("QLinearConcat", [*SMALL, U8], {"axis": 1}, ModelError, "three operands"),
        ("QLinearAveragePool", [IMAGE, *SMALL, *SMALL], {"kernel_shape": [2, 2], "channels_last": 1}, UnsupportedError, "channels_last"),
        ("MatMulNBits", [X, U8, BETA], {"K": 8, "N": 2, "bits": 3, "block_size": 16}, UnsupportedError, "3 bits"),
        ("MatMulNBits", [X, U8, BETA], {"K": 8, "N": 2, "block_size": 16}, ModelError, "packed numbers"),
        ("MatMulNBits", [X, np.zeros((2, 1, 8), np.uint8), BETA], {"K": 8, "N": 2, "block_size": 16}, ModelError, "scales"),
        ("MatMulNBits", [X, np.zeros((2, 1, 8), np.uint8), BETA[:2], None, longs(0)], {"K": 8, "N": 2, "block_size": 16}, UnsupportedError, "g_idx"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    op_type: str, operands: list[Any], attributes: dict[str, Any], kind: type[StropError], says: str
) -> None:
    model, _ = model_of(op_type, operands, (F32,), attributes)
    with pytest.raises(StropError) as caught:
        read_onnx(model)
    assert type(caught.value) is kind, caught.value
    assert says in str(caught.value)


@pytest.mark.parametrize("op_type", ["SkipLayerNormalization", "EmbedLayerNormalization"])
def test_results_that_are_not_computed(op_type: str) -> None:
    if op_type == "SkipLayerNormalization":
        model, _ = model_of(op_type, [X, X, GAMMA], (F32, F32), {})
    else:
        operands = [IDS, None, floats(9, 8), floats(6, 8), None, GAMMA, BETA]
        model, _ = model_of(op_type, operands, (F32, np.int32), {"mask_index_type": 0})
    with pytest.raises(UnsupportedError, match="unsupported value" if op_type[0] == "E" else "results 1 and 2"):
        read_onnx(model)
