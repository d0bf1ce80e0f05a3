"""Engines whose sizes the data decides, against ONNX Runtime and the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper

from strop.engine.build import build
from strop.engine.check import check
from strop.engine.engine import Engine
from strop.errors import InputError
from strop.frontend.onnx.reader import read_onnx
from strop.ir import interp
from strop.ir.op import Array
from strop.ir.text import by_digest, parse, show
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests import detection_net
from tests.frontend.onnx_models import build as onnx_model
from tests.frontend.onnx_models import longs, onnx_runtime

N = helper.make_node


def agree(engine: Engine, model: onnx.ModelProto, feeds: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
    got = engine.context(threads=threads).run(feeds)
    for (name, found), want in zip(got.items(), onnx_runtime(model, feeds), strict=True):
        assert found.shape == want.shape and found.dtype == want.dtype, (name, found.shape, want.shape)
        np.testing.assert_allclose(found, want, 1e-4, 1e-5, err_msg=name)
    return got


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (2, 2), (1, 3)])
def test_a_detector(batch: int, threads: int) -> None:
    model = detection_net.model(batch)
    engine = build(model, level=0, threads=threads)
    context = engine.context(threads=threads)
    counts = []
    for x in detection_net.images(batch):
        got = context.run({"x": x})
        for name, want in zip(detection_net.OUTPUTS, onnx_runtime(model, {"x": x}), strict=True):
            assert got[name].shape == want.shape and got[name].dtype == want.dtype, name
            np.testing.assert_allclose(got[name], want, 1e-4, 1e-5, err_msg=name)
        counts.append(int(got["count"][0]))
    assert 0 in counts and max(counts) > 15 and len(set(counts)) > 2
    slow = {s["name"] for s in engine.manifest["steps"] if s["kernel"].startswith("naive")}
    assert slow == {"kept", "kept_scores", "output count"}


def test_a_detector_in_the_interpreter_text_and_check() -> None:
    model = detection_net.model()
    graph = read_onnx(model)
    portable = optimize(graph, Trace())
    text = show(portable)
    again = parse(text, by_digest(portable))
    verify(again, "portable")
    assert show(again) == text
    for x in detection_net.images():
        for found in (graph, again):
            for got, want in zip(interp.run(found, {"x": x}).values(), onnx_runtime(model, {"x": x}), strict=True):
                np.testing.assert_allclose(got, want, 1e-4, 1e-5)
    report = check(model.SerializeToString())
    assert not report.of("unsupported") and {n.name for n in report.of("kernel")} >= {"selected", "best"}


def chain() -> onnx.ModelProto:
    """Sizes over sizes: of what Compress keeps Unique keeps some, of these NonZero some, and so on; a free batch of columns besides."""
    nodes = [
        N("Greater", ["x", "zero"], ["positive"]),
        N("ReduceMax", ["mask"], ["row_mask"], axes=[1], keepdims=0),
        N("Cast", ["positive"], ["mask"], to=onnx.TensorProto.FLOAT),
        N("Cast", ["row_mask"], ["rows_kept"], to=onnx.TensorProto.BOOL),
        N("Compress", ["x", "rows_kept"], ["kept"], axis=0),
        N("Round", ["kept"], ["whole"]),
        N("Unique", ["whole"], ["values", "first", "inverse", "counts"]),
        N("NonZero", ["values"], ["places"]),
        N("Transpose", ["places"], ["column"]),
        N("GatherND", ["values", "column"], ["nonzero"]),
        N("Concat", ["nonzero", "values"], ["both"], axis=0),
        N("Shape", ["both"], ["size"]),
        N("ConstantOfShape", ["size"], ["zeros"]),
        N("Add", ["both", "zeros"], ["sum"]),
        N("Slice", ["sum", "one", "end"], ["tail"]),
        N("ReduceSum", ["tail"], ["total"], keepdims=0),
        N("Softmax", ["kept"], ["soft"], axis=1),
        N("MatMul", ["soft", "w"], ["product"]),
    ]
    weights = {
        "zero": np.float32(0.4), "one": longs(1), "end": longs(1 << 40),
        "w": np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32),
    }  # fmt: skip
    outputs = ["kept", "values", "first", "inverse", "counts", "nonzero", "size", "sum", "tail", "total", "product"]
    return onnx_model(nodes, {"x": (np.float32, ["rows", 5])}, outputs, weights, opset=13)


@pytest.mark.parametrize("threads", [1, 3])
def test_sizes_over_sizes_in_a_free_shape(threads: int) -> None:
    model = chain()
    engine = build(model, level=0, threads=threads, shapes={"x": "1..9(4)x5"})
    rng = np.random.default_rng(0)
    context = engine.context(threads=threads)
    for rows in (4, 9, 1, 3, 9):
        for scale in (1.0, 0.0, 3.0):
            feeds = {"x": (scale * rng.standard_normal((rows, 5))).astype(np.float32)}
            got = context.run(feeds)
            for (name, found), want in zip(got.items(), onnx_runtime(model, feeds), strict=True):
                assert found.shape == want.shape, (name, rows, scale)
                np.testing.assert_allclose(found, want, 1e-4, 1e-5, err_msg=name)


def values_as_sizes() -> tuple[onnx.ModelProto, Sequence[dict[str, Array]], dict[str, str]]:
    """Numbers of the inputs as k, as ends of slices, as shapes, repeats, lengths and depths."""
    nodes = [
        N("TopK", ["x", "k"], ["best", "order"], axis=1),
        N("Slice", ["x", "start", "stop", "axis"], ["part"]),
        N("Reshape", ["x", "shape"], ["shaped"]),
        N("Expand", ["column", "wide"], ["expanded"]),
        N("ConstantOfShape", ["wide"], ["blank"]),
        N("Range", ["zero", "length", "two"], ["range"]),
        N("Tile", ["column", "repeats"], ["tiled"]),
        N("OneHot", ["classes", "depth", "on_off"], ["hot"]),
        N("Split", ["x", "parts"], ["left", "right"], axis=1),
        N("Squeeze", ["depth", "axis0"], ["d"]),
    ]
    known: dict[str, Array] = {
        "axis": longs(1), "axis0": longs(0), "zero": np.asarray(0), "two": np.asarray(2), "on_off": np.array([0, 1], np.float32),
        "column": np.arange(3, dtype=np.float32).reshape(3, 1), "classes": longs(0, 2, 1),
    }  # fmt: skip
    inputs = {
        "x": (np.float32, (4, 6)), "k": (np.int64, (1,)), "start": (np.int64, (1,)), "stop": (np.int64, (1,)), "shape": (np.int64, (2,)),
        "wide": (np.int64, (2,)), "length": (np.int64, ()), "repeats": (np.int64, (2,)), "depth": (np.int64, (1,)), "parts": (np.int64, (2,)),
    }  # fmt: skip
    outputs = ["best", "order", "part", "shaped", "expanded", "blank", "range", "tiled", "hot", "left", "right", "d"]
    model = onnx_model(nodes, inputs, outputs, known, opset=13)
    x = np.random.default_rng(3).standard_normal((4, 6)).astype(np.float32)
    feeds = [
        {"x": x, "k": longs(k), "start": longs(start), "stop": longs(stop), "shape": longs(*shape), "wide": longs(*wide),
         "length": np.asarray(length), "repeats": longs(*repeats), "depth": longs(depth), "parts": longs(*parts)}
        for k, start, stop, shape, wide, length, repeats, depth, parts in (
            (2, 1, 5, (8, 3), (3, 4), 7, (1, 2), 3, (2, 4)),
            (6, -4, -1, (-1, 2), (3, 1), 0, (2, 3), 5, (6, 0)),
            (0, 5, 2, (0, -1), (3, 9), 10, (0, 1), 1, (0, 6)),
            (1, -100, 1 << 60, (2, -1), (1, 2), 1, (3, 3), 9, (5, 1)),
        )
    ]  # fmt: skip
    return model, feeds, {"wide[]": "1..9(3)", "range[]": "1..10", "repeats[]": "1..3", "depth[]": "1..9(4)"}


@pytest.mark.parametrize("threads", [1, 2])
def test_values_as_sizes(threads: int) -> None:
    model, problems, ranges = values_as_sizes()
    engine = build(model, level=0, threads=threads, shapes=ranges)
    for feeds in problems:
        agree(engine, model, feeds, threads)


def test_a_value_beyond_its_range() -> None:
    model, problems, ranges = values_as_sizes()
    context = build(model, level=0, threads=1, shapes=ranges).context()
    for name, bad, symbol in (("k", longs(7), "k_K"), ("k", longs(-1), "k_K"), ("length", np.asarray(99), "length")):
        with pytest.raises(InputError, match=f"finds -?[0-9]+ for '.*{symbol}.*', which is planned for 0 to"):
            context.run({**problems[0], name: bad})
        with pytest.raises(InputError, match="a size that the data decides is out of its range"):
            interp.run(read_onnx(model, ranges), {**problems[0], name: bad})
    want = onnx_runtime(model, problems[0])
    np.testing.assert_array_equal(context.run(problems[0])["range"], want[6])


def test_tuning_leaves_out_what_finds_sizes(tmp_path: object) -> None:
    engine = build(detection_net.model(), level=1, threads=1)
    x = detection_net.images()[0]
    for got, want in zip(engine.run({"x": x}).values(), onnx_runtime(detection_net.model(), {"x": x}), strict=True):
        np.testing.assert_allclose(got, want, 1e-4, 1e-5)
