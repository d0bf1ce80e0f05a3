"""Kernels written for these tests, some of them harmful, and hand-made programs around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Expr, Input, call
from strop.ir.graph import Graph
from strop.kernels.base import Candidate, Emitted, In, Kernel, Operand, Out, Packed, Region, View
from strop.lower.pipeline import Lowered, Step
from strop.target.base import Target
from strop.target.detect import host
from strop.trace import Trace

COUNT = 1000
TASKS = 10
_EACH = COUNT // TASKS

#: One statement per element: out = max(in, 0) + table, where the table is a packed array of zeros.
_LOOP = f"for (int64_t i = begin * {_EACH}; i < end * {_EACH}; i++) {{ %s }}"
_RIGHT = "y[i] = (x[i] > 0.0f ? x[i] : 0.0f) + z[i];"

BODIES: dict[str, str] = {
    "right": _LOOP % _RIGHT,
    "right too": _LOOP % "const float v = x[i] + z[i]; y[i] = v > 0.0f ? v : 0.0f;",
    "right again": _LOOP % "y[i] = z[i]; if (x[i] > 0.0f) y[i] = x[i];",
    "wrong": _LOOP % "y[i] = x[i];",
    "wrong at one place": _LOOP % f"{_RIGHT} if (i == 777) y[i] += 0.5f;",
    "nothing": "(void)x; (void)y; (void)z;",
    "past its result": (_LOOP % _RIGHT) + f" if (end == {TASKS}) y[{COUNT} + 3] = 0.0f;",
    "before its result": (_LOOP % _RIGHT) + " y[-2] = 0.0f;",
    "past its scratch": (_LOOP % _RIGHT) + " ((float *)a->scratch)[18] = 1.0f;",
    "scratch taken for zero": _LOOP % f"{_RIGHT} y[i] += ((float *)a->scratch)[3] * 0.0f;",
    "reads around its operand": _LOOP % f"{_RIGHT} y[i] += (x[i + 1] + x[i - 1]) * 0.0f;",
    "tasks in order": f"if (begin == 0) *(float *)&y[0] = 0.0f; for (int64_t i = 0; i < end * {_EACH}; i++) {{ if (i < begin * {_EACH}) "
    f"{{ if (y[i] != y[i]) return; }} else {{ {_RIGHT} }} }}",
    "crash": (_LOOP % _RIGHT) + " *(volatile int *)8 = 1;",
    "trap": (_LOOP % _RIGHT) + " __builtin_trap();",
    "hang": (_LOOP % _RIGHT) + " for (volatile int64_t k = 0;; k++) {}",
    "does not compile": "this is not C;",
    "does not link": "extern void strop_nowhere(void); strop_nowhere();" + (_LOOP % _RIGHT),
    "crash when the caches are cold": (_LOOP % _RIGHT)
    + f" if (begin == 0 && end == {TASKS}) *(volatile int *)8 = 1;",
    "leaves damage": 'extern int setenv(const char *, const char *, int); setenv("STROP_TEST_DAMAGE", "1", 1); '
    + (_LOOP % _RIGHT),
    "suffers damage": 'extern char *getenv(const char *); if (getenv("STROP_TEST_DAMAGE")) __builtin_trap(); '
    + (_LOOP % _RIGHT),
    "writes early": f"for (int64_t i = begin * {_EACH}; i < end * {_EACH}; i++) y[i] = 0.0f; {_LOOP % _RIGHT}",
}


@dataclass(frozen=True)
class Params:
    """body: key of BODIES."""

    body: str


class Planted(Kernel[Params]):
    """Does what its parameters say; its estimates have a given order."""

    name = "planted"

    def __init__(self, in_place: bool = False, order: Sequence[str] = tuple(BODIES)) -> None:
        self.in_place = in_place
        self.order = list(order)

    def accepts(self, region: Region, target: Target) -> str | None:
        return None

    def space(self, region: Region, target: Target) -> list[Params]:
        return [Params(body) for body in BODIES]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return 1e-6 * (1 + self.order.index(params.body))

    def emit(self, region: Region, params: Params, target: Target) -> Emitted:
        head = "const float *x = a->p[0];\nfloat *y = a->p[2];\nconst float *z = a->p[1];\n"
        zeros = Packed(np.zeros(COUNT, np.float32))
        return Emitted(head + BODIES[params.body], (In(0), zeros, Out(0)), TASKS, scratch=64)


def candidate(body: str) -> Candidate:
    return Candidate(Planted(), Params(body))


def ordered(bodies: Sequence[str], in_place: bool = False) -> list[Candidate]:
    """Candidates whose estimates have this order."""
    kernel = Planted(in_place, bodies)
    return [Candidate(kernel, Params(body)) for body in bodies]


def label(body: str) -> str:
    return candidate(body).label


def relu_region(
    name: str = "relu", shape: tuple[int, ...] = (COUNT,), epilogue: Expr | None = None
) -> Region:
    view = View.dense(shape, dt.f32)
    expr = call("max", Input(0), 0.0) if epilogue is None else epilogue
    return Region(name, None, (Operand(view),), 0, expr, (view,))


def step(region: Region, candidates: Sequence[Candidate]) -> Step:
    return Step(region, [None] * len(region.operands), [], list(candidates), candidates[0])


def program(*steps: Step, target: Target | None = None) -> Lowered:
    return Lowered(target or host().with_cores(1), Graph("test"), list(steps), [])


def planted(*bodies: str, in_place: bool = False) -> Lowered:
    """A program of one relu with these candidates."""
    return program(step(relu_region(), ordered(bodies, in_place)))


def distinct(count: int, *bodies: str) -> Lowered:
    """A program of several regions that differ only in their signature."""
    same = [relu_region(f"relu{k}", (COUNT,) + (1,) * k) for k in range(count)]
    return program(*(step(region, ordered(bodies)) for region in same))


def quiet() -> Trace:
    return Trace(debug=0)


def chosen(lowered: Lowered) -> list[Any]:
    return [(s.chosen.label, s.seconds, [c.label for c in s.candidates]) for s in lowered.steps]
