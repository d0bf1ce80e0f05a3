"""Custom layers that are missing, declared wrongly, or go wrong: each error names the layer and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from strop import custom
from strop.engine.build import build
from strop.engine.engine import Engine, load
from strop.errors import (
    CustomError,
    ModelError,
    OptionError,
    ShapeError,
    StropError,
    UnsupportedError,
)
from strop.frontend.onnx import read_onnx, survey
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Op, Type
from strop.ir.text import parse
from strop.ops.elementwise import Elementwise
from tests.cli.conftest import Strop
from tests.cli.conftest import strop as strop_fixture

strop = strop_fixture
MEDIAPIPE = ("Convolution2DTransposeBias", "TransformLandmarks", "Landmarks2TransformMatrix")
X = np.ones((2, 3), np.float32)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No custom layer outlives its test."""
    yield
    for name in custom.declared():
        custom.forget(name)


def says(error: StropError, *words: str) -> None:
    for word in words:
        assert word in str(error), error


def declare(name: str = "test::Layer", **members: Any) -> type[custom.Layer]:
    """A custom layer that is the identity, but for what is given; ``options`` go to the decorator."""
    options = members.pop("options", {})
    body = {"shape": lambda self, x: x, "compute": lambda self, x: x, "__annotations__": {}, "__module__": __name__, **members}
    return custom.layer(name, **options)(type("Layer", (custom.Layer,), body))


def graph_of(op: Op) -> Graph:
    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    graph.set_outputs(graph.add(op, [x], name="layer").outputs, ["y"])
    return graph


def engine_of(op: Op) -> Engine:
    return build(graph_of(op), level=0, threads=1)


# ---- in models


def mediapipe() -> onnx.ModelProto:
    """A face model's tail with the custom ops of MediaPipe, see shared/docs/models of TFLite's custom ops."""
    nodes = [
        helper.make_node(MEDIAPIPE[0], ["x", "w", "b"], ["a"], name="up", domain="mediapipe", stride_h=2, stride_w=2),
        helper.make_node(MEDIAPIPE[2], ["marks"], ["m"], name="matrix", domain="mediapipe", left_rotation_idx=1),
        helper.make_node(MEDIAPIPE[1], ["marks", "m"], ["t"], name="move", domain="mediapipe"),
        helper.make_node("Relu", ["a"], ["y"], name="relu"),
    ]
    inputs = {"x": (1, 4, 4, 8), "w": (3, 2, 2, 8), "b": (3,), "marks": (1, 10, 3)}
    graph = helper.make_graph(
        nodes, "face", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in ("y", "t")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mediapipe", 1)])
    model.ir_version = 9
    return model


def test_ops_of_mediapipe_are_all_refused_by_name_with_the_way_to_give_them() -> None:
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(mediapipe())
    for name in MEDIAPIPE:
        says(caught.value, f"op type {name} is not supported", f"@strop.custom.layer('mediapipe::{name}')", "docs/custom.md")
    verdicts = {v.name: v for v in survey(mediapipe())}
    assert [n for n, v in verdicts.items() if not v.supported] == ["up", "matrix", "move"]
    assert verdicts["relu"].supported


def test_one_that_is_declared_is_refused_no_longer() -> None:
    declare(f"mediapipe::{MEDIAPIPE[1]}", shape=lambda self, marks, m: marks, compute=lambda self, marks, m: marks)
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(mediapipe())
    assert f"op type {MEDIAPIPE[1]}" not in str(caught.value) and f"op type {MEDIAPIPE[0]}" in str(caught.value)


def single(**attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("Layer", ["x"], ["y"], name="layer", domain="test", **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])], [helper.make_empty_tensor_value_info("y")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("test", 1)])
    model.ir_version = 9
    return model


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"size": 2, "sise": 3}, ("has no attribute sise", "expected: size, mode")),
        ({"mode": "a"}, ("attribute size of the custom layer is missing",)),
        ({"size": 2.5}, ("attribute size of the custom layer has the wrong type", "2.5", "int")),
        ({"size": 2, "mode": [1, 2]}, ("attribute mode", "(1, 2)")),
    ],
)
def test_attributes_that_do_not_fit(attributes: dict[str, Any], words: tuple[str, ...]) -> None:
    declare(__annotations__={"size": "int", "mode": "str"}, mode="b")
    with pytest.raises(CustomError) as caught:
        read_onnx(single(**attributes))
    says(caught.value, "layer (Layer)", "test::Layer", *words)


def test_an_attribute_that_is_a_graph() -> None:
    declare()
    body = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "body", [], [helper.make_empty_tensor_value_info("b")])
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(single(body=body))
    says(caught.value, "attribute body of a custom layer has an unsupported type", "GRAPH")


def test_a_name_that_is_not_declared() -> None:
    with pytest.raises(CustomError) as caught:
        custom.make("test::Nothing", {})
    says(caught.value, "no custom layer of this name", "test::Nothing", "strop.custom.layer", "docs/custom.md")
    with pytest.raises(CustomError, match="no custom layer"):
        Elementwise("test::Nothing")


def test_text_with_a_layer_that_is_not_declared() -> None:
    text = 'graph "g"\ninput %x : f32[2]\n%y : f32[2] = "test::Gone"(%x) {size=[1,2]}\noutput %y as "y"\n'
    with pytest.raises(ModelError) as caught:
        parse(text, {})
    says(caught.value, "no custom layer of this name", "test::Gone", "line 3", "strop.custom.layer")


# ---- declarations


@pytest.mark.parametrize(
    ("options", "members", "words"),
    [
        ({"name": "Layer"}, {}, ("unusable name", "domain::type")),
        ({"name": "a::b::c"}, {}, ("unusable name",)),
        ({"takes": "sideways"}, {}, ("unknown layout", "channels-last")),
        ({}, {"shape": custom.Layer.shape}, ("lacks a method", "shape")),
        ({}, {"compute": custom.Layer.compute}, ("lacks a method", "compute")),
        ({"source": "void f(void) {}"}, {}, ("without the name of its function", "symbol")),
        ({"source": "x", "library": "y.so", "symbol": "f"}, {}, ("library and source",)),
        ({}, {"__annotations__": {"table": "dict"}, "table": None}, ("attribute table", "no text")),
    ],
)
def test_declarations_that_do_not_hold(options: dict[str, Any], members: dict[str, Any], words: tuple[str, ...]) -> None:
    name = options.pop("name", "test::Layer")
    with pytest.raises(OptionError) as caught:
        declare(name, options=options, **members)
    says(caught.value, *words)
    assert not custom.declared()


def test_two_layers_of_one_name() -> None:
    declare()
    declare()  # the same class again, as in a notebook
    with pytest.raises(OptionError) as caught:
        custom.elementwise("test::Layer", lambda x: x)
    says(caught.value, "two custom layers have one name", "test::Layer", "strop.custom.forget")
    with pytest.raises(OptionError) as caught:
        custom.layer("test::Second")(declare("test::First"))
    says(caught.value, "a class is one custom layer", "test::First", "make a subclass")
    with pytest.raises(OptionError, match="no subclass of Layer"):
        custom.layer("test::Other")(int)  # type: ignore[type-var]


def test_kinds_of_an_expression() -> None:
    with pytest.raises(OptionError, match="unknown kinds"):
        custom.elementwise("test::Layer", lambda x: x, kinds="vector")


def test_libraries(tmp_path: Path) -> None:
    with pytest.raises(CustomError) as caught:
        declare(options={"library": tmp_path / "no.so", "symbol": "f"})
    says(caught.value, "cannot be loaded", "test::Layer", "no.so")
    with pytest.raises(CustomError) as caught:
        custom.load_library("/lib/x86_64-linux-gnu/libc.so.6", {"test::Layer": "no_such_function"})
    says(caught.value, "no such function", "no_such_function")


# ---- when they run


def _raise(*_: Any) -> None:
    raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (_raise, ("ZeroDivisionError: on purpose",)),
        (lambda self, x: x[:1], ("result 0 of another type than shape", "float32[1, 3]", "float32[2, 3]")),
        (lambda self, x: x.astype(np.float64), ("result 0 of another type", "float64[2, 3]")),
        (lambda self, x: (x, x), ("another number of results", "2", "1")),
        (lambda self, x: x.fill(0), ("ValueError", "read-only")),
    ],
)
def test_failures_of_callbacks(compute: Callable[..., Any], words: tuple[str, ...]) -> None:
    state = {"bad": False}
    layer = declare(compute=lambda self, x: compute(self, x) if state["bad"] else 2 * x)
    engine = engine_of(layer())
    np.testing.assert_array_equal(engine(X), 2 * X)
    state["bad"] = True
    for run in (lambda: engine(X), lambda: interp.run(graph_of(layer()), {"x": X})):
        with pytest.raises(CustomError) as caught:
            run()
        says(caught.value, "test::Layer", *words)
        assert compute is not _raise or isinstance(caught.value.__cause__, ZeroDivisionError)
    state["bad"] = False
    np.testing.assert_array_equal(engine(X), 2 * X)  # the same context goes on


def test_ctrl_c_in_a_callback_is_ctrl_c() -> None:
    def interrupt(self: Any, x: Any) -> None:
        raise KeyboardInterrupt

    engine = engine_of(declare(compute=interrupt)())
    with pytest.raises(KeyboardInterrupt):
        engine(X)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (lambda self, x: (2, 3), ("shape gave no types",)),
        (lambda self, x: None, ("shape gave no types",)),
        (_raise, ("shape of the custom layer failed", "ZeroDivisionError")),
    ],
)
def test_failures_of_shape(shape: Callable[..., Any], words: tuple[str, ...]) -> None:
    with pytest.raises(CustomError) as caught:
        graph_of(declare(shape=shape)())
    says(caught.value, "test::Layer", *words)


def test_errors_of_the_users_own_choice_pass() -> None:
    def shape(self: Any, x: Any) -> None:
        raise ShapeError("x has no such axis", got=x)

    with pytest.raises(ShapeError, match="no such axis"):
        graph_of(declare(shape=shape)())


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"emit": _raise}, ("emit of the custom layer failed", "ZeroDivisionError")),
        ({"emit": lambda self, c: 3}, ("emit of the custom layer gave no text", "int")),
        ({"emit": lambda self, c: "", "tasks": lambda self, c: 1.5}, ("tasks of the custom layer gave no whole number", "1.5")),
    ],
)
def test_failures_of_emission(members: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(CustomError) as caught:
        engine_of(declare(**members)())
    says(caught.value, "test::Layer", *words)


def test_an_emission_that_loses_what_it_should_fuse() -> None:
    layer = declare(emit=lambda self, c: "y0[0] = x0[0];", options={"fuses": True})
    graph = graph_of(layer())
    graph.set_outputs(graph.add(Elementwise("relu"), [graph.outputs[0]], name="relu").outputs, ["z"])
    with pytest.raises(CustomError) as caught:
        build(graph, level=0, threads=1)
    says(caught.value, "test::Layer", "code.store", "fuses=True")


def test_an_emission_that_declines_leaves_numpy() -> None:
    def emit(self: Any, c: Any) -> str:
        raise custom.Declined("only for rank 4")

    assert engine_of(declare(emit=emit)()).manifest["steps"][0]["kernel"] == "custom_callback()"
    fusing = declare("test::Fusing", emit=emit, options={"fuses": True})
    graph = Graph("g")
    x = graph.add_input("x", Type(dt.f32, (2, 3)))
    a = graph.add(fusing(), [x], name="layer").output
    graph.set_outputs(graph.add(Elementwise("relu"), [a], name="relu").outputs, ["y"])
    with pytest.raises(UnsupportedError) as caught:
        build(graph, level=0, threads=1)
    says(caught.value, "no kernel can do test::Fusing", "only for rank 4")


# ---- engines


def test_missing_when_loaded_and_when_a_context_is_made(tmp_path: Path) -> None:
    engine = engine_of(declare()())
    engine.save(tmp_path / "e.strop")
    np.testing.assert_array_equal(engine(X), X)
    custom.forget("test::Layer")
    np.testing.assert_array_equal(engine(X), X)  # the context has found it already
    for missing in (lambda: load(tmp_path / "e.strop"), engine.context):
        with pytest.raises(CustomError) as caught:
            missing()
        says(
            caught.value, "layer 'layer' needs the custom layer 'test::Layer', a callback (Python)",
            "strop_register_custom", "strop.custom.layer", "try: docs/custom.md",
        )  # fmt: skip


def test_files_of_the_command(strop: Strop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(single(), path)
    assert "test::Layer" in strop("check", path).out
    layers = tmp_path / "layers.py"
    layers.write_text(
        "from strop import custom\n@custom.layer('test::Layer')\nclass Layer(custom.Layer):\n"
        "    def shape(self, x):\n        return x\n    def compute(self, x):\n        return x\n"
    )
    monkeypatch.setenv("STROP_CUSTOM", str(layers))
    done = strop("check", path)
    assert done.code == 0 and "1 custom" in done.out, done.err
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    for text, words in ((str(tmp_path / "no.py"), "names no Python file"), (str(broken), "ZeroDivisionError")):
        monkeypatch.setenv("STROP_CUSTOM", text)
        done = strop("check", path)
        assert done.code == 1 and words in done.err
