"""Every op's samples: inference and loop program agree with the reference."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from strop.errors import ShapeError
from strop.ir import dtype as dt
from strop.ir.op import REGISTRY, Op, Sample, Type
from strop.ops.elementwise import FUNCTIONS
from tests.ops import loop_interpreter

VIEWS = ("identity", "reshape")  # need no loop program
SELECTIONS = ("non_max_suppression", "non_zero", "unique")  # have a kernel of their own in place of loops
LOOPS = ("loop_begin", "loop_end")  # what between them is runs several times
NO_OPERANDS = ("iota", "sizes")
RTOL = {"f64": 1e-9, "f32": 2e-5, "f16": 2e-3, "bf16": 1.6e-2}


def named_samples(name: str) -> list[Sample]:
    """All samples of an op, from a seed that depends on its name only."""
    return list(REGISTRY[name].samples(np.random.default_rng(zlib.crc32(name.encode()))))


def types_of(arrays: Sequence[np.ndarray[Any, Any]]) -> list[Type]:
    return [Type(dt.from_numpy(a.dtype), a.shape) for a in arrays]


def assert_close(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], what: str) -> None:
    """Equal, or for floats within the dtype's rounding relative to the largest element."""
    assert got.dtype == want.dtype and got.shape == want.shape, what
    kind = dt.from_numpy(want.dtype)
    if not kind.is_float:
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    scale = float(finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(
        a, b, rtol=RTOL[kind.name], atol=RTOL[kind.name] * scale * 0.1, err_msg=what
    )


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_reference_has_the_inferred_type(name: str) -> None:
    samples = named_samples(name)
    assert len(samples) >= 3
    for sample in samples:
        assert all(isinstance(a, np.ndarray) for a in sample.inputs), sample.op
        results = sample.op.reference(*sample.inputs)
        found = {s.name: int(a) for s, a in zip(reversed(sample.op.computed), reversed(results), strict=False)}
        inferred = [type.at(found) for type in sample.op.infer(types_of(sample.inputs))]
        assert types_of(results) == inferred, sample.op


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_loops_compute_the_reference(name: str) -> None:
    for sample in named_samples(name):
        inputs = types_of(sample.inputs)
        outputs = sample.op.infer(inputs)
        program = sample.op.loops(inputs, outputs)
        assert (program is None) == (name in VIEWS + SELECTIONS + LOOPS)
        if program is None:
            continue
        stages = loop_interpreter.run(program, sample.inputs)
        for k, want in enumerate(sample.op.reference(*sample.inputs)):
            assert_close(stages[f"out{k}"], want, f"{sample.op} {sample.note} result {k}")


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_loop_variables_have_no_names_of_temporaries(name: str) -> None:
    """Emitted C has temporaries t0, t1, ... and e0, e1, ... beside the loop variables."""
    for sample in named_samples(name):
        inputs = types_of(sample.inputs)
        program = sample.op.loops(inputs, sample.op.infer(inputs))
        for stage in program.stages if program is not None else ():
            for loop in (*stage.axes, *stage.reduce):
                assert not re.fullmatch(r"[te]\d+|v|acc|best|task", loop.name)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_cost_is_not_negative_and_counts_results(name: str) -> None:
    for sample in named_samples(name):
        inputs = types_of(sample.inputs)
        outputs = [type.at({s.name: s.max for s in sample.op.computed}) for type in sample.op.infer(inputs)]
        cost = sample.op.cost(inputs, outputs)
        assert cost.flops >= 0
        view = name in VIEWS
        assert cost.bytes == 0 if view else cost.bytes >= sum(t.nbytes for t in outputs)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_wrong_operand_count_is_refused(name: str) -> None:
    sample = named_samples(name)[0]
    with pytest.raises(ShapeError, match="operands"):
        sample.op.infer([Type(dt.f32, ())] if name in NO_OPERANDS else [])


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_reference_leaves_operands_alone(name: str) -> None:
    for sample in named_samples(name)[:4]:
        before = [a.copy() for a in sample.inputs]
        sample.op.reference(*sample.inputs)
        for array, copy in zip(sample.inputs, before, strict=True):
            np.testing.assert_array_equal(array, copy)


def test_samples_repeat_from_the_same_seed() -> None:
    for name in REGISTRY:
        first, second = named_samples(name), named_samples(name)
        assert [s.op for s in first] == [s.op for s in second]
        for a, b in zip(first, second, strict=True):
            for left, right in zip(a.inputs, b.inputs, strict=True):
                assert left.dtype == right.dtype and left.tobytes() == right.tobytes()


def test_names_are_unique_across_functions_and_ops() -> None:
    assert not set(FUNCTIONS) & set(REGISTRY)


def test_samples_cover_every_elementwise_function() -> None:
    seen = {s.op.label for s in named_samples("elementwise")}
    assert seen == set(FUNCTIONS)


def test_ops_are_hashable_and_replaceable() -> None:
    for name in REGISTRY:
        op: Op = named_samples(name)[0].op
        assert hash(op.replace()) == hash(op) and op.replace() == op
