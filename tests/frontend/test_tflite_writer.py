"""Graphs as .tflite files: read back they compute what they did, and the files are as small as they can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop import demo_data
from strop.engine.convert import conversion
from strop.errors import StropError, UnsupportedError
from strop.frontend.table import read
from strop.frontend.tflite.model import load
from strop.frontend.tflite.records import OutGraph, OutOperator, OutTensor
from strop.frontend.tflite.registry import WRITERS
from strop.frontend.tflite.serialize import serialize
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Value
from strop.ir.interp import run
from strop.ir.op import REGISTRY, Array, Type
from strop.ir.shape import Sym
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Reshape
from strop.ops.elementwise import Cast, Elementwise, make
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce
from tests import tiny_net
from tests.frontend.one_op import graph_of
from tests.frontend.tflite_nets import branch, dear_branch

LENET = Path(demo_data.__file__).parent / "lenet.onnx"
#: Bytes of what TensorFlow 2.21 makes of a SavedModel of this LeNet before training, when its biases are zeros, and of one with these weights.
UNTRAINED = {"fp32": 1_725_836, "fp16": 865_524, "dynamic": 442_688, "int8": 442_896}
TRAINED = {"fp32": 1_728_340, "fp16": 867_404, "dynamic": 445_184, "int8": 451_552}
#: Problems per op that are written.
CASES = 24


def digits(count: int) -> Array:
    """Images in channels-last order."""
    images = np.load(LENET.parent / "digits.npz")["images"][:count]
    found: Array = (images.astype(np.float32) / 255).reshape(-1, 28, 28, 1)
    return found


def _written_ops() -> list[str]:
    return sorted({op.name for op in WRITERS if not isinstance(op, str) and op.name} - {"elementwise"})


def _agree(graph: Graph, feed: dict[str, Array]) -> None:
    """The file that is written of a graph computes what it does."""
    got = run(read(strop.convert(graph)), feed)
    for name, want in run(graph, feed).items():
        assert got[name].shape == want.shape and got[name].dtype == want.dtype
        np.testing.assert_allclose(got[name].astype(np.float64), want.astype(np.float64), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", _written_ops())
def test_what_is_written_of_an_op_is_read_as_it_was(name: str) -> None:
    done = 0
    for sample in REGISTRY[name].samples(np.random.default_rng(5)):
        if done == CASES:
            break
        if any(a.dtype in (np.float16, np.float64) or a.dtype.name == "bfloat16" for a in sample.inputs) or not sample.inputs:
            continue
        graph, feed = graph_of(sample.op, sample)
        try:
            strop.convert(graph)
        except UnsupportedError as error:
            assert error.where and error.hint
            continue
        _agree(graph, feed)
        done += 1
    assert done


def test_elementwise_functions_are_written() -> None:
    """All but those of bits, by operators or by expressions of them: a graph of all, an output per function; those of 8-bit integers: test_tflite_ops."""
    graph, feed = Graph("all"), {}
    refused, outputs, seen = set(), [], set()
    for sample in Elementwise.samples(np.random.default_rng(5)):
        label, kinds = sample.op.label, {a.dtype.name for a in sample.inputs}
        if label in seen or label.startswith("fixed_") or not kinds <= {"float32", "bool", "int32"} or any(not np.isfinite(a).all() for a in sample.inputs):
            continue
        seen.add(label)
        alone, given = graph_of(sample.op, sample)
        try:
            strop.convert(alone)
        except UnsupportedError:
            refused.add(label)
            continue
        operands = [graph.add_input(f"{label}{name}", Type(dt.from_numpy(a.dtype), a.shape)) for name, a in given.items()]
        feed.update({v.name: a for v, a in zip(operands, given.values(), strict=True)})
        outputs.append(graph.add(sample.op, operands, name=label).output)
    graph.set_outputs(outputs)
    _agree(graph, feed)
    assert refused == {"bitand", "bitor", "shl"} and len(outputs) > 60


# ---- whole networks


def test_lenet_has_no_ops_that_only_shape() -> None:
    """Flattening is part of the product; images of one channel need no transposition."""
    found = conversion(LENET, layout="channels_last")
    assert found.summary["operators"] == {"CONV_2D": 2, "FULLY_CONNECTED": 2, "MAX_POOL_2D": 2}
    rng = np.random.default_rng(0)
    image = rng.random((1, 1, 28, 28), np.float32)
    (want,) = run(read(LENET), {"input": image}).values()
    (got,) = run(read(found.data), {"input": image.reshape(1, 28, 28, 1)}).values()
    np.testing.assert_allclose(got, want, atol=1e-5 * float(np.abs(want).max()))


@pytest.mark.parametrize("sizes", [UNTRAINED, TRAINED], ids=["untrained", "trained"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic", "int8"])
def test_files_are_no_larger_than_those_of_tensorflows_converter(precision: str, sizes: dict[str, int]) -> None:
    """Of the same weights: it leaves biases of zeros out, and so does this."""
    model = onnx.load(LENET)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 1 and sizes is UNTRAINED:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))
    calibration = digits(4) if precision == "int8" else None
    found = conversion(model, precision=precision, layout="channels_last", calibration=calibration)
    assert len(found.data) <= sizes[precision]


def test_integers_name_the_same_digits() -> None:
    images = digits(96)
    file = strop.convert(LENET, precision="int8", layout="channels_last", calibration=images[:64], input_dtype="i8", output_dtype="u8")
    graph = read(file)
    assert (graph.inputs[0].dtype, graph.outputs[0].dtype) == (dt.i8, dt.u8)
    grid = load(file).subgraphs[0].tensors[load(file).subgraphs[0].inputs[0]].grid
    assert grid is not None
    agree = 0
    plain = read(LENET)
    for image in images[64:]:
        given = np.clip(np.rint(image[None] / grid.scale) + grid.zero, -128, 127).astype(np.int8)
        (got,) = run(graph, {"input": given}).values()
        (want,) = run(plain, {"input": image.reshape(1, 1, 28, 28)}).values()
        agree += int(got.argmax() == want.argmax())
    assert agree >= 31


def test_bytes_are_the_same_every_time() -> None:
    assert strop.convert(LENET) == strop.convert(LENET)


def test_ends_keep_the_models_order_and_names() -> None:
    file = strop.convert(LENET)
    graph: Any = read(file)
    assert [(v.name, v.shape) for v in graph.inputs] == [("input", (1, 1, 28, 28))]
    assert graph.output_names == ["logits"]
    assert list(read(file, signature="serving_default").inputs[0].shape) == [1, 1, 28, 28]


def test_a_free_batch_stays_free() -> None:
    file = strop.convert(tiny_net.model("n"))
    assert [t.free for t in (load(file).subgraphs[0].tensors[i] for i in load(file).subgraphs[0].inputs)] == [(0,)]
    image = np.random.default_rng(0).standard_normal((3, *tiny_net.INPUT_SHAPE[1:])).astype(np.float32)
    (got,) = run(read(file, {"x": image.shape}), {"x": image}).values()
    (want,) = run(read(tiny_net.model(3)), {"x": image}).values()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_activations_and_biases_are_part_of_products() -> None:
    assert conversion(tiny_net.model()).summary["operators"].get("RELU") is None
    assert conversion(tiny_net.model(), layout="channels_last").summary["operators"] == {"ADD": 1, "CONV_2D": 2, "FULLY_CONNECTED": 1}


def test_outputs_that_are_inputs_or_come_twice_have_tensors_of_their_own() -> None:
    graph = Graph("ends")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    y = graph.add(make("relu"), [x]).output
    graph.set_outputs([x, y, y], ["same", "a", "b"])
    _agree(graph, {"x": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)})


def test_two_free_sizes_of_a_shape_are_refused() -> None:
    graph = Graph("free")
    n, m = Sym("n", 1, 2, 9), Sym("m", 1, 2, 9)
    x = graph.add_input("x", Type(dt.f32, (n, m, 4)))
    graph.set_outputs([graph.add(Reshape((n, m, 2, 2)), [x], source=("cut",)).output], ["y"])
    with pytest.raises(UnsupportedError, match="two free sizes") as error:
        strop.convert(graph)
    assert "cut" in str(error.value.where) and "--shape" in str(error.value.hint)


# ---- bytes


def test_equal_constants_are_stored_once_and_data_is_aligned() -> None:
    graph = Graph("shared")
    x = graph.add_input("x", Type(dt.f32, (1, 64)))
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    a = graph.add(MatMul(), [x, graph.add_const(w, "w1")]).output
    graph.set_outputs([graph.add(MatMul(), [graph.add(make("tanh"), [a]).output, graph.add_const(w.copy(), "w2")]).output], ["y"])
    file = strop.convert(graph)
    assert len(file) < 1.2 * w.nbytes
    assert file.find(np.ascontiguousarray(w.T).tobytes()) % 16 == 0


def test_large_files_have_their_data_behind_the_flatbuffer() -> None:
    x, y = OutTensor("x", dt.f32, (2, 3)), OutTensor("y", dt.f32, (2, 3))
    c = OutTensor("c", dt.f32, (2, 3), data=np.arange(6, dtype=np.float32).reshape(2, 3))
    graph = OutGraph("large", {"x": x}, {"y": y}, [OutOperator("ADD", [x, c], [y], "AddOptions")])
    file = serialize(graph, most_inside=0)
    assert file != serialize(graph)
    (got,) = run(read(file), {"x": np.ones((2, 3), np.float32)}).values()
    np.testing.assert_array_equal(got, np.arange(6).reshape(2, 3) + 1)


def test_versions_are_the_least_that_know_what_is_used() -> None:
    file = strop.convert(LENET)
    assert b"1.14.0" in file
    with pytest.raises(StropError):
        read(file[:200])


# ---- loops


def _codes(file: bytes) -> list[list[str]]:
    return [[operator.code for operator in subgraph.operators] for subgraph in load(file).subgraphs]


@pytest.mark.parametrize("start", [3.0, 500.0])
def test_a_loop_is_written_as_while(start: float) -> None:
    file = strop.convert(branch("WHILE"))
    assert _codes(file) == [["LESS", "RESHAPE", "WHILE"], [], ["MUL", "LESS", "RESHAPE"]]
    feed = {"x": np.array([start], np.float32)}
    (found,), (wanted,) = (run(read(f), feed).values() for f in (file, branch("WHILE")))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic"])
def test_a_branch_that_saves_work_is_written_as_a_loop_of_one_round(flag: bool, precision: str) -> None:
    """What it computes stays in f32."""
    file = strop.convert(dear_branch(), precision=precision)
    assert [codes.count("WHILE") for codes in _codes(file)] == [2, 0, 0, 0, 0]
    feed = {"flag": np.array([flag]), "x": np.arange(320, dtype=np.float32)[None] / 64}
    (found,), (wanted,) = (run(read(f), feed).values() for f in (file, dear_branch()))
    np.testing.assert_allclose(found, wanted, 1e-6)


def test_a_loop_is_given_what_it_reads_from_outside_and_counts_its_rounds() -> None:
    """x is doubled, and y added, while it is less than 100; the rounds so far are counted; inside is a loop of its own."""
    graph = Graph("net")
    x, y = (graph.add_input(name, Type(dt.f32, (2,))) for name in "xy")
    limit, two = graph.add_const(np.float32(100), "limit"), graph.add_const(np.float32(2), "two")

    def less(value: Value) -> Value:
        return graph.add(make("lt"), [graph.add(Reduce("max", (0,), False), [value]).output, limit]).output

    def loop(name: str, start: Value, step: Callable[[Value, Value], Value]) -> Sequence[Value]:
        begin = graph.add(LoopBegin(name), [less(start), start], outputs=[f"{name}:round"])
        after = step(begin.outputs[1], begin.outputs[0])
        return graph.add(LoopEnd(name, 0, Sym(f"{name}_rounds", 0, 4, 1 << 20)), [begin.outputs[0], less(after), after]).outputs

    def inner(value: Value, number: Value) -> Value:
        doubled = graph.add(make("mul"), [value, two]).output
        return graph.add(make("add"), [doubled, y]).output

    def outer(value: Value, number: Value) -> Value:
        count = graph.add(Cast(dt.f32), [number]).output
        grown = loop("inner", graph.add(make("add"), [value, count]).output, inner)
        return graph.add(make("sub"), [grown[0], graph.add(Cast(dt.f32), [grown[1]]).output]).output

    results = loop("outer", x, outer)
    graph.set_outputs(list(results), ["z", "rounds"])
    feed = {"x": np.array([1, 2], np.float32), "y": np.array([-0.5, -3], np.float32)}
    wanted = run(graph, feed)
    file = strop.convert(graph)
    assert [codes.count("WHILE") for codes in _codes(file)] == [1, 0, 1, 0, 0]
    found = run(read(file), feed)
    np.testing.assert_allclose(found["z"], wanted["z"], 1e-6)
    assert found["rounds"] == wanted["rounds"] > 0


def test_a_loop_that_collects_is_refused_by_name() -> None:
    graph = Graph("net")
    x = graph.add_input("x", Type(dt.f32, (2,)))
    begin = graph.add(LoopBegin("l"), [graph.add_const(np.asarray(True), "go"), x], outputs=["l:round"])
    more = graph.add(make("exp"), [begin.outputs[1]]).output
    end = graph.add(LoopEnd("l", 1, 3, False), [begin.outputs[0], graph.add_const(np.asarray(False), "stop"), more, more])
    graph.set_outputs([end.outputs[1]], ["y"])
    with pytest.raises(UnsupportedError, match="loops that collect a value per round are not supported"):
        strop.convert(graph)
