"""Whole builds: random graphs, corner cases of inputs and outputs, threads, and the files that come out."""

from __future__ import annotations

import numpy as np
import pytest

from strop.engine.build import build
from strop.engine.engine import Engine, load
from strop.engine.stages import STAGES, Stopped
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.ops.conv import Conv
from strop.ops.data import Concat, Reshape, Slice, Split, Transpose
from strop.ops.elementwise import make
from strop.target.detect import TARGETS, runs_here
from tests.graphs import assert_same, random_graph


def agrees(graph: Graph, threads: int = 1, target: str = "host") -> Engine:
    """Builds without measuring, runs on random inputs and compares with the oracle."""
    engine = build(graph, level=0, threads=threads, target=target)
    inputs = engine.random_inputs(1)
    assert_same(engine.run(inputs), interp.run(graph, inputs))
    return engine


@pytest.mark.parametrize("seed", range(16))
def test_random_graph(seed):
    graph, inputs = random_graph(seed, 14)
    engine = build(graph, level=0, threads=1 + seed % 2)
    assert_same(engine.run(inputs), interp.run(graph, inputs))


def image(shape=(1, 8, 6, 6)) -> tuple[Graph, Value]:
    graph = Graph("case")
    return graph, graph.add_input("x", Type(dt.f32, shape))


def weights(o, c, k, seed=0):
    return np.random.default_rng(seed).standard_normal((o, c, k, k)).astype(np.float32) * 0.2


def conv(graph, x, o, k=1, seed=0, pad=0):
    w = graph.add_const(weights(o, x.shape[1], k, seed), "w")
    return graph.add(Conv((1, 1), (pad,) * 4, (1, 1), 1), [x, w]).output


def test_input_as_output():
    graph, x = image()
    graph.set_outputs([x, x], ["a", "b"])
    agrees(graph)


def test_constant_as_output():
    graph, x = image()
    c = graph.add_const(np.arange(6, dtype=np.float32).reshape(2, 3), "c")
    graph.set_outputs([c, graph.add(make("relu"), [x]).output], ["c", "y"])
    agrees(graph)


def test_one_value_under_two_output_names():
    graph, x = image()
    y = graph.add(make("relu"), [x]).output
    graph.set_outputs([y, y], ["a", "b"])
    agrees(graph)


def test_channels_last_result_leaves_as_row_major():
    graph, x = image((2, 8, 5, 7))
    graph.set_outputs([conv(graph, x, 12, 3, pad=1)], ["y"])
    manifest = agrees(graph, threads=2).manifest
    assert [s["copy"] for s in manifest["steps"] if s["copy"]] == ["layout", "output"]


def test_views_of_views():
    graph, x = image()
    y = conv(graph, x, 12)
    y = graph.add(Slice.of(y.shape, (2,), (11,), (1,), (1,)), [y]).output
    y = graph.add(Transpose((0, 2, 3, 1)), [y]).output
    y = graph.add(Reshape((36, 9)), [y]).output
    graph.set_outputs([graph.add(make("relu"), [y]).output], ["y"])
    agrees(graph)


def test_backward_slice():
    graph, x = image()
    y = graph.add(Slice.of(x.shape, (7, 5), (-9, -7), (1, 2), (-2, -1)), [x]).output
    graph.set_outputs([y], ["y"])
    agrees(graph)


def test_nested_concats_write_in_place():
    graph, x = image()
    a, b = conv(graph, x, 16, 3, 1, pad=1), conv(graph, x, 8, 1, 2)
    inner = graph.add(Concat(1), [a, b]).output
    c = conv(graph, inner, 24, 1, 3)
    outer = graph.add(Concat(1), [inner, c]).output
    graph.set_outputs([conv(graph, outer, 4, 1, 4)], ["y"])
    assert not [s for s in agrees(graph, threads=2).manifest["steps"] if s["copy"] == "concat"]


def test_merged_branches_and_their_concat_share_a_buffer():
    graph, x = image((1, 16, 7, 7))
    first, second = conv(graph, x, 32, 1, 1), conv(graph, x, 16, 1, 2)
    deep = conv(graph, second, 24, 3, 3, pad=1)
    graph.set_outputs([graph.add(make("relu"), [graph.add(Concat(1), [first, deep]).output]).output], ["y"])
    steps = agrees(graph).manifest["steps"]
    assert sum(s["kind"] == "conv" for s in steps) == 2
    assert not [s for s in steps if s["copy"] == "concat"]


def test_split_parts_that_are_outputs():
    graph, x = image()
    parts = graph.add(Split(1, (3, 5)), [conv(graph, x, 8)]).outputs
    graph.set_outputs(parts, ["a", "b"])
    agrees(graph)


def test_residual_that_is_read_again():
    graph, x = image((1, 16, 6, 6))
    a = graph.add(make("relu"), [conv(graph, x, 16, 3, 1, pad=1)]).output
    b = graph.add(make("add"), [conv(graph, a, 16, 3, 2, pad=1), a]).output
    graph.set_outputs([graph.add(make("mul"), [b, a]).output], ["y"])
    agrees(graph, threads=2)


def test_integers_and_bools():
    graph = Graph("ints")
    x = graph.add_input("x", Type(dt.i64, (3, 5)))
    big = graph.add(make("gt"), [x, graph.add_const(np.array(0, np.int64), "zero")]).output
    graph.set_outputs([big, graph.add(make("mul"), [x, x]).output], ["big", "square"])
    agrees(graph)


def test_all_targets_of_this_machine():
    graph, x = image((1, 3, 17, 19))
    y = graph.add(make("silu"), [conv(graph, x, 20, 3, 1, pad=1)]).output
    graph.set_outputs([conv(graph, y, 9, 3, 2)], ["y"])
    for target in TARGETS.values():
        if runs_here(target):
            assert agrees(graph, target=target.name).manifest["target"] == target.name


@pytest.mark.parametrize("stage", STAGES)
def test_stops_after_each_stage(stage, tmp_path):
    graph, x = image()
    graph.set_outputs([graph.add(make("relu"), [x]).output], ["y"])
    with pytest.raises(Stopped, match=stage):
        build(graph, level=0, stop_after=stage, dump=tmp_path)
    assert list(tmp_path.iterdir())


def test_same_bytes_twice(tmp_path):
    graph, _ = random_graph(3, 12)
    files = []
    for name in ("a", "b"):
        path = tmp_path / name
        build(graph, level=0, threads=2).save(path)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_peak_memory_is_near_the_largest_liveness_sum():
    graph, x = image((1, 32, 28, 28))
    y = x
    for k in range(6):
        y = graph.add(make("relu"), [graph.add(make("add"), [conv(graph, y, 32, 3, k, pad=1), y]).output]).output
    graph.set_outputs([conv(graph, y, 4)], ["y"])
    memory = agrees(graph).manifest["memory"]
    assert memory["live_peak"] <= memory["arena"] <= 1.15 * memory["live_peak"]


def test_loaded_engine_is_the_built_one(tmp_path):
    graph, x = image()
    graph.set_outputs([conv(graph, x, 8, 3, pad=1)], ["y"])
    engine = agrees(graph)
    engine.save(tmp_path / "e.strop")
    again = load(tmp_path / "e.strop", threads=2)
    inputs = engine.random_inputs(5)
    np.testing.assert_array_equal(engine.run(inputs)["y"], again.run(inputs)["y"])
    assert "conv" in again.graph_text
