"""Custom layers in whole engines: in numpy, as expressions, in C, from a library; from ONNX and in graphs made by hand."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import strop
from strop import custom
from strop.engine.build import build
from strop.engine.describe import describe
from strop.engine.engine import Engine
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import REGISTRY, Array, Type
from strop.ir.shape import Sym
from strop.ir.text import digest, parse, show
from strop.ops.data import Reshape
from strop.ops.elementwise import make
from strop.tune import search
from tests import custom_layers as layers
from tests.custom_layers import declared  # noqa: F401  a fixture

pytestmark = pytest.mark.usefixtures("declared")
N = helper.make_node
ROOT = Path(__file__).parents[2]


def model(nodes: list[Any], inputs: dict[str, tuple[int | str, ...]], outputs: list[str], weights: dict[str, Array]) -> bytes:
    """A model of the opset 17 and of custom domains; outputs are declared without a type."""
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )  # fmt: skip
    domains = ["", *{n.domain for n in nodes if n.domain}]
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, 17 if not d else 1) for d in domains])
    made.ir_version = 9
    return bytes(made.SerializeToString())


def node(name: str, inputs: list[str], outputs: list[str], label: str, **attributes: Any) -> onnx.NodeProto:
    """A node of a custom layer."""
    domain, op_type = name.split("::")
    return N(op_type, inputs, outputs, name=label, domain=domain, **attributes)


def close(got: Array, want: Array) -> None:
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * float(np.abs(want).max()))


RNG = np.random.default_rng(3)
W1 = (0.2 * RNG.standard_normal((24, 24, 3, 3))).astype(np.float32)
W2 = (0.2 * RNG.standard_normal((24, 24, 1, 1))).astype(np.float32)
K = RNG.standard_normal((1, 24, 8, 10)).astype(np.float32)  # lies row-major beside values that lie channels-last
IMAGE = RNG.standard_normal((1, 24, 10, 12)).astype(np.float32)


def conv(x: Array, w: Array) -> Array:
    """A convolution without pads."""
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))
    return np.einsum("ncyxij,ocij->noyx", windows, w, dtype=np.float64).astype(np.float32)


@pytest.fixture(scope="module")
def numpy_net(declared: None) -> Engine:  # noqa: F811
    """Three layers in numpy, two of them between convolutions."""
    nodes = [
        N("Conv", ["x", "w1"], ["a"], name="conv"),
        node(layers.DEFORM, ["a", "offset", "w1"], ["b"], "deform", kernel=[3, 3]),
        N("Transpose", ["b"], ["c"], name="turn", perm=[0, 2, 3, 1]),
        node(layers.WARP, ["c", "matrix"], ["d"], "warp", output_height=5, output_width=6),
        N("Reshape", ["d", "rows"], ["logits"], name="rows_of"),
        node(layers.COLLAPSE, ["logits"], ["ids", "lengths"], "decode", blank=3),
    ]
    weights = {"w1": W1, "rows": np.array([2, 15, 24], np.int64)}
    inputs = {"x": (1, 24, 10, 12), "offset": (1, 18, 6, 8), "matrix": (1, 16)}
    return build(model(nodes, inputs, ["d", "ids", "lengths"], weights), level=0, threads=2)


def numpy_feed(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    matrix = np.array([[0.9, 0.1, 0, 0.3, -0.1, 1.1, 0, 0.2, 0, 0, 1, 0, 0, 0, 0, 1]], np.float32)
    return {"x": IMAGE, "offset": rng.standard_normal((1, 18, 6, 8)).astype(np.float32), "matrix": matrix}


def numpy_wants(feed: dict[str, Array]) -> dict[str, Array]:
    deform, warp = custom.make(layers.DEFORM, {"kernel": [3, 3]}), custom.make(layers.WARP, {"output_height": 5, "output_width": 6})
    (b,) = deform.reference(conv(feed["x"], W1), feed["offset"], W1)
    (d,) = warp.reference(np.ascontiguousarray(b.transpose(0, 2, 3, 1)), feed["matrix"])
    ids, lengths = custom.make(layers.COLLAPSE, {"blank": 3}).reference(d.reshape(2, 15, 24))
    return {"d": d, "ids": ids, "lengths": lengths}


def test_layers_in_numpy_build_and_run(numpy_net: Engine) -> None:
    feed = numpy_feed()
    got, want = numpy_net.run(feed), numpy_wants(feed)
    close(got["d"], want["d"])
    np.testing.assert_array_equal(got["ids"], want["ids"])
    np.testing.assert_array_equal(got["lengths"], want["lengths"])
    assert got["ids"].dtype == np.int64 and want["lengths"].min() > 0
    steps = {s.name: s for s in describe(numpy_net).steps}
    assert steps["deform"].custom == f"{layers.DEFORM}: Python callback" and steps["conv"].custom == ""
    assert steps["deform"].kernel == "custom_callback()" and steps["deform"].kind == layers.DEFORM


def test_a_profile_times_callbacks(numpy_net: Engine) -> None:
    times = {t.name: t.nanoseconds for t in numpy_net.profile(numpy_feed(), runs=2)}
    assert times["deform"] > 1000


def test_contexts_call_back_concurrently(numpy_net: Engine) -> None:
    feeds = [numpy_feed(seed) for seed in range(3)]
    wants = [numpy_wants(feed)["d"] for feed in feeds]
    failures: list[BaseException] = []

    def work(feed: dict[str, Array], want: Array) -> None:
        try:
            context = numpy_net.context(threads=1)
            for _ in range(5):
                close(context.run(feed)["d"], want)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(feeds, wants)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_operands_are_views_of_the_context_and_read_only() -> None:
    seen: list[Any] = []

    @custom.layer("test::Look")
    class Look(custom.Layer):
        def shape(self, x: Any) -> Any:
            return x

        def write(self, outputs: Any, x: Any) -> None:
            seen.append((x.ctypes.data, x.flags.writeable, x.strides))
            np.multiply(x, 2, out=outputs[0])

    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (4, 6)))
    graph.set_outputs(graph.add(custom.make("test::Look", {}), [x], name="look").outputs, ["y"])
    engine = build(graph, level=0, threads=1)
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(engine(array), 2 * array)
    assert seen[-1] == (array.ctypes.data, False, (24, 4))


@pytest.fixture(scope="module")
def native_net(declared: None) -> Engine:  # noqa: F811
    """An expression behind a convolution, C between two convolutions, and a kernel of a library and of a source."""
    nodes = [
        N("Conv", ["x", "w1"], ["a"], name="conv1"),
        node(layers.SQUAREPLUS, ["a"], ["b"], "act", b=2.0),
        node(layers.GATE, ["b"], ["c"], "gate"),
        N("Relu", ["c"], ["r"], name="relu"),
        N("Add", ["r", "k"], ["d"], name="plus"),
        N("Conv", ["d", "w2"], ["e"], name="conv2"),
        N("Flatten", ["e"], ["f"], name="flat", axis=2),
        N("Reshape", ["f", "rows"], ["g"], name="rows_of"),
        node(layers.DECAY, ["g"], ["y"], "decay", decay=0.75),
        node(layers.DECAY_SOURCE, ["g"], ["z"], "decay_source", decay=0.25),
    ]
    weights = {"w1": W1, "w2": W2, "k": K, "rows": np.array([24, -1], np.int64)}
    return build(model(nodes, {"x": (1, 24, 10, 12)}, ["e", "y", "z"], weights), level=0, threads=2)


def native_wants() -> dict[str, Array]:
    b = layers.squareplus(conv(IMAGE, W1), 2.0)
    d = np.maximum(b * b.mean(1, keepdims=True), 0) + K
    e = conv(d, W2)
    g = e.reshape(24, -1)
    y, z = (custom.make(n, {"decay": k}).reference(g)[0] for n, k in ((layers.DECAY, 0.75), (layers.DECAY_SOURCE, 0.25)))
    return {"e": e, "y": y, "z": z}


def test_native_layers_build_and_run(native_net: Engine) -> None:
    got, want = native_net.run({"x": IMAGE}), native_wants()
    for name, array in want.items():
        close(got[name], array)


def test_native_layers_fuse_and_need_no_copies(native_net: Engine) -> None:
    found = describe(native_net)
    steps = {s.name: s for s in found.steps}
    assert "act" not in steps and steps["conv1"].source == ("conv1", "act") and steps["conv1"].fused
    assert steps["gate"].source == ("gate", "relu", "plus") and steps["gate"].fused
    assert steps["gate"].kernel.startswith("custom(") and steps["gate"].custom == f"{layers.GATE}: native, in the engine"
    gate = [s.split(":")[1] for s in (steps["gate"].inputs[0], steps["gate"].outputs[0]) if s is not None]
    assert gate == ["(1920,1,240,24)"] * 2  # channels innermost
    between = [s.name for s in found.steps].index("conv2")
    assert not [s for s in found.steps[1:between] if s.copy]
    assert steps["decay"].custom.startswith(f"{layers.DECAY}: native, decaying_max of ") and "sha256" in steps["decay"].custom
    assert steps["decay_source"].kernel.startswith("custom(")


def test_text_of_graphs_with_custom_layers(native_net: Engine) -> None:
    text = native_net.graph_text
    assert f'"{layers.GATE}"(%b) as "gate" @ "gate"' in text and f'"{layers.SQUAREPLUS}"(%a) {{b=2.0}}' in text
    again = parse(text, {digest(a): a for a in (W1, W2, K)})
    assert show(again) == text
    close(interp.run(again, {"x": IMAGE})["y"], native_wants()["y"])


SAVED = """
import sys
import numpy as np
{before}
import strop
engine = strop.load(sys.argv[1])
bad = [m for m in sys.modules if m.split('.')[0] in ('onnx', 'ziglang') or m.startswith(('strop.kernels', 'strop.lower', 'strop.codegen'))]
assert not bad, bad
for name, array in engine.run(dict(np.load(sys.argv[2]))).items():
    np.testing.assert_allclose(array, np.load(sys.argv[3])[name], rtol=1e-5, atol=1e-4)
print("ok")
"""


def other_process(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": ""},
    )  # fmt: skip


def test_a_kernel_of_a_library_is_found_in_another_process(native_net: Engine, tmp_path: Path) -> None:
    native_net.save(tmp_path / "e.strop")
    np.savez(tmp_path / "x.npz", x=IMAGE)
    np.savez(tmp_path / "y.npz", **native_wants())
    files = tmp_path / "e.strop", tmp_path / "x.npz", tmp_path / "y.npz"
    register = f"from strop import custom; custom.load_library({str(layers.library_path())!r}, {{{layers.DECAY!r}: 'decaying_max'}})"
    done = other_process(SAVED.format(before=register), *files)
    assert done.stdout == "ok\n", done.stderr
    done = other_process(SAVED.format(before=""), *files)
    assert f"layer 'decay' needs the custom layer '{layers.DECAY}', a kernel of a shared library" in done.stderr
    assert "strop.custom.load_library" in done.stderr and "decaying_max of" in done.stderr


def test_a_callback_is_found_in_another_process(tmp_path: Path) -> None:
    declare = """
from strop import custom
@custom.layer("test::Twice")
class Twice(custom.Layer):
    factor: float = 2.0
    def shape(self, x):
        return x
    def compute(self, x):
        return x * np.float32(self.factor)
"""
    exec(declare, {"np": np, "__name__": __name__})
    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (3,)))
    graph.set_outputs(graph.add(custom.make("test::Twice", {"factor": 3.0}), [x], name="twice").outputs, ["y"])
    build(graph, level=0, threads=1).save(tmp_path / "e.strop")
    np.savez(tmp_path / "x.npz", x=np.ones(3, np.float32))
    np.savez(tmp_path / "y.npz", y=np.full(3, 3.0, np.float32))
    done = other_process(SAVED.format(before=declare), tmp_path / "e.strop", tmp_path / "x.npz", tmp_path / "y.npz")
    assert done.stdout == "ok\n", done.stderr


def test_free_sizes() -> None:
    """Callbacks and C see the shape of the run."""
    batch, length = Sym("b", 1, 2, 4), Sym("t", 4, 8, 16)
    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (batch, 8, length, 3)))
    turned = graph.add(custom.make(layers.GATE, {}), [x], name="gate").output
    flat = graph.add(Reshape((custom.dims.mul(batch, 24), length)), [turned], name="flat").output
    (y,) = graph.add(custom.make(layers.DECAY, {}), [flat], name="decay").outputs
    logits = graph.add(Reshape((batch, length, 24)), [flat], name="logits").output
    ids, _ = graph.add(custom.make(layers.COLLAPSE, {}), [logits], name="ids").outputs
    graph.set_outputs([y, ids], ["y", "ids"])
    engine = build(graph, level=0, threads=1)
    for shape in ((2, 8, 8, 3), (1, 8, 16, 3), (4, 8, 5, 3)):
        feed = {"x": RNG.standard_normal(shape).astype(np.float32)}
        got, want = engine.run(feed), interp.run(graph, feed)
        close(got["y"], want["y"])
        np.testing.assert_array_equal(got["ids"], want["ids"])


def test_tuning_checks_native_layers_and_leaves_callbacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Level 3 measures what has a single candidate too; one that is wrong is never chosen."""
    monkeypatch.setattr(search, "path_of", lambda target: tmp_path / "records.txt")
    wrong = layers.DECAY_C.replace("EXPORT", "static").replace("* (float)decay", "* (float)decay + 1")

    @custom.layer("test::Wrong", takes=custom.ROW_MAJOR, source=wrong, symbol="decaying_max")
    class Wrong(REGISTRY[layers.DECAY]):  # type: ignore[misc]
        pass

    def net(name: str) -> Graph:
        graph = Graph("g")
        x = graph.add_input("x", Type(dt.f32, (16, 32)))
        graph.set_outputs(graph.add(custom.make(name, {}), [x], name="layer").outputs, ["y"])
        return graph

    with pytest.raises(strop.KernelError, match="layer"):
        build(net("test::Wrong"), level=3, threads=1)
    step = describe(build(net(layers.DECAY), level=3, threads=1)).steps[0]
    assert step.measured_ns is not None and step.measured_ns > 0


def test_pure_layers_are_shared_folded_and_dropped_and_others_are_not() -> None:
    calls: list[int] = []

    class _Count(custom.Layer):
        def shape(self, x: Any) -> Any:
            return x

        def compute(self, x: Any) -> Any:
            calls.append(1)
            return x + np.float32(1)

    pure = custom.layer("test::Pure")(type("Pure", (_Count,), {"__annotations__": {}, "__module__": __name__}))
    impure = custom.layer("test::Impure", pure=False)(type("Impure", (_Count,), {"__annotations__": {}, "__module__": __name__}))
    for cls, steps in ((pure, 1), (impure, 4)):
        graph = Graph("g")
        x = graph.add_input("x", Type(dt.f32, (5,)))
        c = graph.add_const(np.ones(5, np.float32), "c")
        a, b, d, _ = (graph.add(cls(), [v]).output for v in (x, x, c, x))
        graph.set_outputs([graph.add(make("add"), [graph.add(make("mul"), [a, b]).output, d]).output], ["y"])
        engine = build(graph, level=0, threads=1)
        calls.clear()
        array = np.arange(5, dtype=np.float32)
        np.testing.assert_array_equal(engine(array), (array + 1) ** 2 + 2)
        assert len(calls) == steps


def test_every_dtype_and_operands_that_are_left_out() -> None:
    @custom.layer("test::Turn")
    class Turn(custom.Layer):
        def shape(self, x: Any, nothing: Any, row: Any) -> Any:
            assert nothing is None
            return custom.Type(x.dtype, x.shape[::-1]), custom.Type(x.dtype, (0, *x.shape))

        def compute(self, x: Any, nothing: Any, row: Any) -> Any:
            assert nothing is None and row.shape == (3,)
            return x.T[:, ::-1], np.empty((0, *x.shape), x.dtype)

    graph, feed, outputs = Graph("g"), {}, {}
    row = graph.add_const(np.arange(3, dtype=np.float32), "row")
    for dtype in dt.ON_PROCESSORS:
        x = graph.add_input(f"x_{dtype}", Type(dtype, (2, 3)))
        feed[x.name] = RNG.integers(0, 2, (2, 3)).astype(dtype.numpy)
        outputs[f"y_{dtype}"], outputs[f"e_{dtype}"] = graph.add(Turn(), [x, None, row], name=f"turn_{dtype}").outputs
    graph.set_outputs(list(outputs.values()), list(outputs))
    got = build(graph, level=0, threads=1).run(feed)
    for dtype in dt.ON_PROCESSORS:
        assert got[f"y_{dtype}"].dtype == dtype.numpy and got[f"e_{dtype}"].shape == (0, 2, 3)
        np.testing.assert_array_equal(got[f"y_{dtype}"], feed[f"x_{dtype}"].T[:, ::-1])


def test_a_function_of_the_model_comes_before_a_custom_layer() -> None:
    body = [N("Mul", ["a", "a"], ["b"])]
    function = helper.make_function("mylib", "ChannelGate", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    proto = onnx.load_from_string(model([node(layers.GATE, ["x"], ["y"], "gate")], {"x": (1, 4, 2, 2)}, ["y"], {}))
    proto.functions.append(function)
    x = RNG.standard_normal((1, 4, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(build(proto, level=0, threads=1)(x), x * x)


def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "custom_layer.py")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Python callback" in done.stdout and "agrees with numpy" in done.stdout
