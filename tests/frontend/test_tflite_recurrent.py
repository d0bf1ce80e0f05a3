"""Recurrent layers of TFLite against numpy, over several runs: the state lasts, and is reset."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.errors import ModelError, UnsupportedError
from strop.frontend.table import read
from strop.frontend.tflite.importer import NEXT
from strop.frontend.tflite.reader import initial_state
from strop.ir.interp import run
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests.frontend.tflite_models import Array, Maker
from tests.frontend.tflite_recurrent import (
    BATCH,
    H_ZERO,
    INTEGER_LAYERS,
    LAYERS,
    RNG,
    SIZE,
    STEPS,
    Layer,
    weights,
)


def given(layer: Layer) -> tuple[Array, Array]:
    """An input as the file takes it, and as [B, S, I]."""
    x = RNG.standard_normal((BATCH, 1 if layer.single else STEPS, SIZE)).astype(np.float32)
    return x[:, 0] if layer.single else x.transpose(1, 0, 2) if layer.time_major else x, x


def wanted(layer: Layer, x: Array) -> list[Array]:
    found = layer.run(x)
    if layer.values.get("MergeOutputs"):
        found = [np.concatenate(found, 2)]
    return [y[:, 0] if layer.single else y.transpose(1, 0, 2) if layer.time_major else y for y in found]


@pytest.mark.parametrize("name", LAYERS)
def test_agrees_with_the_formulas(name: str) -> None:
    layer = LAYERS[name]()
    graph = read(layer.file())
    verify(graph, "imported")
    state = initial_state(layer.file())
    assert state and not any(array.any() for array in state.values())
    for _ in range(3):
        x, plain = given(layer)
        found = run(graph, {"x": np.ascontiguousarray(x), **state})
        for k, y in enumerate(wanted(layer, plain)):
            np.testing.assert_allclose(found[f"y{k}"], y, 1e-5, 1e-5)
        state = {key: found[key + NEXT] for key in state}


@pytest.mark.parametrize("name", INTEGER_LAYERS)
def test_integers_agree_with_integers(name: str) -> None:
    """Within 1 of the last place, where floats and integers round ties apart; the states begin as what stands for zero."""
    layer = INTEGER_LAYERS[name]()
    graph = read(layer.file())
    verify(graph, "imported")
    optimized = optimize(graph, Trace())
    state = initial_state(layer.file())
    assert (state["h"] == H_ZERO).all() and not state["c"].any() and state["c"].dtype == np.int16
    seen = set()
    for _ in range(3):
        x = RNG.integers(-128, 128, (BATCH, 1 if layer.single else STEPS, SIZE)).astype(np.int8)
        turned = np.ascontiguousarray(x[:, 0] if layer.single else x.transpose(1, 0, 2) if layer.time_major else x)
        found = run(optimized, {"x": turned, **state})
        (y,) = wanted(layer, x)
        assert found["y0"].dtype == np.int8 and np.abs(found["y0"].astype(int) - y).max() <= 1
        assert np.abs(found["c" + NEXT].astype(int) - layer.c).max() <= 4
        seen |= set(y.reshape(-1).tolist())
        layer.h, layer.c = found["h" + NEXT].astype(np.int64), found["c" + NEXT].astype(np.float64)
        state = {key: found[key + NEXT] for key in state}
    assert len(seen) > 15


def test_an_engine_runs_an_lstm_of_integers() -> None:
    layer = INTEGER_LAYERS["lstm"]()
    state = initial_state(layer.file())
    x = RNG.integers(-128, 128, (BATCH, STEPS, SIZE)).astype(np.int8)
    found = strop.build(layer.file(), level=0, threads=1).run({"x": x, **state})
    assert np.abs(found["y0"].astype(int) - layer.run(x)[0]).max() <= 1


def test_integers_that_are_not_read_are_refused_by_name() -> None:
    layer = INTEGER_LAYERS["lstm"]()
    layer.main.tensors[layer.main.operators[0][1][1]]["scale"] = None
    with pytest.raises(UnsupportedError, match="weights of this kind are not supported beside integers"):
        read(layer.file())
    layer = INTEGER_LAYERS["lstm"]()
    layer.main.tensors[layer.main.outputs[0]]["scale"] = None
    with pytest.raises(ModelError, match="the result is not stored as the state is"):
        read(layer.file())
    layer = INTEGER_LAYERS["lstm"]()
    layer.main.tensors[layer.main.operators[0][1][19]]["zero"] = 2
    with pytest.raises(ModelError, match="the cell has a zero point"):
        read(layer.file())


def test_what_is_not_read_is_refused_by_name() -> None:
    layer = Layer("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions", FusedActivationFunction=4)
    gates = [weights(5, 4)] * 4 + [weights(5, 5)] * 4 + [None] * 3 + [weights(5)] * 4
    layer.finish([*gates, weights(5, 5), None, (2, 5), (2, 5), *([None] * 4)], [(2, 3, 5)])
    with pytest.raises(UnsupportedError, match="a projection of the state is not supported"):
        read(layer.file())
    layer = Layer("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions", FusedActivationFunction=4)
    layer.finish([*gates, None, None, (2, 5), (2, 5), *([weights(5)] * 4)], [(2, 3, 5)])
    with pytest.raises(UnsupportedError, match="layer normalization of gates is not supported"):
        read(layer.file())
    maker = Maker()
    x, y = maker.main.input("x", (2, 4), "INT8", scale=0.1), maker.main.tensor("y", (2, 6), "INT8", scale=0.1)
    state = maker.main.tensor("s", (2, 24), "INT16", scale=0.1, variable=True)
    maker.main.op("SVDF", [x, maker.main.const(np.ones((6, 4), np.int8), scale=0.1), maker.main.const(np.ones((6, 4), np.int16), scale=0.1), -1, state], [y], "SVDFOptions", Rank=1)
    maker.main.outputs = [y]
    with pytest.raises(UnsupportedError, match="quantized recurrent layers are not supported"):
        read(maker.bytes())
