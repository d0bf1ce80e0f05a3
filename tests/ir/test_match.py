"""Patterns, patches, provenance, and the guards of the rewrite engine."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import GraphError, VerifyError
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node, Value
from strop.ir.match import (
    Match,
    Patch,
    Pattern,
    Rule,
    any_value,
    apply,
    const,
    either,
    match,
    op,
    optional,
    rewrite,
    rule,
    scalar,
    splat,
    uniform,
)
from strop.ir.op import Type
from strop.ir.verify import verify
from strop.ops.conv import Conv
from strop.ops.data import Reshape, Split
from strop.ops.elementwise import Cast, Elementwise, make
from strop.trace import Trace

X = Type(dt.f32, (2, 4))


class Net:
    """A graph under construction with short spellings."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.x = self.graph.add_input("x", X)

    def __call__(self, fn: str, *operands: Value | float, **kwargs: object) -> Value:
        values = [v if isinstance(v, Value) else self.const(v) for v in operands]
        return self.graph.add(make(fn), values, source=[f"src_{fn}"]).output

    def const(self, number: float | np.ndarray) -> Value:
        return self.graph.add_const(np.asarray(number, np.float32), "c")

    def done(self, *outputs: Value) -> Graph:
        self.graph.set_outputs(outputs)
        return self.graph


def node_of(value: Value) -> Node:
    assert value.producer is not None
    return value.producer


def fits(pattern: Pattern, value: Value, net: Net) -> Match | None:
    return match(pattern, node_of(value), net.graph)


# ---- patterns


def test_captures_and_repeated_names() -> None:
    net = Net()
    gate = net("sigmoid", net.x)
    y = net("mul", net.x, gate)
    net.done(y)
    found = fits(op("mul", any_value("x"), op("sigmoid", any_value("x"), name="gate")), y, net)
    assert found is not None
    assert found["x"] is net.x and found["gate"] is gate
    assert found.node("gate") is gate.producer and found.root is y.producer
    assert found.once("gate") and not found.once("x")
    other = net("mul", net("neg", net.x), gate)
    assert fits(op("mul", any_value("x"), op("sigmoid", any_value("x"))), other, net) is None


def test_commutative_ops_match_in_both_orders() -> None:
    net = Net()
    gate = net("sigmoid", net.x)
    pattern = op("mul", any_value("a"), op("sigmoid", any_value()))
    assert fits(pattern, net("mul", gate, net.x), net) is not None
    assert fits(pattern, net("mul", net.x, gate), net) is not None
    wrong = op("sub", any_value(), op("sigmoid", any_value()))
    assert fits(wrong, net("sub", gate, net.x), net) is None
    assert fits(wrong, net("sub", net.x, gate), net) is not None


def test_backtracking_over_orders_and_choices() -> None:
    net = Net()
    a, b = net("sigmoid", net.x), net("tanh", net.x)
    y = net("add", net("mul", a, b), a)
    net.done(y)
    inner = either(op("relu", any_value("p")), op("mul", any_value("p"), any_value("q")))
    found = fits(op("add", any_value("q"), inner), y, net)
    assert found is not None and found["q"] is a and found["p"] is b


def test_constants() -> None:
    net = Net()
    y = net("mul", net.x, np.full((4,), 0.5))
    assert fits(op("mul", any_value(), scalar(0.5)), y, net)
    assert fits(op("mul", any_value(), scalar(0.500001)), y, net) is None
    assert fits(op("mul", any_value(), const("c")), y, net)
    assert fits(op("mul", any_value(), const("c", lambda a: a.ndim == 0)), y, net) is None
    found = fits(op("mul", any_value(), splat("c")), y, net)
    assert found is not None and uniform(found["c"]) == 0.5 and found.array("c").shape == (4,)
    ramp = net("mul", net.x, np.arange(4))
    assert fits(op("mul", any_value(), splat("c")), ramp, net) is None
    assert uniform(net.x) is None and uniform(net.const(np.zeros(0))) is None


def test_optional_and_further_operands() -> None:
    net = Net()
    x = net.graph.add_input("image", Type(dt.f32, (1, 1, 3, 3)))
    w, b = net.const(np.ones((2, 1, 1, 1))), net.const(np.ones(2))
    conv = Conv((1, 1), (0, 0, 0, 0), (1, 1))
    plain = net.graph.add(conv, [x, w]).output
    biased = net.graph.add(conv, [x, w, b]).output
    pattern = op("conv", any_value("x"), const("w"), optional(const("b")))
    without, with_bias = fits(pattern, plain, net), fits(pattern, biased, net)
    assert without is not None and without.get("b") is None
    assert with_bias is not None and with_bias.get("b") is b
    with pytest.raises(GraphError, match="left out"):
        without["b"]
    assert fits(op("conv", any_value(), any_value()), biased, net) is None
    assert fits(op("conv", ...), biased, net) is not None
    assert fits(op(Conv, any_value(), ...), plain, net) is not None
    assert fits(op("conv", any_value(), any_value(), any_value()), plain, net) is None


def test_single_use_looks_at_uses_and_outputs() -> None:
    net = Net()
    inner = net("neg", net.x)
    y = net("abs", inner)
    pattern = op("abs", op("neg", any_value(), single_use=True))
    net.done(y)
    assert fits(pattern, y, net)
    net.done(y, inner)
    assert fits(pattern, y, net) is None
    net.done(y)
    net("relu", inner)
    assert fits(pattern, y, net) is None


def test_predicates_classes_and_results() -> None:
    net = Net()
    parts = net.graph.add(Split(1, (1, 3)), [net.x]).outputs
    y, z = net("relu", parts[0]), net("relu", parts[1])
    assert fits(op("relu", op("split", any_value())), y, net)
    assert fits(op("relu", op("split", any_value())), z, net) is None
    assert fits(op("relu", op("split", any_value(), result=1)), z, net)
    assert fits(op((Elementwise, "cast"), any_value()), y, net)
    assert fits(op(Cast, any_value()), y, net) is None
    assert fits(op("relu", any_value(where=lambda v: v.shape == (2, 3))), z, net)
    assert fits(op("relu", any_value(), where=lambda n: n.name == "nobody"), z, net) is None


# ---- rules for the engine's tests


@rule(op("mul", any_value("x"), op("sigmoid", any_value("x"))))
def silu(m: Match) -> Patch | None:
    return m.becomes(make("silu"), m["x"])


@rule(op("neg", op("neg", any_value("x"))))
def double_negation(m: Match) -> Patch | None:
    return m.is_just(m["x"])


@rule(op("neg", any_value("x")))
def swing(m: Match) -> Patch | None:
    return m.becomes(make("abs"), m["x"])


@rule(op("abs", any_value("x")))
def swing_back(m: Match) -> Patch | None:
    return m.becomes(make("neg"), m["x"])


def _silu_net() -> Graph:
    net = Net()
    y = net("mul", net.x, net("sigmoid", net.x))
    return net.done(net("relu", y))


# ---- the engine


def test_a_patch_replaces_names_and_merges_sources() -> None:
    graph, trace = _silu_net(), Trace()
    assert rewrite(graph, [silu], trace, "test") == 1
    assert [n.op.label for n in graph.nodes] == ["silu", "relu"]
    new = graph.nodes[0]
    assert new.source == ("src_sigmoid", "src_mul")
    assert new.name == "mul" and new.output.name == "mul"
    assert set(graph.values) == {"x", "mul", "relu"}
    verify(graph, "portable")


def test_a_value_that_others_read_stays() -> None:
    net = Net()
    gate = net("sigmoid", net.x)
    graph = net.done(net("mul", net.x, gate), gate)
    rewrite(graph, [silu], Trace(), "test")
    assert [n.op.label for n in graph.nodes] == ["sigmoid", "silu"]
    assert graph.nodes[1].source == ("src_mul",)
    verify(graph, "portable")


def test_the_trace_names_rule_file_and_line() -> None:
    trace = Trace()
    rewrite(_silu_net(), [silu], trace, "some_pass")
    [(pass_name, rule_text, note)] = trace.patches
    assert pass_name == "some_pass"
    assert rule_text.startswith("silu (ir/test_match.py:")
    assert note == "mul: silu"


def test_replacing_by_a_present_value_and_graph_outputs() -> None:
    net = Net()
    graph = net.done(net("neg", net("neg", net.x)))
    assert rewrite(graph, [double_negation], Trace(), "test") == 1
    assert graph.outputs == [net.x] and graph.output_names == ["neg.1"]
    assert not graph.nodes
    verify(graph, "portable")


def test_rules_reach_a_fixpoint_over_new_nodes() -> None:
    net = Net()
    value = net.x
    for _ in range(9):
        value = net("neg", value)
    graph = net.done(value)
    assert rewrite(graph, [double_negation], Trace(), "test") == 4
    assert len(graph.nodes) == 1


def test_constants_that_nothing_reads_go() -> None:
    net = Net()
    graph = net.done(net("neg", net("neg", net("mul", net.x, 2.0))))

    @rule(op("mul", any_value("x"), const()))
    def drop(m: Match) -> Patch | None:
        patch = Patch(m.graph)
        factor = patch.const(np.full((2, 4), 3, np.float32), "three")
        return patch.replace(m.root.output, patch.add(make("max"), m["x"], factor))

    rewrite(graph, [drop], Trace(), "test")
    assert sorted(graph.values) == ["mul", "neg", "neg.1", "three", "x"]
    verify(graph, "portable")


def test_a_patch_of_several_values() -> None:
    net = Net()
    a, b = net("relu", net.x), net("neg", net.x)
    graph = net.done(net("add", b, a))
    patch = Patch(graph)
    joined = patch.add(Reshape((4, 2)), net.x)
    one, two = patch.add_several(Split(0, (2, 2)), joined)
    patch.replace(a, patch.add(Reshape((2, 4)), patch.add(make("relu"), joined)))
    patch.replace(b, patch.add(Reshape((2, 4)), patch.add(make("neg"), joined)))
    assert one.shape == two.shape == (2, 2)
    added = apply(graph, patch, Trace(), "test", "several")
    assert [n.op.label for n in added] == ["reshape", "split", "relu", "reshape", "neg", "reshape"]
    graph.prune()
    assert {n.source for n in added} == {("src_relu", "src_neg")}
    assert graph.values["relu"].producer is not None
    assert graph.values["relu"].producer.op == Reshape((2, 4))
    verify(graph, "portable")


def test_new_nodes_may_read_what_comes_later() -> None:
    net = Net()
    early, late = net("relu", net.x), net("neg", net.x)
    graph = net.done(net("abs", early), net("sin", late))
    patch = Patch(graph)
    patch.replace(early, patch.add(make("tanh"), late))
    apply(graph, patch, Trace(), "test", "later")
    assert [n.op.label for n in graph.nodes] == ["neg", "tanh", "abs", "sin"]
    verify(graph, "portable")


def test_other_types_are_refused() -> None:
    net = Net()
    y = net("neg", net.x)
    graph = net.done(y)
    for other in (Reshape((4, 2)), Cast(dt.f16)):
        patch = Patch(graph)
        result = patch.add(other, net.x)
        assert patch.replace_if_same(y, result) is None
        with pytest.raises(GraphError, match="changes dtype or shape"):
            patch.replace(y, result)
        patch.replaced.append((y, result))
        with pytest.raises(GraphError, match="changes dtype or shape"):
            apply(graph, patch, Trace(), "test", "bad")
    assert [n.op.label for n in graph.nodes] == ["neg"]
    with pytest.raises(GraphError, match="must replace something"):
        apply(graph, Patch(graph), Trace(), "test", "empty")


def test_rules_that_loop_are_stopped() -> None:
    net = Net()
    graph = net.done(net("neg", net.x))
    with pytest.raises(VerifyError, match="do not come to an end") as caught:
        rewrite(graph, [swing, swing_back], Trace(), "circles")
    assert "swing_back" in str(caught.value)


def test_a_rule_that_fails_is_named() -> None:
    @rule(op("neg", any_value("x")))
    def broken(m: Match) -> Patch | None:
        return m.becomes(Reshape((3,)), m["x"])

    net = Net()
    with pytest.raises(VerifyError, match="broken"):
        rewrite(net.done(net("neg", net.x)), [broken], Trace(), "test")


def test_fuel_stops_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    value = net.x
    for _ in range(8):
        value = net("neg", value)
    graph = net.done(value)
    monkeypatch.setenv("STROP_PATCHES", "3")
    trace = Trace()
    assert rewrite(graph, [double_negation], trace, "test") == 3
    assert len(graph.nodes) == 2 and len(trace.patches) == 3
    verify(graph, "portable")


def test_debug_level_5_logs_tried_matches(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net()
    y = net("mul", net.x, net("sigmoid", net.x))
    graph = net.done(net("mul", y, net("tanh", y)))
    rewrite(graph, [silu, double_negation], Trace(debug=5), "test")
    lines = capsys.readouterr().err.splitlines()
    assert "[strop] match test double_negation at mul: no" not in lines  # it cannot start there
    assert "[strop] match test silu at mul.1: no" in lines
    assert "[strop] match test silu at mul: yes" in lines


def test_a_pattern_must_start_at_an_op() -> None:
    def action(m: Match) -> Patch | None:
        return None

    bad = Rule("bad", (any_value("x"),), action, "here")
    net = Net()
    with pytest.raises(GraphError, match="must be an op"):
        rewrite(net.done(net("neg", net.x)), [bad], Trace(), "test")
