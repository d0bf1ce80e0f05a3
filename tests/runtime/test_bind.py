"""Calls on arrays that were bound once."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.errors import InputError, RuntimeFailure
from strop.runtime.context import Context
from strop.runtime.session import Session
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux

Arrays = dict[str, np.ndarray]


def expecting(nanoseconds: object) -> bytes:
    """A manifest that says so of every step."""
    return json.dumps({"steps": [{"estimated_ns": nanoseconds} for _ in syn.arithmetic_plan().steps]}).encode()


@pytest.fixture(params=["keeps the interpreter lock", "releases it"])
def context(tmp_path: Path, request: pytest.FixtureRequest) -> Context:
    manifest = expecting(100 if request.param.startswith("keeps") else 1_000_000)
    return Session(syn.write(tmp_path / "e.strop", manifest=manifest), threads=1).context()


@pytest.fixture
def inputs() -> Arrays:
    rng = np.random.default_rng(7)
    return {name: rng.standard_normal(syn.SHAPE, np.float32) for name in "ab"}


def outputs_of(context: Context, inputs: Arrays) -> Arrays:
    """Arrays of the right kind that hold nothing of use."""
    return {name: np.full_like(array, -1) for name, array in context.run(inputs).items()}


def check(outputs: Arrays, inputs: Arrays) -> None:
    scaled, total = syn.arithmetic(inputs["a"], inputs["b"])
    np.testing.assert_array_equal(outputs["sum"], scaled)
    np.testing.assert_allclose(outputs["total"], total, rtol=1e-12)


def test_reads_what_the_arrays_hold_at_each_call(context: Context, inputs: Arrays) -> None:
    outputs = outputs_of(context, inputs)
    call = context.bind(inputs, outputs)
    assert (outputs["sum"] == -1).all()
    call()
    check(outputs, inputs)
    inputs["a"] *= 2
    call()
    check(outputs, inputs)


def test_other_runs_do_not_move_it(context: Context, inputs: Arrays) -> None:
    outputs = outputs_of(context, inputs)
    call = context.bind(inputs, outputs)
    other = {name: array + 1 for name, array in inputs.items()}
    check(context.run(other), other)
    call()
    check(outputs, inputs)


def test_keeps_context_and_arrays(context: Context, inputs: Arrays) -> None:
    outputs = outputs_of(context, inputs)
    call = context.bind({name: array.copy() for name, array in inputs.items()}, outputs)
    del context
    gc.collect()
    call()
    check(outputs, inputs)


def test_refused_once_closed(context: Context, inputs: Arrays) -> None:
    call = context.bind(inputs, outputs_of(context, inputs))
    context.close()
    with pytest.raises(RuntimeFailure, match="context is closed"):
        call()


def test_refused_while_in_use(tmp_path: Path, inputs: Arrays) -> None:
    context = Session(syn.write(tmp_path / "e.strop"), threads=1).context()
    call = context.bind(inputs, outputs_of(context, inputs))
    with context._lock, pytest.raises(RuntimeFailure, match="in use by another thread"):
        call()


@pytest.mark.parametrize(
    ("manifest", "brief"),
    [(expecting(100), True), (expecting(10**6), False), (expecting(None), False), (expecting("1"), False), (b'{"steps": 3}', False), (b"no", False)],
)
def test_the_interpreter_lock_is_kept_only_where_all_steps_are_known_to_be_short(tmp_path: Path, inputs: Arrays, manifest: bytes, brief: bool) -> None:
    session = Session(syn.write(tmp_path / "e.strop", manifest=manifest), threads=1)
    one, two = session.context(), session.context(threads=2)
    bound = [c.bind(inputs, outputs_of(c, inputs)) for c in (one, two)]
    assert [len(one._held), len(two._held)] == [int(brief), 0]
    for call in bound:
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, o: i.pop("a"), "input 'a' is missing"),
        (lambda i, o: i.update(c=i["a"]), "no input has this name"),
        (lambda i, o: i.update(a=i["a"].tolist()), "input 'a' is not an array"),
        (lambda i, o: i.update(a=i["a"].astype(np.float64)), "input 'a' has the wrong dtype"),
        (lambda i, o: i.update(a=i["a"][:1]), "input 'a' has the wrong shape"),
        (lambda i, o: i.update(a=np.repeat(i["a"], 2, -1)[..., ::2]), "input 'a' cannot be read in place"),
        (lambda i, o: o.pop("sum"), "output 'sum' is missing"),
        (lambda i, o: o.update(c=o["sum"]), "no output has this name"),
        (lambda i, o: o.update(sum=i["a"]), "output 'sum' overlaps another array"),
    ],
)
def test_arrays_that_cannot_be_bound(context: Context, inputs: Arrays, change: Any, message: str) -> None:
    outputs = outputs_of(context, inputs)
    change(inputs, outputs)
    with pytest.raises(InputError, match=message):
        context.bind(inputs, outputs)
