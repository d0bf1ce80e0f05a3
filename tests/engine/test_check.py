"""The fate of every node, without a build."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from strop import custom, demo_data
from strop.codegen import toolchain
from strop.engine.check import FATES, Figures, Totals, check
from strop.engine.describe import describe
from strop.errors import ModelError, TargetError, UnsupportedError
from tests import golden, tiny_net


def test_fates_agree_with_the_build() -> None:
    report = check(tiny_net.model_file())
    assert [node.name for node in report.nodes] == list(tiny_net.NODES)
    steps = describe(tiny_net.engine()).steps
    for node in report.nodes:
        step = next((s for s in steps if node.name in s.source), None)
        if step is None:
            assert node.fate == "view"
        else:
            assert step.kernel.startswith(node.kernel)
            assert node.step == ("" if step.name == node.name else step.name)
    assert report.counts == {"view": 1, "fused": 4, "kernel": 3}
    assert report.of("fused")[0].name == "relu1"
    assert set(report.counts) <= set(FATES)


def test_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was compiled")

    monkeypatch.setattr(toolchain, "find", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)
    assert check(tiny_net.model_file(), target="x86-64-v3").target == "x86-64-v3"


def test_constants_are_folded() -> None:
    model = tiny_net.model()
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["b1"], ["minus"], name="neg"))
    model.graph.node[1].input[2] = "minus"
    report = check(model.SerializeToString())
    assert report.nodes[0].fate == "folded"
    assert report.model == "model"


def test_unsupported_nodes_are_named_and_the_rest_judged_as_far_as_possible() -> None:
    model = tiny_net.model()
    model.graph.node[3].op_type = "Batchelor"
    report = check(model.SerializeToString())
    (bad,) = report.of("unsupported")
    assert bad.name == "bn" and "Batchelor" in bad.reason and bad.hint
    whole = {node.name: node for node in check(tiny_net.model_file()).nodes}
    for node in report.nodes[:3]:  # before it: judged as in the whole network
        assert (node.fate, node.kernel, node.step) == (whole[node.name].fate, whole[node.name].kernel, whole[node.name].step)
        assert node.figures.flops > 0 and node.figures.flops >= 0.99 * whole[node.name].figures.flops
    for node in report.nodes[4:]:  # behind it: nothing says what they read
        assert node.fate == "unknown" and node.reason == "an operand comes from an unsupported node"
        assert node.figures == Figures()


def test_nodes_behind_an_unsupported_one_are_judged_where_the_model_declares_its_result() -> None:
    model = tiny_net.model()
    model.graph.node[3].op_type = "Batchelor"
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("d", onnx.TensorProto.FLOAT, (1, 16, 8, 8)))
    report = check(model.SerializeToString())
    assert [n.fate for n in report.nodes] == ["kernel", "fused", "kernel", "unsupported", "fused", "kernel", "view", "kernel"]
    assert report.nodes[-1].figures.flops == 2 * 1024 * 10 + 10


def test_several_unsupported_nodes_are_all_told() -> None:
    model = tiny_net.model()
    for index, op_type in ((1, "Reluu"), (3, "Batchelor"), (7, "Gem")):
        model.graph.node[index].op_type = op_type
    report = check(model.SerializeToString())
    assert [n.name for n in report.of("unsupported")] == ["relu1", "bn", "fc"]
    assert report.nodes[0].fate == "kernel" and all("custom layer" in str(n.hint) for n in report.of("unsupported"))


def test_nothing_can_be_judged() -> None:
    model = tiny_net.model()
    model.graph.node[0].op_type = "Convolve"
    report = check(model.SerializeToString())
    assert report.counts == {"unsupported": 1, "unknown": 7} and report.totals == Totals(nodes=8)


def test_figures_add_up_and_agree_with_the_build() -> None:
    report, built = check(tiny_net.model_file()), describe(tiny_net.engine())
    totals = report.totals
    assert totals.flops == built.totals.flops == sum(n.figures.flops for n in report.nodes)
    assert totals.bytes == built.totals.bytes and totals.steps == built.totals.steps and totals.copies == built.totals.copies
    memory = built.memory
    assert (totals.arena, totals.live_peak) == (memory.arena, memory.live_peak)
    assert totals.estimated_ns == sum(s.estimated_ns for s in built.steps)
    assert totals.workspace == memory.scratch_per_thread == max(n.figures.workspace for n in report.nodes)
    assert 0.5 < sum(n.figures.share for n in report.nodes) <= 1.001
    conv, relu, fc = (next(n for n in report.nodes if n.name == name) for name in ("conv1", "relu1", "fc"))
    assert conv.figures.flops == 2 * 16 * 64 * 27 + 16 * 64 and conv.figures.results == 4 * 16 * 64
    assert relu.step == "conv1" and relu.figures == Figures(flops=relu.figures.flops) and relu.figures.flops == 16 * 64
    assert fc.figures.weights >= 4 * 10 * 1024 and fc.figures.estimated_ns > 0


def test_nodes_of_branches_and_functions_are_judged_by_name() -> None:
    helper = onnx.helper

    def branch(name: str, op_type: str) -> onnx.GraphProto:
        nodes = [helper.make_node(op_type, ["x"], [name], name=f"in_{name}")]
        return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(name)])

    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], name="max", keepdims=0),
        helper.make_node("Cast", ["m"], ["c"], name="test", to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["c"], ["z"], name="choose", then_branch=branch("a", "Exp"), else_branch=branch("b", "Nope")),
        helper.make_node("Twice", ["x"], ["y"], name="call", domain="local"),
    ]
    function = helper.make_function(
        "local", "Twice", ["p"], ["q"], [helper.make_node("Sin", ["p"], ["r"], name="sin"), helper.make_node("Cos", ["r"], ["q"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (4, 6))],
        [helper.make_empty_tensor_value_info(n) for n in ("y", "z")],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("local", 1)], functions=[function], ir_version=9
    )
    fates = {n.name: n for n in check(model.SerializeToString()).nodes}
    assert fates["choose/else/in_b"].fate == "unsupported" and "Nope" in fates["choose/else/in_b"].reason
    assert fates["choose/then/in_a"].fate in ("kernel", "folded")
    assert fates["call/sin"].fate == "fused" and fates["call/sin"].step == "call/Cos_1" and fates["call/Cos_1"].fate == "kernel"
    next(a for a in model.graph.node[2].attribute if a.name == "else_branch").g.node[0].op_type = "Tanh"
    fates = {n.name: n for n in check(model.SerializeToString()).nodes}
    assert not [n for n in fates.values() if n.fate in ("unsupported", "unknown")]
    branches = [fates[f"choose/{name}"] for name in ("then/in_a", "else/in_b")]
    assert all(n.fate in ("fused", "kernel") and n.figures.flops == 24 for n in branches)


def test_free_sizes_are_judged_at_their_typical_values() -> None:
    model = tiny_net.model(batch="N").SerializeToString()
    free = check(model, shapes={"x": "1..8(4)x3x8x8"})
    fixed = check(model, shapes={"x": (4, 3, 8, 8)})
    assert free.sizes == {"N": 4} and fixed.sizes == {} and free.inputs == ("x: f32[N,3,8,8]",)
    assert free.totals.flops == fixed.totals.flops and free.totals.arena == 2 * fixed.totals.arena
    for a, b in zip(free.nodes, fixed.nodes, strict=True):
        assert (a.name, a.figures.flops, a.figures.results) == (b.name, b.figures.flops, b.figures.results)


def test_naive_nodes_say_what_the_kernels_say() -> None:
    node = onnx.helper.make_node("Det", ["x"], ["y"], name="det")
    naive = onnx.helper.make_node("ScatterND", ["y", "i", "u"], ["z"], name="scatter")
    graph = onnx.helper.make_graph(
        [node, naive], "net", [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (4, 3, 3))],
        [onnx.helper.make_empty_tensor_value_info("z")],
        [onnx.numpy_helper.from_array(np.zeros((1, 1), np.int64), "i"), onnx.numpy_helper.from_array(np.ones(1, np.float32), "u")],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    found = {n.name: n for n in check(model.SerializeToString()).nodes}
    scatter = found["scatter"]
    assert scatter.fate == "naive" and scatter.reason == "no faster kernel accepts it"
    assert "conv_direct" in scatter.refusals and "naive" not in scatter.refusals and all(scatter.refusals.values())


class TestCustom:
    """Custom layers: where their code is, and what declines."""

    @pytest.fixture(autouse=True)
    def forgotten(self) -> Iterator[None]:
        yield
        for name in custom.declared():
            custom.forget(name)

    def model(self, op_type: str, then: str = "Relu") -> bytes:
        helper = onnx.helper
        nodes = [
            helper.make_node(op_type, ["x"], ["a"], name="mine", domain="test"),
            helper.make_node(then, ["a"], ["b"], name="then"),
            helper.make_node("Softmax", ["b"], ["y"], name="last"),
        ]
        graph = helper.make_graph(
            nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (4, 6))], [helper.make_empty_tensor_value_info("y")]
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("test", 1)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())

    def declare(self, name: str, **options: Any) -> None:
        class Layer(custom.Layer):
            def shape(self, x: Any) -> Any:
                return x

            def compute(self, x: Any) -> Any:
                return x

            def emit(self, c: Any) -> str:
                if name == "test::Picky":
                    raise custom.Declined("it is Tuesday")
                store = c.store(c.inputs[0].at("i", "j"), "i", "j")
                return f"for (int64_t i = 0; i < 4; i++) for (int64_t j = 0; j < 6; j++) {store}"

        if name == "test::Numpy":
            del Layer.emit
        custom.layer(name, **options)(Layer)

    def test_where_the_code_is(self) -> None:
        self.declare("test::Numpy")
        self.declare("test::Native", fuses=True)
        numpy, *_ = check(self.model("Numpy")).nodes
        assert (numpy.fate, numpy.kernel, numpy.reason) == ("custom", "custom_callback", "Python callback")
        native, then, _ = check(self.model("Native")).nodes
        assert (native.fate, native.kernel, native.reason) == ("custom", "custom", "native, in the engine")
        assert (then.fate, then.step) == ("fused", "mine")
        assert native.op == "test.Native" and native.figures.flops == 24 and native.figures.bytes == 2 * 4 * 24

    def test_what_no_kernel_can_do_does_not_hide_the_rest(self) -> None:
        self.declare("test::Picky", fuses=True)
        mine, then, last = check(self.model("Picky")).nodes
        assert mine.fate == "unsupported" and "no kernel can do test::Picky" in mine.reason and "it is Tuesday" in mine.reason
        assert then.fate == "unknown" and then.reason == "it goes with mine, which is unsupported"
        assert last.fate == "kernel" and last.kernel == "softmax"


def schema(value: Any) -> Any:
    """The shape of JSON: names of types in the place of values, one element for a list."""
    if isinstance(value, dict):
        return {key: schema(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        kinds = {json.dumps(schema(item), sort_keys=True) for item in value}
        return [json.loads(kind) for kind in sorted(kinds)]
    return type(value).__name__


def test_the_json_has_the_form_of_the_golden_file(pytestconfig: pytest.Config) -> None:
    model = tiny_net.model(batch="N")
    model.graph.node[7].op_type = "Gem"
    text = json.dumps(check(model.SerializeToString(), shapes={"x": "1..8(4)x3x8x8"}).to_json())
    golden.check("check_schema.json", json.dumps(schema(json.loads(text)), indent=2, sort_keys=True) + "\n", pytestconfig)


def test_free_dims_need_a_shape() -> None:
    model = tiny_net.model(batch="N").SerializeToString()
    with pytest.raises(UnsupportedError, match="symbolic"):
        check(model)
    assert check(model, shapes={"x": (4, 3, 8, 8)}).counts["kernel"] == 3


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="unknown target"):
        check(tiny_net.model_file(), target="pdp-11")
    with pytest.raises(ModelError):
        check(tmp_path / "missing.onnx")


def test_lenet_runs_no_naive_step() -> None:
    report = check(demo_data.lenet_path())
    assert not report.of("unsupported") and not report.of("naive") and not report.of("unknown")
    assert {"conv1", "conv2"} <= {node.name for node in report.of("kernel")}
