"""Metrics against numbers that are known beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from strop.engine.bench import wilson
from strop.engine.evaluate import Score, evaluate, usual_metric
from strop.errors import InputError, OptionError
from strop.ir import dtype as dt
from strop.ir.graph import Graph
from strop.ir.op import Type
from strop.quantize.data import Samples, samples

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 8)).astype(np.float32)
LABELS = X.argmax(axis=1)


def given(labels: Any = LABELS, batch: int = 4) -> Samples:
    port = Graph().add_input("x", Type(dt.f32, (batch, 8)))
    source = {"x": X} if labels is None else {"x": X, "labels": labels}
    return samples(source, [port])


def same(inputs: Any) -> dict[str, np.ndarray]:
    return {"y": inputs["x"]}


def shifted(inputs: Any) -> dict[str, np.ndarray]:
    return {"y": inputs["x"] + np.float32(0.5)}


def reversed_scores(inputs: Any) -> dict[str, np.ndarray]:
    return {"y": -inputs["x"]}


def test_top1_and_top5() -> None:
    wrong = LABELS.copy()
    wrong[:10] = (wrong[:10] + 1) % 8
    (one, five) = evaluate(same, given(wrong), ["top1", "top5"])
    assert (one.right, one.samples, one.value) == (30, 40, 0.75) and (one.low, one.high) == wilson(30, 40)
    ranks = [int((X[i] > X[i, wrong[i]]).sum()) for i in range(40)]
    assert five.right == sum(r < 5 for r in ranks)
    assert "75.00 % (30 of 40), 95 % Wilson interval" in str(one)
    assert evaluate(reversed_scores, given(), ["top1"])[0].right == 0


def test_against_a_reference() -> None:
    agreement, mse, psnr, sqnr = evaluate(shifted, given(None), ["agreement", "mse", "psnr", "sqnr"], same)
    assert agreement.right == 40
    assert mse.value == pytest.approx(0.25, rel=1e-5) and not mse.higher and mse.samples == 40
    assert psnr.value == pytest.approx(10 * math.log10(float(np.ptp(X)) ** 2 / 0.25), abs=1e-4)
    assert sqnr.value == pytest.approx(10 * math.log10(float((X.astype(float) ** 2).mean()) / 0.25), abs=1e-4)
    assert evaluate(same, given(None), ["psnr"], same)[0].value == math.inf


def test_error_is_the_norm_of_the_difference_over_that_of_the_reference() -> None:
    found, none = (evaluate(run, given(None), ["error"], same)[0] for run in (shifted, same))
    assert found.value == pytest.approx(0.5 * np.sqrt(X.size) / np.linalg.norm(X), rel=1e-4) and not found.higher and none.value == 0.0
    two = lambda change: lambda inputs: {name: inputs["x"] * np.float32(s) + np.float32(change) for name, s in (("large", 100), ("small", 1))}  # noqa: E731
    worst = evaluate(two(0.5), given(None), ["error"], two(0.0))[0]
    assert worst.value == pytest.approx(found.value, rel=1e-4)
    lost = evaluate(two(math.nan), given(None), ["error"], two(0.0))[0]
    assert math.isnan(lost.value) and none.drop(lost) == math.inf


def test_closeness_is_of_the_worst_output_in_points_of_its_span() -> None:
    scale = {"near": 100.0, "far": 1.0}
    two = lambda change: lambda inputs: {name: inputs["x"] * np.float32(s) + np.float32(change) for name, s in scale.items()}  # noqa: E731
    found = evaluate(two(0.5), given(None), ["closeness"], two(0.0))[0]
    assert found.value == pytest.approx(100 - 50 / float(np.ptp(X)), rel=1e-5) and found.higher and found.samples == 40
    assert evaluate(same, given(None), ["closeness"], same)[0].drop(found) == pytest.approx(50 / float(np.ptp(X)), rel=1e-4)
    constant = lambda value: lambda inputs: {"y": np.full((4, 1), value, np.float32)}  # noqa: E731
    assert evaluate(constant(1.5), given(None), ["closeness"], constant(2.0))[0].value == pytest.approx(75.0)
    assert evaluate(constant(1.5), given(None), ["closeness"], constant(0.0))[0].value == -math.inf


def test_the_usual_metric_can_tell_a_drop() -> None:
    assert usual_metric(given(), same) == "top1" and usual_metric(given(None), same) == "agreement"
    assert usual_metric(given(None), lambda inputs: {"y": inputs["x"][:, :1]}) == "closeness", "one score names no class"


def test_one_row_per_run() -> None:
    (score,) = evaluate(same, given(batch=1), ["top1"])
    assert score.right == 40


def test_a_plug_in_is_averaged_over_samples() -> None:
    def positive(outputs: Any, labels: Any, reference: Any) -> Any:
        assert labels is not None and reference is None
        return (outputs["y"] > 0).mean(axis=1)

    (score,) = evaluate(same, given(), [positive])
    assert score == Score("positive", pytest.approx(float((X > 0).mean())), 40)


def test_drops() -> None:
    def share(right: int) -> Score:
        return Score("top1", right / 100, 100, right, 0.0, 1.0)

    assert share(90).drop(share(88)) == pytest.approx(2.0)
    assert Score("mse", 1.0, 1, higher=False).drop(Score("mse", 1.5, 1, higher=False)) == 0.5
    assert Score("psnr", 40.0, 1).drop(Score("psnr", 30.0, 1)) == 10.0


def test_what_is_refused() -> None:
    for metric, kind in (("top2", OptionError), ("agreement", OptionError), ("top1", InputError)):
        with pytest.raises(kind) as error:
            evaluate(same, given(None), [metric])
        assert error.value.expected
    with pytest.raises(InputError, match="labels"):
        evaluate(lambda inputs: {"y": inputs["x"][:2]}, given(), ["top1"])
