"""``int8x7``: weights of 7 bits, of which two products with activations of 8 bits fit 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

import strop
from strop import demo_data
from strop.engine.describe import describe
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul
from strop.quantize.grid import quantized_weights, weight_scales
from strop.target.detect import host, parse, runs_here
from strop.target.isa.table import multiplies_pairs
from tests.engine.planted import digits

DIGITS = [{"input": image[None]} for image in digits(0, 60)[0]]


def test_weights_end_at_64() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 300)).astype(np.float32)
    scales = weight_scales(weights, 0, greatest=64)
    assert np.abs(quantized_weights(weights, scales, 0)).max(axis=1).tolist() == [64] * 5
    np.testing.assert_allclose(scales, np.abs(weights).max(axis=1) / 64, rtol=1e-6)


def test_an_engine_agrees_and_keeps_the_classes() -> None:
    engine = strop.build(demo_data.lenet_path(), level=0, precision="int8x7", calibration=DIGITS[:20])
    assert engine.manifest["precision"]["layers"]["int8x7"], "no layer is in it"
    floats = strop.build(demo_data.lenet_path(), level=0)
    named = [int(np.argmax(engine(s["input"]))) == int(np.argmax(floats(s["input"]))) for s in DIGITS[20:]]
    assert sum(named) >= 39


@pytest.mark.skipif(not runs_here(parse("x86-64-v3")), reason="this machine has no AVX2")
def test_avx2_multiplies_bytes_and_gives_what_other_code_gives() -> None:
    built = {
        name: strop.build(demo_data.lenet_path(), level=0, threads=1, target=name, precision="int8x7", calibration=DIGITS[:20])
        for name in ("x86-64-v3", "x86-64", "host")
    }
    kernels = [step.kernel.split("(")[0] for step in describe(built["x86-64-v3"]).steps]
    assert "conv_int8_small" in kernels, kernels
    for sample in DIGITS[20:30]:
        wanted = built["x86-64"].run(sample)["logits"]
        for name in ("x86-64-v3", "host"):
            assert np.array_equal(built[name].run(sample)["logits"], wanted), name


def test_layers_of_8_and_of_7_bits_stand_in_one_network() -> None:
    options = {"level": 0, "precision": "int8", "layer_precision": {"@first": "int8x7"}, "calibration": DIGITS[:20]}
    found = strop.build(demo_data.lenet_path(), **options).manifest["precision"]["layers"]
    assert len(found["int8x7"]) == 1 and found["int8"]


def test_auto_starts_from_it_where_bytes_are_multiplied_in_pairs() -> None:
    engine = strop.build(demo_data.lenet_path(), level=0, precision="auto", calibration=DIGITS[:20], max_drop=5.0)
    reduced = set(engine.manifest["precision"]["layers"]) & {"int8", "int8x7"}
    assert reduced <= {"int8x7" if multiplies_pairs(host()) else "int8"}


@pytest.mark.parametrize("precision", ["int8", "int8x7"])
def test_products_whose_code_differs_in_a_remark_alone(precision: str) -> None:
    """46 and 47 products are 12 quads and 24 pairs: the same function, of which a library has one."""
    rng = np.random.default_rng(2)
    graph = Graph("two")
    feeds = {}
    for k in (45, 46, 47):
        x = graph.add_input(f"x{k}", Type(dt.f32, (1, k)))
        feeds[x.name] = rng.standard_normal((1, k)).astype(np.float32)
        product = graph.add(MatMul(), [x, graph.add_const(rng.standard_normal((k, 64)).astype(np.float32))])
        graph.outputs.append(graph.add(make("relu"), [product.output]).output)
        graph.output_names.append(f"y{k}")
    engine = strop.build(graph, level=0, threads=1, precision=precision, calibration=[feeds] * 3)
    for got, want in zip(engine.run(feeds).values(), interp.run(graph, feeds).values(), strict=True):
        assert np.abs(got - want).max() <= 0.05 * np.abs(want).max()
