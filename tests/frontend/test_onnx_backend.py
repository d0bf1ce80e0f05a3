"""The backend tests that come with onnx: each is read and run, or refused by name; docs/onnx-coverage.md says which."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest

import strop
from strop.errors import UnsupportedError
from tests import golden
from tests.frontend.backend_cases import (
    CONTRADICTED,
    Case,
    Outcome,
    check_all,
    file_cases,
    merged,
    node_cases,
    oracle_outcome,
    out_of_scope,
    problems,
)

#: Cases per compilation when all of them are built.
BATCH = 150
#: Of the cases that are built in the quick tests, every so many.
EVERY = 9


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(node_cases())


@pytest.fixture(scope="module")
def outcomes(cases: list[Case]) -> dict[str, Outcome]:
    return {case.name: oracle_outcome(case) for case in cases}


def test_every_node_case_passes_or_is_refused_by_name(outcomes: dict[str, Outcome]) -> None:
    wrong = [o for o in outcomes.values() if o.verdict == "wrong" and o.case not in CONTRADICTED]
    assert not wrong, "\n".join(f"{o.case}: {o.reason}" for o in wrong)
    assert all(o.reason for o in outcomes.values() if o.verdict == "refused")


def test_nearly_all_cases_in_scope_pass(cases: list[Case], outcomes: dict[str, Outcome]) -> None:
    counted = [outcomes[c.name] for c in cases if out_of_scope(c) is None]
    passed = sum(o.verdict == "passed" for o in counted)
    assert len(counted) > 1000
    assert passed >= 0.95 * len(counted), f"{passed} of {len(counted)}"


@pytest.mark.parametrize(
    ("kind", "least"), [("simple", 10), ("pytorch-operator", 35), ("pytorch-converted", 82)]
)
def test_stored_cases(kind: str, least: int) -> None:
    found = [oracle_outcome(case) for case in file_cases(kind)]
    wrong = [o for o in found if o.verdict == "wrong"]
    assert not wrong, "\n".join(f"{o.case}: {o.reason}" for o in wrong)
    assert sum(o.verdict == "passed" for o in found) >= least


# ---- engines


def build_and_check(chosen: Sequence[Case]) -> None:
    """Builds one engine of all cases and compares what it gives for each."""
    found = {
        f"{case.name}/{number}": (case, problem)
        for case in chosen
        for number, problem in enumerate(problems(case))
    }
    graph, feeds, outputs = merged({key: problem for key, (_, problem) in found.items()})
    got = strop.build(graph, level=0, threads=1).run(feeds)
    wrong = []
    for key, (case, problem) in found.items():
        try:
            check_all([got[name] for name in outputs[key]], problem, case.rtol, case.atol)
        except AssertionError as error:
            wrong.append(f"{key}: {error}")
    assert not wrong, "\n".join(wrong)


def buildable(cases: Sequence[Case], outcomes: dict[str, Outcome]) -> list[Case]:
    """Cases that pass and leave something to do at run time."""
    return [
        c for c in cases if outcomes[c.name].verdict == "passed" and len(outcomes[c.name].fixed) < len(c.model.graph.input)
    ]


def test_some_cases_as_engines(cases: list[Case], outcomes: dict[str, Outcome]) -> None:
    build_and_check(buildable(cases, outcomes)[::EVERY])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_cases_as_engines(cases: list[Case], outcomes: dict[str, Outcome]) -> None:
    every = buildable(cases, outcomes)
    for start in range(0, len(every), BATCH):
        build_and_check(every[start : start + BATCH])


# ---- docs/onnx-coverage.md


def page(cases: Sequence[Case], outcomes: dict[str, Outcome]) -> str:
    """The text of docs/onnx-coverage.md."""
    scope = {c.name: out_of_scope(c) for c in cases}
    inside = [outcomes[c.name] for c in cases if scope[c.name] is None]
    outside = [outcomes[c.name] for c in cases if scope[c.name] is not None]
    passed = [o for o in inside if o.verdict == "passed"]
    refused = [o for o in inside if o.verdict == "refused"]
    fixed = [o for o in passed if o.fixed]
    sizes = {c.name: len(c.model.graph.input) for c in cases}
    folded = sum(len(o.fixed) == sizes[o.case] for o in fixed)
    rows = [
        ("in scope", len(inside)),
        ("passed", len(passed)),
        ("of these, with some operands made constant", len(fixed) - folded),
        ("of these, with all operands made constant", folded),
        ("refused by name", len(refused)),
        ("contradicting the standard's text", len(inside) - len(passed) - len(refused)),
        ("out of scope", len(outside)),
    ]
    lines = [
        "# ONNX coverage",
        "",
        f"What becomes of the {len(cases)} node tests of onnx {onnx.__version__}: each is read, optimized and run by the oracle, and",
        "its results are compared with those that onnx expects. `pytest --slow tests/frontend/test_onnx_backend.py` also builds and runs",
        "engines of them. This page is written by `pytest tests/frontend/test_onnx_backend.py --update-golden`.",
        "",
        "In scope are inference ops of the default domain from opset 7 on whose values have an element type that engines know.",
        "",
        "| node tests | cases |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in rows),
        "",
        f"{100 * len(passed) / len(inside):.1f} % of the cases in scope pass.",
    ]
    lines += _section("Refused", refused, lambda o: o.reason)
    lines += _section(
        "Contradicting the standard's text",
        [o for o in inside if o.verdict == "wrong"],
        lambda o: CONTRADICTED.get(o.case, o.reason),
    )
    lines += _section(
        "Passed with operands made constant",
        fixed,
        lambda o: f"constant: {', '.join(o.fixed)}",
        "What these operands hold decides over shapes, so it must be known when a model is read. The tests give them as inputs of\n"
        "the model; here they are initializers, as exporters write them.",
    )
    lines += _section("Out of scope", outside, lambda o: scope[o.case] or "")
    return "\n".join(lines) + "\n"


def _section(
    title: str, found: Sequence[Outcome], why: Callable[[Outcome], str], text: str = ""
) -> list[str]:
    """Names of cases by reason, the most frequent reason first."""
    if not found:
        return []
    by_reason: dict[str, list[str]] = defaultdict(list)
    for outcome in found:
        by_reason[why(outcome)].append(outcome.case)
    lines = ["", f"## {title}", *(["", text] if text else [])]
    for reason, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        listed = ", ".join(name.removeprefix("test_") for name in sorted(names))
        lines += ["", f"**{reason}** ({len(names)}): {listed}"]
    return lines


def test_the_page_is_current(
    cases: list[Case], outcomes: dict[str, Outcome], request: pytest.FixtureRequest
) -> None:
    name = "../../docs/onnx-coverage.md"
    path = golden.ROOT / name
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    update = request.config.getoption("--update-golden")
    if written and not update and f"onnx {onnx.__version__}:" not in written:
        pytest.skip("the page is about another version of onnx")
    golden.check(name, page(cases, outcomes), request.config)


# ---- the harness itself


def test_a_wrong_result_is_found() -> None:
    case = next(c for c in node_cases() if c.name == "test_add")
    inputs, outputs = case.sets[0]
    changed = [np.asarray(o) + 1 for o in outputs]
    bad = Case(case.name, case.model, [(inputs, changed)], case.rtol, case.atol)
    assert oracle_outcome(bad).verdict == "wrong"


def test_scopes_are_told_apart(cases: list[Case]) -> None:
    kinds = Counter(out_of_scope(c) for c in cases)
    assert kinds[None] > 1000
    assert kinds["training"] and kinds["element type STRING"] and kinds["opsets before 7"]


def test_a_refusal_names_what_is_missing(cases: list[Case]) -> None:
    case = next(c for c in cases if c.name == "test_equal_string")
    with pytest.raises(UnsupportedError, match="STRING"):
        list(problems(case))
