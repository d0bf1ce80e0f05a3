"""The order of passes, and what the driver does around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strop.errors import VerifyError
from strop.ir import text
from strop.ir.verify import verify
from strop.ops.conv import Conv
from strop.ops.data import Identity, Pad
from strop.ops.norm import BatchNorm
from strop.optimize import pipeline
from strop.optimize.pipeline import PASSES, optimize
from strop.trace import Trace
from tests import golden
from tests.optimize.harness import Case, labels

FOLDER = Path(pipeline.__file__).parent
HELPERS = {"__init__", "base", "mincut", "pipeline", "turned", "weights"}


def small() -> Case:
    """Padding, a convolution, its normalization, a spelled activation, a duplicate, dead code."""
    b = Case(1, 3, 4, 4)
    y = b.add(Pad((0, 0, 1, 1, 0, 0, 1, 1)), b.x)
    w = b.const(np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3))
    y = b.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), y, w)
    params = [b.const(np.arange(4, dtype=np.float32) + k) for k in range(1, 5)]
    y = b.add(BatchNorm(1e-5), y, *params)
    y = b.fn("mul", y, b.fn("sigmoid", y))
    b.fn("sin", y)
    y = b.fn("add", b.add(Identity(), b.fn("relu", y)), b.fn("relu", y))
    b.graph.set_outputs([y], ["result"])
    return b


def test_every_pass_file_is_in_the_list_and_documented() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - HELPERS
    assert {module.NAME for module in PASSES} == files
    for module in PASSES:
        assert module.__name__.endswith("." + module.NAME)
        doc = module.__doc__ or ""
        assert "Before" in doc and "After" in doc.replace("-> After", "After"), module.NAME
        assert "Unless" in doc, module.NAME
        assert (Path(__file__).parent / f"test_{module.NAME}.py").exists()


def test_the_portable_form(request: pytest.FixtureRequest) -> None:
    b = small()
    graph = optimize(b.graph, Trace())
    verify(graph, "portable")
    assert labels(graph) == ["conv", "silu", "relu", "mul"]
    golden.check("ir/portable.ir", text.show(graph), request.config)


def test_the_imported_graph_is_not_changed() -> None:
    b = small()
    before = text.show(b.graph)
    optimize(b.graph, Trace())
    assert text.show(b.graph) == before


def test_every_pass_is_dumped_in_order(tmp_path: Path) -> None:
    b = small()
    result = optimize(b.graph, Trace(dump_dir=tmp_path))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{k:02d}_optimize.{m.NAME}.ir" for k, m in enumerate(PASSES)]
    last = (tmp_path / names[-1]).read_text()
    assert text.show(text.parse(last, text.by_digest(result))) == text.show(result)


def test_progress_is_reported() -> None:
    seen: list[tuple[str, int, int]] = []
    optimize(small().graph, Trace(progress=lambda *args: seen.append(args)))
    assert seen[0] == ("optimize", 0, len(PASSES))
    assert seen[-1] == ("optimize", len(PASSES), len(PASSES))


def test_a_broken_input_is_refused() -> None:
    b = small()
    b.graph.nodes.reverse()
    with pytest.raises(VerifyError, match="topological order"):
        optimize(b.graph, Trace())


def test_a_pass_that_breaks_the_graph_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bad:
        NAME = "bad"

        @staticmethod
        def run(graph: object, trace: object, options: object) -> None:
            graph.nodes.pop(0)  # type: ignore[attr-defined]

    monkeypatch.setattr(pipeline, "PASSES", (*PASSES[:3], Bad))
    with pytest.raises(VerifyError):
        optimize(small().graph, Trace())


def test_fuel_leaves_the_portable_form_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_PATCHES", "0")
    b = small()
    trace = Trace()
    assert labels(optimize(b.graph, trace)) == labels(b.graph)
    assert not trace.patches


@pytest.mark.parametrize(("knob", "left"), [("0", ["neg"]), ("1", ["neg", "add"])])
def test_strictness_is_a_knob(monkeypatch: pytest.MonkeyPatch, knob: str, left: list[str]) -> None:
    monkeypatch.setenv("STROP_STRICT_NANS", knob)
    b = Case(3)
    b.graph.set_outputs([b.fn("add", b.fn("neg", b.x), 0.0)])
    assert labels(optimize(b.graph, Trace())) == left
