"""Builds in reduced precision, whole: the LeNet on digits that neither training nor calibration saw."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from strop import demo_data
from strop.engine import precision as stage
from strop.engine import race
from strop.engine.auto_precision import Timing
from strop.engine.build import build, portable
from strop.engine.calibrate import calibrate
from strop.engine.engine import Engine, load
from strop.engine.evaluate import evaluate
from strop.engine.rewrite import Calibrated
from strop.errors import OptionError
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ir.text import by_digest, parse, show
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.ops.quantize import Quantize
from strop.ops.recurrent import LSTM
from strop.quantize.data import samples
from strop.quantize.pipeline import quantize
from strop.quantize.precision import Decisions
from strop.quantize.ranges import CALIBRATORS
from strop.quantize.table import Entry, Table
from strop.target.detect import parse as detect
from strop.trace import Trace
from tests import tiny_net
from tests.engine.planted import BAD, digits, spoiled

#: What ``auto`` starts from on this machine.
INT8 = stage.fastest_integers(detect("host"))
CALIBRATION, _ = digits(0, 100)
IMAGES, LABELS = digits(100, 1782)


def made(model: Any = None, **options: Any) -> Engine:
    return build(demo_data.lenet_path() if model is None else model, level=0, threads=1, **options)


def top1(engine: Engine) -> float:
    given = samples({"input": IMAGES, "labels": LABELS}, engine.inputs)
    return evaluate(engine.run, given, ["top1"])[0].value


@cache
def lenet() -> Engine:
    return made()


@cache
def table() -> Table:
    return calibrate(demo_data.lenet_path(), CALIBRATION)


def test_lenet_in_int8_is_within_a_point() -> None:
    engine = made(precision="int8", calibration=CALIBRATION)
    assert top1(lenet()) - top1(engine) <= 0.01
    kinds = [step["kind"] for step in engine.manifest["steps"]]
    assert kinds.count("integer_conv") == 2 and kinds.count("integer_matmul") == 2, kinds
    assert engine.manifest["precision"]["layers"] == {"int8": ["conv1", "conv2", "fc1", "fc2"]}
    assert engine.memory.weights < 0.3 * lenet().memory.weights


@pytest.mark.parametrize("calibrator", [c for c in CALIBRATORS if c != stage.CALIBRATOR])
def test_every_calibrator_keeps_the_digits(calibrator: str) -> None:
    ranges = calibrate(demo_data.lenet_path(), CALIBRATION, calibrator=calibrator)
    assert {e.calibrator for e in ranges.entries.values()} == {calibrator} and all(e.samples == 100 for e in ranges.entries.values())
    assert top1(lenet()) - top1(made(precision="int8", ranges=ranges)) <= 0.01


def test_the_best_calibrator_is_the_one_that_leaves_most_signal() -> None:
    graph, rng = Graph("saturates"), np.random.default_rng(0)
    x = graph.add_input("x", Type(dt.f32, (1, 16)))
    graph.set_outputs([graph.add(MatMul(), [x, graph.add_const(rng.standard_normal((16, 4)).astype(np.float32), "w")], name="fc", source=("fc",)).output], ["y"])
    given = [{"x": rng.uniform(-4, 4, (1, 16)).astype(np.float32)} for _ in range(4)]

    class Runs:
        def __init__(self, graph: Graph) -> None:
            self.run = lambda inputs: interp.run(graph, inputs)

    def chosen(first: float, second: float, **more: Any) -> tuple[str, list[str]]:
        tries = {name: Calibrated(Table({"x": Entry(-r, r, name)})) for name, r in (("mse", first), ("mse:3", second))}
        trace = Trace()
        data = samples((each for each in given) if more else given, graph.inputs)
        return stage._best(graph, Decisions("int8"), tries, data, Runs, trace).table["x"].calibrator, trace.notes  # type: ignore[arg-type]

    name, notes = chosen(2.0, 4.0)
    assert name == "mse:3" and "ranges by mse:3; signal to noise at the outputs" in notes[0]
    assert chosen(4.0, 2.0)[0] == "mse" and chosen(4.2, 4.0)[0] == "mse", "others have to be clearly better"
    assert chosen(4.0, 4.0) == ("mse", [])
    name, notes = chosen(2.0, 4.0, once=True)
    assert name == "mse" and "cannot compare calibrators" in notes[0]


def test_the_best_calibrator_of_lenet() -> None:
    engine = made(precision="int8", calibration=CALIBRATION, calibrator="best")
    assert engine.manifest["precision"]["calibrator"] == "best" and top1(lenet()) - top1(engine) <= 0.01
    assert any("calibration: ranges by mse" in note for note in engine.manifest["notes"])


def test_the_engine_computes_what_the_portable_graph_says(tmp_path: Any) -> None:
    engine = made(precision="int8", ranges=table(), dump=tmp_path)
    (text,) = tmp_path.glob("*_quantize.ir")
    assert "quantize(" in text.read_text()
    graph = _graph()
    for image in IMAGES[:5]:
        got = engine(image[None])
        wanted = interp.run(graph, {"input": image[None]})["logits"]
        assert np.abs(got - wanted).max() <= 2e-2 * np.abs(wanted).max()
        assert np.argmax(got) == np.argmax(wanted)


def _graph() -> Graph:
    return quantize(portable(demo_data.lenet_path(), None, Trace()), Decisions("int8"), table())


def test_activations_of_16_bits() -> None:
    engine = made(precision="int16x8", ranges=table())
    steps = engine.manifest["steps"]
    assert [s["kernel"].split("(")[0] for s in steps if s["kind"].startswith("wide")] == ["conv_int16"] * 4
    assert not any(s["kernel"].startswith("naive") for s in steps)
    assert abs(top1(lenet()) - top1(engine)) <= 0.001
    reports = [e.accuracy_report(IMAGES[:20], batches=2) for e in (engine, made(precision="int8", ranges=table()))]
    assert reports[0].sqnr > reports[1].sqnr + 3 and {r.precision for r in reports[0].layers} == {"int16x8"}


def test_tables_take_the_place_of_samples(tmp_path: Any) -> None:
    table().save(tmp_path / "ranges.txt")
    table().save(tmp_path / "cache", tensorrt=True)
    own = made(precision="int8", calibration=tmp_path / "ranges.txt")
    np.testing.assert_array_equal(own(IMAGES[:1]), made(precision="int8", ranges=table())(IMAGES[:1]))
    assert np.argmax(made(precision="int8", ranges=tmp_path / "cache")(IMAGES[:1])) == LABELS[0]


def test_without_data_it_is_said_that_ranges_are_guesses() -> None:
    engine = made(precision="int8")
    assert any("no data" in note for note in engine.manifest["notes"])


def test_layers_by_name_stay_in_f32() -> None:
    engine = made(precision="int8", ranges=table(), layer_precision={"fc*": "fp32", "@first": "fp32"})
    assert engine.manifest["precision"]["layers"] == {"fp32": ["conv1", "fc1", "fc2"], "int8": ["conv2"]}
    whole = made(precision="fp32", ranges=table(), layer_precision={"conv2": "int8"})
    assert whole.manifest["precision"]["layers"] == {"fp32": ["conv1", "fc1", "fc2"], "int8": ["conv2"]}
    np.testing.assert_array_equal(engine(IMAGES[:1]), whole(IMAGES[:1]))


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_16_bit_floats(kind: str) -> None:
    """Asked for by name for every node, all layers compute in it, with fast kernels."""
    engine = made(precision=kind, layer_precision={"*": kind})
    assert engine.inputs[0].dtype.name == engine.outputs[0].dtype.name == "f32"
    assert engine.manifest["precision"]["layers"] == {kind: ["conv1", "conv2", "fc1", "fc2"]}
    assert not any("no fast kernel" in note for note in engine.manifest["notes"])
    assert engine.memory.weights < 0.6 * lenet().memory.weights
    same = [np.argmax(engine(x[None])) == np.argmax(lenet()(x[None])) for x in IMAGES[:50]]
    assert sum(same) >= 49


def estimated(made: Engine) -> int:
    return sum(step["estimated_ns"] for step in made.manifest["steps"])


@pytest.mark.parametrize("target", ["x86-64-v4+avx512bf16", "x86-64-v3", "aarch64"])
def test_16_bit_floats_are_not_slower_than_f32_by_estimates(target: str) -> None:
    plain = made(target=target)
    engine = made(precision="bf16", target=target)
    assert estimated(engine) <= estimated(plain)
    kinds = engine.manifest["precision"]["layers"]
    assert "bf16" in kinds or any("stay in fp32" in note for note in engine.manifest["notes"])
    if target.endswith("+avx512bf16"):
        assert "fc1" in kinds["bf16"]


def test_a_lift_that_accuracy_asks_for_is_of_the_bad_layer_alone() -> None:
    options: dict[str, Any] = {"precision": "int8", "calibrator": "minmax", "calibration": {"input": CALIBRATION, "labels": digits(0, 100)[1]}}
    bad, good = made(spoiled(), **options), made(spoiled(), max_drop=1.0, **options)
    assert top1(bad) < 0.9, "the planted layer has to spoil something"
    assert good.manifest["precision"]["layers"] == {"fp32": [BAD], "int8": ["conv1", "fc1", "fc2"]}
    assert any(f"{BAD} is lifted to fp32" in note for note in good.manifest["notes"])
    assert top1(lenet()) - top1(good) <= 0.01


def test_layers_whose_weights_f16_spoils_keep_them_on_a_gpu() -> None:
    """By the graph interpreter, without a compiler: as few layers as the limit asks for."""
    graph, gpu = portable(demo_data.lenet_path(), None, Trace()), detect("cuda:sm_90")
    given = [{graph.inputs[0].name: image[None]} for image in IMAGES[:4]]

    def lifted(limit: float) -> tuple[list[str], Trace]:
        trace = Trace()
        request = stage.Request("fp16", calibration=given, max_drop=limit, metric="error")
        result = stage.reduce_precision(graph, request, _no_compiler, _no_compiler, gpu, 0, None, trace)
        return result.facts["precision"]["layers"].get("fp16x2", []), trace

    none, trace = lifted(1.0)
    assert not none and "error" in trace.notes[0]
    plain = float(trace.notes[0].split("error ")[1].split()[0])
    some, trace = lifted(0.95 * plain)
    assert 0 < len(some) < len([*graph.nodes]) and any("is lifted to fp16x2" in note for note in trace.notes)


def test_what_f16_cannot_hold_is_lifted_to_fp32_on_a_gpu() -> None:
    """Squares overflow, which no exact weight helps: only they and what reads them are f32."""
    graph, rng = Graph("overflow"), np.random.default_rng(0)
    x = graph.add_input("x", Type(dt.f32, (1, 8)))
    weights = [graph.add_const(rng.standard_normal(shape).astype(np.float32), f"w{k}") for k, shape in enumerate(((8, 8), (8, 4)))]
    first = graph.add(MatMul(), [x, weights[0]], name="first", source=("first",)).output
    large = graph.add(make("mul"), [first, graph.add_const(np.full((1, 1), 400, np.float32))], name="large", source=("large",)).output
    square = graph.add(make("mul"), [large, large], name="square", source=("square",)).output
    root = graph.add(make("sqrt"), [square], name="root", source=("root",)).output
    small = graph.add(make("mul"), [root, graph.add_const(np.full((1, 1), 1e-3, np.float32))], name="small", source=("small",)).output
    graph.set_outputs([graph.add(MatMul(), [small, weights[1]], name="last", source=("last",)).output], ["y"])
    given = [{"x": rng.uniform(1, 2, (1, 8)).astype(np.float32)} for _ in range(3)]
    trace = Trace()
    request = stage.Request("fp16", calibration=given, max_drop=2e-3, metric="error")
    result = stage.reduce_precision(graph, request, _no_compiler, _no_compiler, detect("cuda:sm_90"), 0, None, trace)
    assert result.facts["precision"]["others"].items() >= {"square": "fp32", "root": "fp32"}.items()
    assert result.facts["precision"]["layers"].get("fp32", []) != ["first", "last"]
    assert "all in low precision: nan" in trace.notes[0] and any("square is lifted to fp32" in note for note in trace.notes)
    for sample in given:
        wanted, got = (interp.run(g, sample)["y"] for g in (graph, result.graph))
        assert np.linalg.norm(got - wanted) <= 2e-3 * np.linalg.norm(wanted)


def _no_compiler(graph: Graph) -> Engine:
    raise AssertionError("no engine is needed")


def test_equalization_undoes_what_was_planted() -> None:
    engine = made(spoiled(), precision="int8", calibrator="minmax", calibration=CALIBRATION, equalize=True)
    assert "equalized: 1 pairs of convolutions" in engine.manifest["notes"]
    assert top1(lenet()) - top1(engine) <= 0.01


def test_free_sizes() -> None:
    """One engine for every batch; calibrated and examined at several."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, *tiny_net.INPUT_SHAPE[1:])).astype(np.float32)
    options: dict[str, Any] = {"shapes": {"x": "1..8(2)x3x8x8"}}
    engine = made(tiny_net.model(batch="N"), precision="int8", calibration=[x[:2], x[2:5]], **options)
    whole = made(tiny_net.model(batch="N"), **options)
    for count in (1, 3, 6):
        wanted, got = whole(x[:count]), engine(x[:count])
        assert np.square(got - wanted).sum() < 1e-3 * np.square(wanted).sum()
    report = engine.accuracy_report([x[:2], x[2:5]], batches=2)
    assert report.exact and report.batches == 2 and {row.name for row in report.layers} == {"conv1", "conv2", "fc"}


def fake_timer(slow: set[str] = frozenset(), naive: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    """Takes 10 us for a layer in f32, 5 in int8, and 20 in int8 for those that are slow."""

    def timer(*_: Any) -> Any:
        def time(graph: Graph, names: dict[str, str]) -> Timing:
            integers = {n.name for n in graph.nodes if n.name in names.values() and n.has(1) and n.operand(1).const is None}
            each = {name: (20e-6 if name in slow else 5e-6) if name in integers else 10e-6 for name in set(names.values())}
            return Timing(sum(each.values()), each, frozenset(naive & integers), measured=True)

        return time

    return timer


def test_auto_takes_what_is_faster_and_accurate_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "timer", fake_timer(slow={"fc2"}, naive={"fc1"}))
    engine = made(spoiled(), precision="auto", calibration=CALIBRATION, calibrator="minmax")
    facts, notes = engine.manifest["precision"], engine.manifest["notes"]
    assert facts["layers"] == {INT8: ["conv1"], "fp32": ["conv2", "fc1", "fc2"]}
    assert any(f"fc2 stays in fp32: {INT8} takes 20.0 us, fp32 10.0 us" in n for n in notes)
    assert any(f"fc1 stays in fp32: no fast {INT8} kernel" in n for n in notes)
    assert any(f"{BAD} is lifted to fp32" in n for n in notes)
    assert top1(lenet()) - top1(engine) <= 0.01


def typed_timer(int8: float, bf16: float, mixed: float = 0) -> Any:
    """Takes 10 us for a layer in f32, as many as given in the other types, and more for a network of both."""

    def timer(*_: Any) -> Any:
        def time(graph: Graph, names: dict[str, str]) -> Timing:
            each, kinds = {}, set()
            for node in graph.nodes:
                if node.name in ("conv1", "conv2", "fc1", "fc2"):
                    weight = node.operand(1)
                    kind = int8 if weight.const is None else bf16 if weight.dtype is dt.bf16 else 10
                    each[node.name] = 1e-6 * kind
                    kinds.add(kind)
            return Timing(sum(each.values()) + 1e-6 * mixed * ({int8, bf16} <= kinds), each, measured=True)

        return time

    return timer


def test_auto_takes_bf16_where_that_is_faster_than_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "timer", typed_timer(int8=8, bf16=5))
    engine = made(precision="auto", calibration=CALIBRATION)
    assert engine.manifest["precision"]["layers"] == {"bf16": ["conv1", "conv2", "fc1", "fc2"]}
    assert any("auto: 4 of 4 layers in bf16: 20.0 us instead of 40.0 us" in n for n in engine.manifest["notes"])


def test_auto_takes_bf16_when_accuracy_costs_int8_its_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "timer", typed_timer(int8=5, bf16=6, mixed=4))
    good, bad = (made(model, precision="auto", calibration=CALIBRATION, calibrator="minmax") for model in (None, spoiled()))
    assert good.manifest["precision"]["layers"] == {INT8: ["conv1", "conv2", "fc1", "fc2"]}
    assert bad.manifest["precision"]["layers"] == {"bf16": ["conv1", BAD, "fc1", "fc2"]}
    assert top1(lenet()) - top1(bad) <= 0.01


def test_auto_takes_both_where_that_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What accuracy lifts out of int8 is in bf16."""
    monkeypatch.setattr(stage, "timer", typed_timer(int8=5, bf16=6))
    engine = made(spoiled(), precision="auto", calibration=CALIBRATION, calibrator="minmax")
    assert engine.manifest["precision"]["layers"] == {INT8: ["conv1", "fc1", "fc2"], "bf16": [BAD]}
    assert any("auto: 1 of the lifted layers in bf16: 21.0 us instead of 25.0 us" in n for n in engine.manifest["notes"])
    assert top1(lenet()) - top1(engine) <= 0.01


def test_auto_lifts_to_fp32_where_bf16_is_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "timer", typed_timer(int8=5, bf16=10))
    engine = made(spoiled(), precision="auto", calibration=CALIBRATION, calibrator="minmax")
    assert engine.manifest["precision"]["layers"] == {INT8: ["conv1", "fc1", "fc2"], "fp32": [BAD]}


def test_auto_refuses_a_network_that_gets_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {"conv1", "conv2", "fc1", "fc2"}
    monkeypatch.setattr(stage, "timer", fake_timer(slow=everything))
    engine = made(precision="auto", calibration=CALIBRATION)
    assert engine.manifest["precision"]["layers"] == {"fp32": ["conv1", "conv2", "fc1", "fc2"]}
    assert any("all 4 layers stay in fp32" in note for note in engine.manifest["notes"])
    np.testing.assert_array_equal(engine(IMAGES[:1]), lenet()(IMAGES[:1]))


def test_auto_repairs_what_one_planted_layer_spoils(monkeypatch: pytest.MonkeyPatch) -> None:
    """The X-ray blames it first, and it alone is lifted."""
    options: dict[str, Any] = {"calibrator": "minmax", "calibration": {"input": CALIBRATION, "labels": digits(0, 100)[1]}}
    bad = made(spoiled(), precision="int8", **options)
    report = bad.accuracy_report(CALIBRATION, batches=4)
    assert report.layers[0].name == BAD and report.layers[0].blame > 0.9
    monkeypatch.setattr(stage, "timer", fake_timer())
    engine = made(spoiled(), precision="auto", max_drop=0.5, **options)
    assert engine.manifest["precision"]["layers"] == {INT8: ["conv1", "fc1", "fc2"], "fp32": [BAD]}
    assert top1(bad) < 0.9 and top1(lenet()) - top1(engine) <= 0.01


@pytest.mark.parametrize(("share", "kept"), [(0.6, 4), (0.99, 0), (1.3, 0)])
def test_auto_above_level_0_lets_both_networks_run(monkeypatch: pytest.MonkeyPatch, share: float, kept: int) -> None:
    """What single steps take does not decide alone: the whole is lifted when it is not faster."""
    raced = []

    def ratio(engine: Engine, other: Engine, inputs: Any = None) -> float:
        raced.append([e.manifest["level"] for e in (engine, other)])
        assert any(s["kind"] == "integer_conv" for s in engine.manifest["steps"]) and inputs is not None
        assert not any(s["kind"] == "integer_conv" for s in other.manifest["steps"])
        return share

    monkeypatch.setattr(stage, "timer", fake_timer())
    monkeypatch.setattr(race, "ratio", ratio)
    engine = build(demo_data.lenet_path(), level=1, budget=0, threads=1, precision="auto", calibration=CALIBRATION)
    layers = engine.manifest["precision"]["layers"]
    assert raced == [[1, 1]] and len(layers.get(INT8, [])) == kept and len(layers.get("fp32", [])) == 4 - kept
    assert any(f"{100 * share:.1f} % of its time in fp32" in note for note in engine.manifest["notes"])


def test_auto_that_gains_nothing_is_the_network_as_fp32_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where products were split off a recurrent layer to be reduced: they are raced against the whole layer, and give way to it."""
    rng = np.random.default_rng(0)
    graph = Graph("recurrent")
    x = graph.add_input("x", Type(dt.f32, (6, 1, 16)))
    weights = [graph.add_const(rng.standard_normal((1, 64, 16)).astype(np.float32), name) for name in "wr"]
    graph.set_outputs([graph.add(LSTM.default(), [x, *weights], name="layer", source=("layer",)).outputs[0]], ["y"])
    data = [rng.standard_normal((6, 1, 16)).astype(np.float32) for _ in range(4)]
    options: dict[str, Any] = {"level": 1, "budget": 0, "threads": 1}
    plain = build(graph, **options)

    def steps(engine: Engine) -> list[tuple[str, str]]:
        return [(s["name"], s["kernel"]) for s in engine.manifest["steps"]]

    def ratio(engine: Engine, other: Engine, inputs: Any = None) -> float:
        assert steps(other) == steps(plain) != steps(engine)
        return 0.99

    def timer(*_: Any) -> Any:
        return lambda tried, names: Timing(5e-6 if any(isinstance(n.op, Quantize) for n in tried.nodes) else 10e-6, measured=True)

    monkeypatch.setattr(stage, "timer", timer)
    monkeypatch.setattr(race, "ratio", ratio)
    engine = build(graph, precision="auto", calibration=data, **options)
    assert set(engine.manifest["precision"]["layers"]) == {"fp32"} and steps(engine) == steps(plain)
    np.testing.assert_array_equal(engine(data[0]), plain(data[0]))


def test_times_and_estimates_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of which one form was measured and the other was not is judged by estimates."""

    def timer(*_: Any) -> Any:
        def time(graph: Graph, names: dict[str, str]) -> Timing:
            integers = {n.name for n in graph.nodes if n.name in names.values() and len(n.inputs) > 1 and n.operand(1).const is None}
            all_names = set(names.values())
            seconds = {name: 5e-6 if name in integers else 10e-6 for name in all_names}
            guessed = {name: 3e-6 if name in integers and name != "fc1" else 2e-6 for name in all_names}
            return Timing(sum(seconds.values()), seconds, frozenset(), True, guessed, frozenset({"conv1", "fc1"} - integers))

        return time

    monkeypatch.setattr(stage, "timer", timer)
    engine = made(precision="auto", calibration=CALIBRATION)
    assert engine.manifest["precision"]["layers"]["fp32"] == ["conv1", "fc1"]
    assert any(f"conv1 stays in fp32: {INT8} takes 3.0 us, fp32 2.0 us (estimated)" in n for n in engine.manifest["notes"])


@pytest.mark.slow
def test_auto_with_measured_times_is_not_slower() -> None:
    options: dict[str, Any] = {"level": 2, "threads": 1}
    engine = build(demo_data.lenet_path(), precision="auto", calibration=CALIBRATION, **options)
    assert race.ratio(engine, build(demo_data.lenet_path(), **options)) < 1.05
    assert any("measured" in note for note in engine.manifest["notes"])


def test_auto_by_estimates_is_not_slower_than_fp32() -> None:
    engine = made(precision="auto", calibration=CALIBRATION)

    assert estimated(engine) <= estimated(lenet())


def test_fp32_calibrates_nothing() -> None:
    def never() -> Any:
        raise AssertionError("calibration data were read")

    assert "precision" not in made(precision="fp32", calibration=never).manifest


def test_a_loaded_engine_says_that_it_has_no_f32_weights(tmp_path: Any) -> None:
    made(precision="int8", ranges=table()).save(tmp_path / "net.strop")
    for engine in (load(tmp_path / "net.strop"), lenet()):
        with pytest.raises(OptionError, match="nothing to compare"):
            engine.accuracy_report(CALIBRATION)


def test_int8_text_comes_back() -> None:
    graph = _graph()
    assert sum(isinstance(n.op, Quantize) for n in graph.nodes) == 7
    assert show(parse(show(graph), by_digest(graph))) == show(graph)
