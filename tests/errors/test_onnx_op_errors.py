"""Nodes that ops of the newer families refuse: control flow, sequences, quantization, regions, signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from strop.errors import ModelError, ShapeError, StropError, UnsupportedError
from strop.frontend.onnx import importer, read_onnx, survey
from tests.frontend.onnx_models import build, floats, longs, single

N = helper.make_node
X = {"x": (np.float32, [2, 3])}
IMAGE = floats(1, 2, 5, 5)


def body(
    nodes: Sequence[Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    initializers: dict[str, Any] | None = None,
) -> GraphProto:
    """A subgraph with untyped inputs and outputs."""
    return helper.make_graph(
        list(nodes),
        "body",
        [helper.make_empty_tensor_value_info(n) for n in inputs],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (initializers or {}).items()],
    )


def refused(model: ModelProto, kind: type[StropError], *words: str) -> None:
    with pytest.raises(StropError) as caught:
        read_onnx(model)
    assert type(caught.value) is kind, caught.value
    for word in words:
        assert word in str(caught.value), caught.value


# ---- control flow


def _if(other: list[Any], result: str) -> ModelProto:
    branches = {
        "then_branch": body([N("Relu", ["x"], ["a"])], [], ["a"]),
        "else_branch": body(other, [], [result]),
    }
    condition = [N("ReduceMax", ["x"], ["m"], keepdims=0), N("Cast", ["m"], ["c"], to=TensorProto.BOOL)]
    return build([*condition, N("If", ["c"], ["y"], name="choose", **branches)], X, ["y"])


def test_branches_of_different_types() -> None:
    model = _if([N("Transpose", ["x"], ["b"])], "b")
    refused(model, UnsupportedError, "node choose (If)", "type of a result", "f32[2,3] or f32[3,2]", "try:")


def test_branches_with_different_numbers_of_results() -> None:
    model = _if([N("Relu", ["x"], ["b"])], "b")
    model.graph.node[2].attribute[1].g.output.append(helper.make_empty_tensor_value_info("x"))
    refused(model, ModelError, "branches differ")


def test_condition_of_many_elements() -> None:
    branch = body([N("Relu", ["x"], ["a"])], [], ["a"])
    nodes = [
        N("Cast", ["x"], ["c"], to=TensorProto.BOOL),
        N("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    refused(build(nodes, X, ["y"]), ModelError, "cond must have one element")


STEP = ["i", "c", "s"]


def _loop(nodes: list[Any], outputs: list[str], trips: int | None, **known: Any) -> ModelProto:
    inputs = ["trips" if trips is not None else "", "go" if "go" in known else "", "x"]
    arrays = {"trips": np.int64(trips or 0), **known}
    arrays = {n: np.asarray(a) for n, a in arrays.items() if n in inputs}
    results = [f"y{k}" for k in range(len(outputs) - 1)]
    node = N("Loop", inputs, results, name="again", body=body(nodes, STEP, outputs))
    return build([node], X, results, arrays)


def _counted(nodes: list[Any], outputs: list[str]) -> ModelProto:
    """A loop of as many rounds as an input says, but no more than a caller has allowed."""
    results = [f"y{k}" for k in range(len(outputs) - 1)]
    node = N("Loop", ["n", "", "x"], results, name="again", body=body(nodes, STEP, outputs))
    return build([node], {**X, "n": (np.int64, [])}, results)


def test_loop_that_collects_of_any_number_of_rounds() -> None:
    model = _counted([N("Relu", ["s"], ["t"])], ["c", "t", "t"])
    refused(model, UnsupportedError, "node again (Loop)", "number of rounds is computed", "--shape 'y0[]=1..100'")
    read_onnx(model, {"y1[]": "1..9"})


def test_loop_that_changes_what_it_carries() -> None:
    model = _counted([N("Concat", ["s", "s"], ["t"], axis=0)], ["c", "t"])
    refused(model, UnsupportedError, "node again (Loop)", "changes the type of a value", "f32[2,3] becomes f32[4,3]")


def test_loop_that_collects_values_of_different_sizes() -> None:
    model = _counted([N("NonZero", ["s"], ["t"])], ["c", "s", "t"])
    with pytest.raises(UnsupportedError, match="differ in size from round to round"):
        read_onnx(model, {"y1[]": "1..9"})


def test_loop_that_never_ends() -> None:
    refused(_loop([], ["c", "s"], None, go=True), UnsupportedError, "never ends")


def test_loops_within_loops_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "MAX_NODES", 5000)
    inner = body([N("Constant", [], ["m"], value_int=4000)], STEP, ["c", "s"])
    for _ in range(4):
        again = N("Loop", ["m", "c", "s"], ["r"], body=inner)
        inner = body([N("Constant", [], ["m"], value_int=4000), again], STEP, ["c", "r"])
    model = build([N("Loop", ["n", "go", "x"], ["y"], body=inner)], X, ["y"], {"n": np.asarray(4000), "go": np.asarray(True)})
    refused(model, ModelError, "too many nodes")


def test_subgraph_with_another_number_of_inputs() -> None:
    node = N("Loop", ["n", "", "x"], ["y"], body=body([N("Relu", ["s"], ["t"])], STEP[:2], ["c", "t"]))
    refused(build([node], X, ["y"], {"n": np.asarray(2)}), ModelError, "does not fit its node")


def test_function_whose_subgraph_calls_it_again() -> None:
    again = body([N("F", ["c", "x"], ["a"], domain="local")], [], ["a"])
    choice = N("If", ["c"], ["y"], then_branch=again, else_branch=again)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "F", ["c", "x"], ["y"], [choice], opsets)
    node = N("F", ["c", "x"], ["y"], domain="local")
    known = {"c": np.asarray(True)}
    model = build([node], X, ["y"], known, functions=[function], domains={"local": 1})
    refused(model, ModelError, "too deeply")


def test_a_node_inside_a_subgraph_is_named() -> None:
    model = _if([N("ImageDecoder", ["x"], ["b"], name="inner")], "b")
    refused(model, UnsupportedError, "node choose/else/inner (ImageDecoder)")
    names = {v.name: v for v in survey(model)}
    assert not names["choose/else/inner"].supported and names["choose/then/Relu_0"].supported


def test_a_subgraph_reads_what_nothing_defines() -> None:
    refused(_if([N("Relu", ["ghost"], ["b"])], "b"), ModelError, "nothing defines", "ghost")


def _scan(count: int = 1, **attributes: Any) -> ModelProto:
    inner = body([N("Add", ["s", "e"], ["t"]), N("Relu", ["e"], ["z"])], ["s", "e"], ["t", "z"])
    node = N("Scan", ["s0", "x"], ["s1", "y"], body=inner, num_scan_inputs=count, **attributes)
    return build([node], X, ["s1", "y"], {"s0": floats(3)})


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"count": 3}, "num_scan_inputs"),
        ({"scan_input_axes": [0, 1]}, "scanned inputs"),
        ({"scan_output_axes": [0, 1]}, "scan outputs"),
        ({"scan_output_axes": [5]}, "axis out of range"),
    ],
)
def test_scan_that_does_not_fit(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(StropError, match=words):
        read_onnx(_scan(**attributes))


def test_scan_of_opset_8_with_lengths() -> None:
    inner = body([N("Add", ["s", "e"], ["t"])], ["s", "e"], ["t"])
    node = N("Scan", ["n", "s0", "x"], ["s1"], body=inner, num_scan_inputs=1)
    model = build([node], {"x": (np.float32, [1, 2, 3])}, ["s1"], {"s0": floats(1, 3), "n": longs(2)}, 8)
    refused(model, UnsupportedError, "sequence_lens")


# ---- sequences and optionals


@pytest.mark.parametrize(
    ("nodes", "kind", "words"),
    [
        ([N("SequenceConstruct", ["x"], ["y"])], UnsupportedError, "an output is no tensor"),
        ([N("SequenceConstruct", ["x"], ["s"]), N("Relu", ["s"], ["y"])], UnsupportedError, "a sequence is read"),
        ([N("SequenceConstruct", ["x"], ["s"]), N("Reshape", ["x", "s"], ["y"])], UnsupportedError, "a sequence is read"),
        ([N("SequenceConstruct", ["x"], ["s"]), N("SequenceConstruct", ["s"], ["y"])], UnsupportedError, "sequence of sequences"),
        ([N("SequenceLength", ["x"], ["y"])], ModelError, "is no sequence"),
        ([N("SequenceConstruct", ["x"], ["s"]), N("SequenceAt", ["s", "one"], ["y"])], ModelError, "position out of range"),
        ([N("SequenceEmpty", [], ["s"]), N("ConcatFromSequence", ["s"], ["y"], axis=0)], ModelError, "is empty"),
        ([N("SplitToSequence", ["x", "two"], ["y"], axis=1)], ModelError, "split does not fit"),
        ([N("SplitToSequence", ["x", "zero"], ["y"])], ModelError, "must be positive"),
        ([N("Optional", [], ["y"])], UnsupportedError, "empty optional"),
    ],
)  # fmt: skip
def test_sequences(nodes: list[Any], kind: type[StropError], words: str) -> None:
    known = {"one": np.asarray(1), "two": longs(1, 1), "zero": np.asarray(0)}
    refused(build(nodes, X, ["y"], known), kind, words)


def test_split_of_a_symbolic_axis() -> None:
    model = build([N("SplitToSequence", ["x"], ["y"])], {"x": (np.float32, ["n", 3])}, ["y"])
    refused(model, UnsupportedError, "symbolic dim", "--shape")


# ---- single ops

BYTES = np.zeros((2, 3), np.uint8)
BOXES = floats(1, 4, 4)


@pytest.mark.parametrize(
    ("op_type", "operands", "attributes", "kind", "says"),
    [
        ("NegativeLogLikelihoodLoss", [floats(2, 3), longs(0, 1)], {"weight": 1.0}, UnsupportedError, "attribute weight is not known"),
        ("QuantizeLinear", [floats(3), np.float32(1), np.int8(0)], {"output_dtype": TensorProto.UINT8}, ModelError, "output_dtype"),
        ("QuantizeLinear", [floats(3), np.float32(1), np.int32(0)], {}, UnsupportedError, "quantization to i32"),
        ("QuantizeLinear", [floats(3), np.int32(1)], {}, ModelError, "scale is no float"),
        ("QuantizeLinear", [floats(2, 3), floats(4)], {}, ModelError, "scale or zero point do not fit"),
        ("QuantizeLinear", [floats(2, 4), floats(2, 3)], {"block_size": 2}, ModelError, "blocks do not fit"),
        ("DequantizeLinear", [floats(3), np.float32(1)], {}, ModelError, "operands do not fit"),
        ("DequantizeLinear", [np.zeros(3, np.uint32), np.float32(1)], {}, UnsupportedError, "dequantization of u32"),
        ("Det", [floats(2, 3)], {}, ModelError, "no square matrix"),
        ("Det", [floats(3)], {}, ModelError, "wrong rank"),
        ("Det", [floats(6, 6)], {}, UnsupportedError, "too large"),
        ("ReduceMean", [np.zeros((0, 3), np.int32), longs(0)], {}, UnsupportedError, "mean of no integers"),
        ("TensorScatter", [floats(2, 3, 4), floats(2, 3, 4)], {"axis": 0}, ModelError, "operands do not fit"),
        ("TensorScatter", [floats(2, 3, 4), floats(2, 3, 4)], {"mode": "ring"}, UnsupportedError, "mode"),
        ("NonZero", [np.float32(3)], {}, UnsupportedError, "a scalar"),
        ("NonMaxSuppression", [BOXES, floats(1, 1, 5)], {}, ShapeError, "shapes do not fit"),
        ("Compress", [floats(3), floats(3)], {}, ModelError, "condition does not fit"),
        ("TfIdfVectorizer", [longs(1, 2)], {"mode": "TF", "min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0, "ngram_counts": [0], "ngram_indexes": [0], "pool_strings": ["a"]}, UnsupportedError, "STRING"),
        ("TfIdfVectorizer", [longs(*range(300))], {"mode": "TF", "min_gram_length": 1, "max_gram_length": 20, "max_skip_count": 10**9, "ngram_counts": [0] * 20, "ngram_indexes": [0], "pool_int64s": [1]}, UnsupportedError, "too many n-grams"),
        ("TfIdfVectorizer", [floats(2)], {"mode": "TF", "min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0, "ngram_counts": [0], "ngram_indexes": [0], "pool_int64s": [1]}, ModelError, "operand 0"),
        ("TfIdfVectorizer", [longs(1, 2)], {"mode": "TF", "min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0, "ngram_counts": [0], "ngram_indexes": [0, 1], "pool_int64s": [1]}, ModelError, "ngram_indexes"),
        ("DFT", [floats(2, 5, 3)], {}, ModelError, "operand 0 does not fit"),
        ("DFT", [floats(2, 5, 1), np.int64(0)], {}, ModelError, "dft_length"),
        ("STFT", [floats(2, 8, 1), np.int64(2)], {}, ModelError, "window or a frame_length"),
        ("STFT", [floats(2, 8, 1), np.int64(0), floats(4)], {}, ModelError, "frames"),
        ("STFT", [floats(2, 8, 3), np.int64(2), floats(4)], {}, ModelError, "operand 0"),
        ("MelWeightMatrix", [np.int64(0), np.int64(8), np.int64(100), np.float32(0), np.float32(9)], {}, ModelError, "out of range"),
        ("MelWeightMatrix", [np.int64(4), np.int64(8), np.int64(100), np.float32(0), np.float32(900)], {}, ModelError, "half of sample_rate"),
        ("GridSample", [IMAGE, floats(1, 3, 2, 2)], {"mode": "area"}, UnsupportedError, "mode"),
        ("GridSample", [IMAGE, floats(1, 3, 2, 3)], {}, ShapeError, "ranks do not fit"),
        ("RoiAlign", [IMAGE, floats(2, 5), longs(0, 0)], {}, ShapeError, "operands do not fit"),
        ("MaxRoiPool", [IMAGE, floats(2, 5)], {"pooled_shape": [1]}, ModelError, "pooled_shape"),
        ("MaxRoiPool", [IMAGE, floats(2, 4)], {"pooled_shape": [1, 1]}, ShapeError, "operands do not fit"),
        ("DeformConv", [floats(1, 2, 5), floats(2, 2, 3), floats(1, 3, 3)], {}, UnsupportedError, "only images"),
        ("DeformConv", [IMAGE, floats(2, 2, 3, 3), floats(1, 18, 3, 3)], {"kernel_shape": [2, 2]}, ModelError, "kernel_shape"),
        ("DeformConv", [IMAGE, floats(2, 2, 3, 3), floats(1, 18, 3, 3)], {"group": 2}, ModelError, "attributes do not fit"),
        ("DeformConv", [IMAGE, floats(2, 2, 3, 3), floats(1, 16, 3, 3)], {}, ShapeError, "offset does not fit"),
        ("Col2Im", [floats(1, 4, 5), longs(4, 4), longs(2, 2)], {}, ModelError, "blocks do not fit"),
        ("Col2Im", [floats(1, 4, 5), longs(1, 1), longs(2, 2)], {}, ModelError, "larger than its image"),
        ("Col2Im", [floats(1, 3, 5), longs(4, 4), longs(2, 2)], {}, ModelError, "attributes do not fit"),
        ("Col2Im", [floats(4, 5), longs(4, 4), longs(2, 2)], {}, ModelError, "operands do not fit"),
        ("MaxUnpool", [IMAGE, longs(1)], {"kernel_shape": [2, 2]}, ModelError, "operands do not fit"),
        ("MaxUnpool", [IMAGE, np.zeros(IMAGE.shape, np.int64)], {"kernel_shape": [2, 2], "pads": [1]}, ModelError, "pads"),
        ("MaxUnpool", [IMAGE, np.zeros(IMAGE.shape, np.int64), longs(1, 2, 3, 3)], {"kernel_shape": [2, 2]}, ModelError, "output_shape"),
        ("Einsum", [floats(2, 3)], {"equation": "ii->i"}, ModelError, "different sizes"),
        ("BitCast", [floats(3)], {"to": TensorProto.INT64}, ShapeError, "another size"),
    ],
)  # fmt: skip
def test_node_that_does_not_fit(
    op_type: str,
    operands: list[Any],
    attributes: dict[str, Any],
    kind: type[StropError],
    says: str,
) -> None:
    opset = 26
    known = [i for i in range(1, len(operands)) if np.asarray(operands[i]).dtype.kind in "iu"]
    known = list(range(len(operands))) if op_type == "MelWeightMatrix" else known
    model, _ = single(op_type, operands, opset, known, **attributes)
    with pytest.raises(StropError) as caught:
        read_onnx(model)
    assert type(caught.value) is kind, caught.value
    assert says in str(caught.value), caught.value
    assert f"node node ({op_type})" in str(caught.value.where)


def test_graph_attributes_are_told_from_others() -> None:
    model = build([N("If", ["c"], ["y"], then_branch=1, else_branch=2)], X, ["y"], {"c": np.asarray(True)})
    assert model.graph.node[0].attribute[0].type == AttributeProto.INT
    refused(model, ModelError, "then_branch has the wrong type", "GRAPH")
