"""Real kernels pass the check, and large problems that are checked by parts are still checked
everywhere."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir.expr import Input, call
from strop.kernels import oracle
from strop.kernels.base import Candidate, Emitted, In, Operand, Out, Region, View
from strop.kernels.table import candidates
from strop.ops.conv import Conv
from strop.ops.matmul import MatMul
from strop.target.base import Target
from strop.target.detect import host
from strop.tune import measure, worker
from strop.tune.bench import Bench
from strop.tune.measure import Job, Outcome, Problem, Store, measure_all
from tests.tune.planted import Planted

NHWC = (0, 2, 3, 1)


def conv_region(pads: int = 1, groups: int = 1) -> Region:
    rng = np.random.default_rng(0)
    op = Conv((1, 1), (pads,) * 4, (1, 1), groups)
    weight = rng.standard_normal((24, 16 // groups, 3, 3)).astype(np.float32)
    bias = rng.standard_normal((1, 24, 1, 1)).astype(np.float32)
    wide = View.dense((1, 20, 12, 14), dt.f32, NHWC)  # x is a slice of more channels
    x = View((1, 16, 12, 14), wide.strides, dt.f32)
    out = View.dense((1, 24, 10 + 2 * pads, 12 + 2 * pads), dt.f32, NHWC)
    operands = (
        Operand(x),
        Operand(View.dense(weight.shape, dt.f32), weight),
        Operand(View.dense(bias.shape, dt.f32).broadcast(out.shape), bias),
        Operand(out),
    )
    return Region("conv", op, operands, 2, call("max", Input(0) + Input(1) + Input(2), 0.0), (out,))


def matmul_region() -> Region:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((48, 40)).astype(np.float32)
    out = View.dense((50, 40), dt.f32)
    operands = (
        Operand(View.dense((50, 48), dt.f32)),
        Operand(View.dense(weight.shape, dt.f32), weight),
    )
    return Region("fc", MatMul(), operands, 2, Input(0), (out,))


def softened_region() -> Region:
    view = View.dense((30, 40), dt.f32)
    row = View.dense((1, 40), dt.f32).broadcast((30, 40))
    return Region(
        "soft", None, (Operand(view), Operand(row)), 0, call("tanh", Input(0) * Input(1)), (view,)
    )


def outcomes_of(jobs: list[Job], target: Target, flush: int = 0) -> dict[Job, Outcome]:
    found: dict[Job, Outcome] = {}
    with Bench() as bench:
        measure_all(
            bench, jobs, target, flush, lambda: True, lambda region, part: found.update(part)
        )
    return found


@pytest.mark.parametrize("cores", [1, 2])
def test_real_kernels_are_right(cores: int) -> None:
    target = host().with_cores(cores)
    store = Store()
    regions = [conv_region(), conv_region(pads=0, groups=4), matmul_region(), softened_region()]
    jobs = [
        store.job(region, c, target) for region in regions for c in candidates(region, target)[:6]
    ]
    assert len(jobs) >= 10
    found = outcomes_of(jobs, target, flush=1 << 20)
    assert [(j.candidate.label, o) for j, o in found.items() if not isinstance(o.result, int)] == []
    assert all(isinstance(o.result, int) and o.result > 0 for o in found.values()) and len(
        found
    ) == len(jobs)


def test_constants_that_a_kernel_reads_as_they_are_are_as_far_away_as_packed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    flush, load = 1 << 16, Problem(matmul_region(), 1 << 16).load
    assert [operand is not None and operand.constant for operand in load.operands] == [False, True]
    content = [space.data for space in load.operands if space is not None and space.data is not None]
    bench = worker.Bench(io.BytesIO(b"".join(array.tobytes() for array in content)), io.BytesIO())
    bench.do_region([o and [o.size, o.start, o.constant] for o in load.operands], [[o.size, o.start] for o in load.outs], flush)
    brought: list[int] = []
    monkeypatch.setattr(bench, "_call", lambda kernel, args, begin, end, ranges: brought.extend(size for _, size in ranges) or 1)
    pointers: list[list[Any]] = [["operand", 0], ["operand", 1], ["out", 0]]
    bench.do_run(0, pointers, 1, 0, [], timed=True, over=None, answer=False, limit=5.0)
    near, weights = (space.size for space in load.operands if space is not None)
    assert brought == [flush, load.outs[0].size, 0, near] and weights not in brought


def test_equal_packed_arrays_are_held_once() -> None:
    target = host().with_cores(1)
    region = matmul_region()
    store = Store()
    first, second = (store.job(region, candidates(region, target)[0], target) for _ in range(2))
    assert (
        first.packed.keys() == second.packed.keys() and len(store.arrays) == len(first.packed) > 0
    )
    assert all(second.packed[name] is array for name, array in first.packed.items())


def test_only_epilogue_operands_are_overwritten() -> None:
    view = View.dense((8, 40), dt.f32)
    weight = np.zeros((40, 40), np.float32)
    operands = (Operand(view), Operand(View.dense(weight.shape, dt.f32), weight), Operand(view))
    in_place = Candidate(Planted(in_place=True), None)
    total = Input(0) + Input(1)
    epilogue = Region("fc", MatMul(), operands, 2, total, (view,))
    assert Problem(epilogue, 0).over(in_place) == 2
    assert Problem(epilogue, 0).over(Candidate(Planted(), None)) is None
    prologue = replace(epilogue, epilogue=Input(0), prologue=total, prologues=1)
    assert Problem(prologue, 0).over(in_place) is None


# ---- by parts


@dataclass(frozen=True)
class Rows:
    """wrong: rows that get a wrong value."""

    wrong: tuple[int, ...]


class ByRow(Planted):
    """The negative of 60 rows of 4 elements, wrong in some rows."""

    name = "by_row"

    def emit(self, region: Region, params: Any, target: Target) -> Emitted:
        off = "".join(f"if (i / 4 == {row}) y[i] += 1.0f; " for row in params.wrong)
        body = (
            "const float *x = a->p[0]; float *y = a->p[1];\n"
            "for (int64_t i = begin * 4; i < end * 4; i++) { y[i] = -x[i]; " + off + "}"
        )
        return Emitted(body, (In(0), Out(0)), 60)

    def cost(self, region: Region, params: object, target: Target) -> float:
        return 1e-6


def rows_problem(monkeypatch: pytest.MonkeyPatch) -> tuple[Region, set[int]]:
    """A region that is checked by parts, and the rows in the parts."""
    monkeypatch.setattr(measure, "WHOLE", 10)
    monkeypatch.setattr(measure, "PART", 24)
    view = View.dense((60, 4), dt.f32)
    region = Region("rows", None, (Operand(view),), 0, call("neg", Input(0)), (view,))
    parts = Problem(region, 0)._parts
    assert len(parts) == 3 and parts[0][0] == 0 and parts[-1][1] == 60
    return region, {row for low, high in parts for row in range(low, high or 60)}


@pytest.mark.parametrize("order", ["wrong first", "right first"])
def test_an_error_outside_the_parts_is_found_by_comparison(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    region, known = rows_problem(monkeypatch)
    hidden = next(row for row in range(10, 60) if row not in known)
    variants = [Rows((hidden,)), Rows(())]
    if order == "right first":
        variants.reverse()
    found = outcomes_of(
        [Store().job(region, Candidate(ByRow(), rows), host()) for rows in variants], host()
    )
    results = {job.candidate.params: outcome.result for job, outcome in found.items()}
    assert results[Rows((hidden,))] == "wrong" and isinstance(results[Rows(())], int)


def test_an_error_inside_the_parts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    region, known = rows_problem(monkeypatch)
    for row in (0, sorted(known)[len(known) // 2], 59):
        found = outcomes_of([Store().job(region, Candidate(ByRow(), Rows((row,))), host())], host())
        assert [o.result for o in found.values()] == ["wrong"]
        assert "expected" in next(iter(found.values())).detail


def test_two_different_errors_outside_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    region, known = rows_problem(monkeypatch)
    hidden = [row for row in range(10, 60) if row not in known]
    variants = [Rows((hidden[0],)), Rows(tuple(hidden[:2])), Rows(())]
    found = outcomes_of(
        [Store().job(region, Candidate(ByRow(), rows), host()) for rows in variants], host()
    )
    results = {job.candidate.params: outcome.result for job, outcome in found.items()}
    assert results[variants[0]] == results[variants[1]] == "wrong" and isinstance(
        results[variants[2]], int
    )


def test_small_problems_are_checked_whole() -> None:
    for region in (conv_region(), matmul_region(), softened_region()):
        assert oracle.work(region) < measure.WHOLE
        assert Problem(region, 0)._parts == [(0, None)]
