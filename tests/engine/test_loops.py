"""Loops that data ends, scans of a free length and branches that are jumped over, as engines, against ONNX Runtime and the interpreter."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop.engine.build import build
from strop.engine.check import check
from strop.engine.engine import Engine
from strop.frontend.onnx.reader import read_onnx
from strop.ir import interp
from strop.ir.op import Array
from strop.ir.text import by_digest, parse, show
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests.frontend.onnx_models import build as onnx_model
from tests.frontend.onnx_models import onnx_runtime

N = helper.make_node
F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
ALL = {1: "threads 1", 2: "threads 2", 3: "threads 3"}


def body(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **known: Any) -> onnx.GraphProto:
    """A subgraph; inputs and outputs are (name, element type, shape)."""
    infos = [[helper.make_tensor_value_info(*i) for i in group] for group in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *infos, [numpy_helper.from_array(np.asarray(a), n) for n, a in known.items()])


def agree(engine: Engine, model: onnx.ModelProto, feeds: Mapping[str, Array], graph: Any = None) -> dict[str, Array]:
    """Engine and, where given, graph give what ONNX Runtime gives."""
    got = engine.run(feeds)
    wanted = onnx_runtime(model, feeds)
    found = [got] if graph is None else [got, interp.run(graph, feeds)]
    for results in found:
        for (name, result), want in zip(results.items(), wanted, strict=True):
            assert result.shape == want.shape and result.dtype == want.dtype, (name, result.shape, want.shape)
            np.testing.assert_allclose(result, want, 1e-4, 1e-5, err_msg=name)
    return got


def collatz() -> onnx.ModelProto:
    """Two numbers until both are at most 1, all their values, and how many rounds that took; an outer value is read in every round."""
    nodes = [
        N("Mod", ["v", "two"], ["odd"]),
        N("Cast", ["odd"], ["is_odd"], to=B),
        N("Div", ["v", "two"], ["half"]),
        N("Mul", ["v", "three"], ["triple"]),
        N("Add", ["triple", "one"], ["more"]),
        N("Where", ["is_odd", "more", "half"], ["v_out"]),
        N("ReduceMax", ["v_out"], ["most"], keepdims=0),
        N("Greater", ["most", "one"], ["go_out"]),
        N("Identity", ["v_out"], ["seen"]),
        N("Cast", ["i"], ["number"], to=F),
        N("Mul", ["number", "factor"], ["part"]),
        N("Add", ["sum", "part"], ["sum_out"]),
    ]
    inside = body(
        nodes,
        [("i", I, []), ("go_in", B, []), ("v", I, [2]), ("sum", F, [])],
        [("go_out", B, []), ("v_out", I, [2]), ("sum_out", F, []), ("seen", I, [2])],
        two=np.int64(2), three=np.int64(3), one=np.int64(1),
    )  # fmt: skip
    around = [
        N("Loop", ["limit", "go", "x", "zero"], ["last", "total", "all"], body=inside, name="loop"),
        N("Shape", ["all"], ["count"]),
        N("Mul", ["last", "last"], ["square"]),
    ]
    inputs = {"x": (np.int64, [2]), "limit": (np.int64, []), "go": (np.bool_, []), "factor": (np.float32, [])}
    return onnx_model(around, inputs, ["last", "total", "all", "count", "square"], {"zero": np.float32(0)})


@pytest.mark.parametrize("threads", sorted(ALL))
def test_a_loop_that_data_ends(threads: int) -> None:
    model, ranges = collatz(), {"all[]": "1..200(20)"}
    graph = optimize(read_onnx(model, ranges), Trace())
    engine = build(model, level=0, threads=threads, shapes=ranges)
    rounds = []
    for x, limit, go in ((27, 500, True), (6, 3, True), (7, 0, True), (9, 10, False), (1, 9, True), (6, 200, True)):
        feeds = {"x": np.array([x, x + 1]), "limit": np.asarray(limit), "go": np.asarray(go), "factor": np.array(0.5, np.float32)}
        rounds.append(int(agree(engine, model, feeds, graph)["count"][0]))
    assert rounds == [111, 3, 0, 0, 9, 200]


def test_no_thread_reads_a_context_after_its_run() -> None:
    """The last step is a loop's end, where all threads look at what was decided; the context is gone right after it and its memory
    written over."""
    model = collatz()
    del model.graph.node[1:], model.graph.output[3:]
    feeds = {"x": np.array([6, 7]), "limit": np.asarray(3), "go": np.asarray(True), "factor": np.array(0.5, np.float32)}
    engine = build(model, level=0, threads=3, shapes={"all[]": "1..200(20)"})
    wanted = engine.context(threads=1).run(feeds)
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    for _ in range(4000):
        context = engine.context(threads=3)
        got = context.run(feeds)
        del context
        blocks = [ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size))) for size in range(64, 2048, 16)]
        for block, size in zip(blocks, range(64, 2048, 16), strict=True):
            ctypes.memset(block, 1, size)
            libc.free(block)
        assert all(got[name].tobytes() == wanted[name].tobytes() for name in wanted)


def test_a_loop_in_text_verifier_check_and_profile() -> None:
    model, ranges = collatz(), {"all[]": "1..200(20)"}
    graph = optimize(read_onnx(model, ranges), Trace())
    text = show(graph)
    again = parse(text, by_digest(graph))
    verify(again, "portable")
    assert show(again) == text
    report = check(model.SerializeToString(), shapes=ranges)
    assert not report.of("unsupported") and not report.of("unknown")
    engine = build(model, level=0, threads=1, shapes=ranges)
    feeds = {"x": np.array([6, 7]), "limit": np.asarray(0), "go": np.asarray(True), "factor": np.array(1, np.float32)}
    times = engine.context(threads=1).profile(feeds, runs=2)
    assert len(times) == len(engine.manifest["steps"]) and max(t.nanoseconds for t in times) < 1 << 40


def newton(steps: str = "steps") -> onnx.ModelProto:
    """A loop within a loop, with products and an If inside: the inner one ends when its sum is above a bound; carried values are swapped."""
    inner = body(
        [
            N("MatMul", ["a", "w"], ["aw"]),
            N("Add", ["aw", "shift"], ["next"]),
            N("ReduceSum", ["next"], ["s"], keepdims=0),
            N("Less", ["s", "bound"], ["again"]),
        ],
        [("j", I, []), ("c", B, []), ("a", F, [3, 4]), ("b", F, [3, 4])],
        [("again", B, []), ("b", F, [3, 4]), ("next", F, [3, 4])],
    )
    half = body([N("Mul", ["p", "scale"], ["h"])], [], [("h", F, [3, 4])], scale=np.float32(0.5))
    same = body([N("Identity", ["p"], ["k"])], [], [("k", F, [3, 4])])
    outer = body(
        [
            N("Loop", ["five", "c_in", "u", "x"], ["p", "q"], body=inner),
            N("Mod", ["i", "two"], ["m"]),
            N("Cast", ["m"], ["odd"], to=B),
            N("If", ["odd"], ["r"], then_branch=half, else_branch=same),
            N("Identity", ["c_in"], ["c_out"]),
            N("ReduceMax", ["q"], ["seen"], keepdims=0),
        ],
        [("i", I, []), ("c_in", B, []), ("u", F, [3, 4])],
        [("c_out", B, []), ("r", F, [3, 4]), ("seen", F, [])],
        two=np.int64(2),
    )
    rng = np.random.default_rng(1)
    known = {
        "w": (rng.standard_normal((4, 4)) * 0.6).astype(np.float32), "five": np.asarray(5), "yes": np.asarray(True),
        "shift": rng.uniform(0, 1, (3, 4)).astype(np.float32),
    }  # fmt: skip
    nodes = [N("Loop", [steps, "yes", "x"], ["y", "peaks"], body=outer)]
    inputs = {"x": (np.float32, [3, 4]), "bound": (np.float32, []), "steps": (np.int64, [])}
    return onnx_model(nodes, inputs, ["y", "peaks"], known, opset=13)


@pytest.mark.parametrize("threads", sorted(ALL))
def test_loops_within_loops(threads: int) -> None:
    model = newton()
    engine = build(model, level=0, threads=threads, shapes={"peaks[]": "1..12(4)"})
    graph = read_onnx(model, {"peaks[]": "1..12"})
    for seed, bound, steps in ((0, 3.0, 4), (1, 1e9, 7), (2, -1e9, 12), (3, 5.0, 0), (4, 2.0, 1)):
        x = np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)
        agree(engine, model, {"x": x, "bound": np.array(bound, np.float32), "steps": np.asarray(steps)}, graph)


def scan() -> onnx.ModelProto:
    """A recurrence over a free number of steps; outputs are collected from the back, and on another axis."""
    inside = body(
        [N("MatMul", ["h", "w"], ["hw"]), N("Add", ["hw", "x_t"], ["s"]), N("Tanh", ["s"], ["h_out"]), N("Identity", ["h_out"], ["y_t"]),
         N("Add", ["z_t", "h_out"], ["v_t"])],
        [("h", F, [2, 3]), ("x_t", F, [2, 3]), ("z_t", F, [2, 3])],
        [("h_out", F, [2, 3]), ("y_t", F, [2, 3]), ("v_t", F, [2, 3])],
        w=np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32),
    )  # fmt: skip
    node = N(
        "Scan", ["h0", "x", "z"], ["h", "y", "v"], body=inside, num_scan_inputs=2, scan_input_axes=[0, 1], scan_input_directions=[0, 1],
        scan_output_axes=[0, 1], scan_output_directions=[1, 0],
    )  # fmt: skip
    inputs = {"h0": (np.float32, [2, 3]), "x": (np.float32, ["steps", 2, 3]), "z": (np.float32, [2, "steps", 3])}
    return onnx_model([node], inputs, ["h", "y", "v"])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_scan_of_free_length(threads: int) -> None:
    model = scan()
    engine = build(model, level=0, threads=threads, shapes={"steps": "1..40(12)"})
    assert not any(t.is_computed for t in engine.outputs)
    for steps in (12, 1, 40, 3):
        rng = np.random.default_rng(steps)
        shapes = {"h0": (2, 3), "x": (steps, 2, 3), "z": (2, steps, 3)}
        agree(engine, model, {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}, read_onnx(model, {"steps": "1..40"}))


def dear_branches() -> onnx.ModelProto:
    """An If with products in both branches, which read values from around, of which one is handed on."""
    rng = np.random.default_rng(0)

    def branch(k: str) -> onnx.GraphProto:
        nodes = [
            N("MatMul", ["r", f"w{k}"], [f"m{k}"]),
            N("Relu", [f"m{k}"], [f"q{k}"]),
            N("MatMul", [f"q{k}", f"v{k}"], [f"o{k}"]),
            N("ReduceSum", [f"o{k}"], [f"s{k}"], keepdims=0),
            N("Identity", ["x"], [f"p{k}"]),
        ]
        known = {f"w{k}": rng.standard_normal((64, 128)) / 8, f"v{k}": rng.standard_normal((128, 64)) / 11}
        outputs = [(f"o{k}", F, [32, 64]), (f"s{k}", F, []), (f"p{k}", F, [32, 64])]
        return body(nodes, [], outputs, **{n: a.astype(np.float32) for n, a in known.items()})

    nodes = [
        N("Relu", ["x"], ["r"]),
        N("ReduceSum", ["x"], ["t"], keepdims=0),
        N("Greater", ["t", "zero"], ["c"]),
        N("If", ["c"], ["o", "s", "p"], then_branch=branch("a"), else_branch=branch("b"), name="if"),
        N("Add", ["o", "r"], ["y"]),
    ]
    return onnx_model(nodes, {"x": (np.float32, [32, 64])}, ["y", "s", "p"], {"zero": np.float32(0)}, opset=13)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_branch_that_is_not_taken_does_not_run(threads: int) -> None:
    model = dear_branches()
    engine, graph = build(model, level=0, threads=threads), read_onnx(model)
    for seed in range(4):
        x = np.random.default_rng(seed).standard_normal((32, 64)).astype(np.float32)
        agree(engine, model, {"x": x}, graph)
        times = {t.name: t.nanoseconds for t in engine.context(threads=threads).profile({"x": x}, runs=2)}
        taken = "then" if x.sum() > 0 else "else"
        ran = {branch for branch in ("then", "else") if times[f"if/{branch}/MatMul_0"] > 0}
        assert ran == {taken}


def test_sizes_found_in_a_body() -> None:
    """How many elements are above a threshold that rises until there is none."""
    inside = body(
        [
            N("Add", ["level", "step"], ["higher"]),
            N("Greater", ["x", "higher"], ["above"]),
            N("NonZero", ["above"], ["places"]),
            N("Transpose", ["places"], ["rows"]),
            N("GatherND", ["x", "rows"], ["kept"]),
            N("ReduceSum", ["kept"], ["sum"], keepdims=0),
            N("Add", ["total", "sum"], ["total_out"]),
            N("Size", ["kept"], ["count"]),
            N("Cast", ["count"], ["some"], to=B),
        ],
        [("i", I, []), ("c", B, []), ("level", F, []), ("total", F, [])],
        [("some", B, []), ("higher", F, []), ("total_out", F, []), ("count", I, [])],
        step=np.float32(0.25),
    )
    nodes = [N("Loop", ["", "yes", "low", "zero"], ["level", "total", "counts"], body=inside)]
    known = {"yes": np.asarray(True), "low": np.float32(-1), "zero": np.float32(0)}
    model = onnx_model(nodes, {"x": (np.float32, [3, 7])}, ["level", "total", "counts"], known, opset=13)
    engine = build(model, level=0, threads=2, shapes={"counts[]": "1..50"})
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((3, 7)).astype(np.float32)
        got = agree(engine, model, {"x": x}, read_onnx(model, {"counts[]": "1..50"}))
        assert got["counts"][-1] == 0 and got["counts"].size > 2
