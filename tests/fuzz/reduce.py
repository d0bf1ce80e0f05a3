"""Shrinks a failing case: fewer nodes, producers replaced by inputs, smaller sizes, plainer attributes, dtypes and numbers.

Every edit is made on a draft, a list of nodes over named leaves, and kept when the smaller case still fails in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from strop.errors import StropError
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Op, Type
from strop.ir.shape import Shape, Sym
from tests.fuzz.generate import Case, fitted

Fails = Callable[[Case], bool]


@dataclass(frozen=True)
class Leaf:
    """An input or constant: its array at the optimum, and its shape."""

    array: Array
    shape: Shape
    const: bool


@dataclass(frozen=True)
class Step:
    """A node by names."""

    op: Op
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """A case that is easy to edit."""

    leaves: dict[str, Leaf]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    seed: int = 0
    known: dict[str, Array] = field(default_factory=dict)

    @staticmethod
    def of(case: Case) -> Draft:
        """The draft of a case, with every value's array."""
        known: dict[str, Array] = {}
        interp.run(case.graph, case.feed, lambda value, array: known.__setitem__(value.name, array))
        leaves = {v.name: Leaf(case.feed[v.name], v.shape, False) for v in case.graph.inputs}
        leaves |= {v.name: Leaf(v.const, v.const.shape, True) for v in case.graph.constants() if v.const is not None}
        steps = tuple(
            Step(n.op, tuple(None if v is None else v.name for v in n.inputs), tuple(v.name for v in n.outputs)) for n in case.graph.nodes
        )
        return Draft(leaves, steps, tuple(v.name for v in case.graph.outputs), case.seed, known)

    def case(self) -> Case:
        """The case; StropError when its types do not fit."""
        graph, feed = Graph("reduced"), {}
        values: dict[str, Value] = {}
        for name, leaf in self.leaves.items():
            if leaf.const:
                values[name] = graph.add_const(leaf.array, name)
            else:
                values[name] = graph.add_input(name, Type(dt.from_numpy(leaf.array.dtype), leaf.shape))
                feed[name] = leaf.array
        for number, step in enumerate(self.steps):
            operands = [None if n is None else values[n] for n in step.inputs]
            node = graph.add(step.op, operands, outputs=step.outputs, source=[f"node_{number}"])
            values.update(zip(step.outputs, node.outputs, strict=True))
        graph.set_outputs([values[n] for n in self.outputs])
        return Case(graph, feed, self.seed)

    def pruned(self) -> Draft:
        """Without what no output needs."""
        live, steps = set(self.outputs), []
        for step in reversed(self.steps):
            if live & set(step.outputs):
                live |= {n for n in step.inputs if n is not None}
                steps.append(step)
        leaves = {n: leaf for n, leaf in self.leaves.items() if n in live}
        return replace(self, steps=tuple(reversed(steps)), leaves=leaves)

    def cut(self, step: Step) -> Draft:
        """The step's results become inputs."""
        leaves = dict(self.leaves)
        for name in step.outputs:
            array = self.known[name]
            leaves[name] = Leaf(array, array.shape, False)
        outputs = tuple(n for n in self.outputs if n not in step.outputs)
        return replace(self, leaves=leaves, steps=tuple(s for s in self.steps if s is not step), outputs=outputs).pruned()

    @property
    def size(self) -> tuple[int, int, int, int]:
        """What shrinks: nodes, free sizes, elements, inputs that could be constants."""
        free = sum(isinstance(d, Sym) for leaf in self.leaves.values() for d in leaf.shape)
        return len(self.steps), free, sum(leaf.array.size for leaf in self.leaves.values()), len(self.leaves)


def reduce_case(case: Case, fails: Fails, seconds: float = 120.0) -> Case:
    """The smallest case found within the time that ``fails`` still accepts; the case itself when nothing smaller does."""
    draft, end = Draft.of(case), time.monotonic() + seconds
    improved = True
    while improved and time.monotonic() < end:
        improved = False
        for edits in (_fewer_outputs, _cuts, _bypasses, _fixed, _smaller, _plainer, _f32, _round):
            for smaller in edits(draft):
                if time.monotonic() > end:
                    break
                kept = _kept(smaller, fails)
                if kept is not None:
                    draft, improved = kept, True
                    break
    return draft.case()


def _kept(draft: Draft, fails: Fails) -> Draft | None:
    """The draft with its values computed, when it is a case that fails."""
    if not draft.outputs or not draft.steps:
        return None
    try:
        case = draft.case()
        kept = Draft.of(case)
        return kept if fails(case) else None
    except (StropError, IndexError, ValueError, TypeError, ZeroDivisionError):
        return None


def _fewer_outputs(draft: Draft) -> Iterator[Draft]:
    if len(draft.outputs) > 1:
        for name in draft.outputs:
            yield replace(draft, outputs=(name,)).pruned()
        for name in draft.outputs:
            yield replace(draft, outputs=tuple(n for n in draft.outputs if n != name)).pruned()
    whole = draft.pruned()
    if whole.size < draft.size:
        yield whole


def _cuts(draft: Draft) -> Iterator[Draft]:
    """Results become inputs, late ones first; and the last steps go, what they read being the outputs."""
    for step in reversed(draft.steps[:-1]):
        yield draft.cut(step)
    made = {n for s in draft.steps for n in s.outputs}
    for step in reversed(draft.steps):
        reads = tuple(dict.fromkeys(n for n in step.inputs if n in made))
        outputs = tuple(n for n in draft.outputs if n not in step.outputs) + reads
        if not any(set(step.outputs) & set(s.inputs) for s in draft.steps):
            yield replace(draft, steps=tuple(s for s in draft.steps if s is not step), outputs=tuple(dict.fromkeys(outputs))).pruned()


def _bypasses(draft: Draft) -> Iterator[Draft]:
    """A step goes and its result is an operand of the same type."""
    for step in draft.steps:
        (result, *others) = step.outputs
        for name in step.inputs:
            if others or name is None or len(draft.steps) == 1:
                continue
            if draft.known[name].dtype == draft.known[result].dtype and draft.known[name].shape == draft.known[result].shape:
                steps = tuple(
                    replace(s, inputs=tuple(name if n == result else n for n in s.inputs)) for s in draft.steps if s is not step
                )
                if name in draft.leaves and result in draft.outputs:
                    continue
                outputs = tuple(name if n == result else n for n in draft.outputs)
                yield replace(draft, steps=steps, outputs=outputs).pruned()


def _fixed(draft: Draft) -> Iterator[Draft]:
    """No free sizes."""
    if any(isinstance(d, Sym) for leaf in draft.leaves.values() for d in leaf.shape):
        yield replace(draft, leaves={n: replace(leaf, shape=leaf.array.shape) for n, leaf in draft.leaves.items()})


def _smaller(draft: Draft) -> Iterator[Draft]:
    """A size is made smaller wherever it stands, in attributes too or not."""
    sizes = {d for leaf in draft.leaves.values() for d in leaf.array.shape if d > 1}
    for size in sorted(sizes, reverse=True):
        for other in dict.fromkeys((1, 2, size // 2, size - 1)):
            for attributes in (True, False):
                if other < size:
                    yield _resized(draft, size, other, attributes)


def _resized(draft: Draft, size: int, other: int, attributes: bool) -> Draft:
    leaves = {}
    for name, leaf in draft.leaves.items():
        array = fitted(leaf.array, tuple(other if d == size else d for d in leaf.array.shape))
        shape = tuple(replace(d, opt=other, min=min(d.min, other)) if isinstance(d, Sym) and d.opt == size else other if d == size else d for d in leaf.shape)
        leaves[name] = replace(leaf, array=array, shape=shape)
    steps = tuple(replace(s, op=_with(s.op, size, other)) if attributes else s for s in draft.steps)
    return replace(draft, leaves=leaves, steps=steps)


def _with(op: Op, size: int, other: int) -> Op:
    changes: dict[str, Any] = {}
    for name, value in op.attributes().items():
        if isinstance(value, tuple) and any(isinstance(v, int) and not isinstance(v, bool) and v == size for v in value):
            changes[name] = tuple(other if v == size and not isinstance(v, bool) else v for v in value)
    return op.replace(**changes) if changes else op


def _plainer(draft: Draft) -> Iterator[Draft]:
    """Attributes nearer to 0, 1 or false."""
    for number, step in enumerate(draft.steps):
        for name, value in step.op.attributes().items():
            for plain in _plain(value):
                try:
                    op = step.op.replace(**{name: plain})
                except (StropError, TypeError, ValueError):
                    continue
                steps = list(draft.steps)
                steps[number] = replace(step, op=op)
                yield replace(draft, steps=tuple(steps))


def _plain(value: Any) -> Iterator[Any]:
    if value is True:
        yield False
    elif isinstance(value, tuple) and value and all(type(v) is int for v in value):
        for plain in (0, 1):
            if any(v > plain for v in value):
                yield tuple(min(v, plain) for v in value)
    elif type(value) is int and value > 1:
        yield 1


def _f32(draft: Draft) -> Iterator[Draft]:
    """Everything of another float dtype in f32."""
    others = (np.float64, dt.f16.numpy, dt.bf16.numpy)
    if any(leaf.array.dtype in others for leaf in draft.leaves.values()):
        changed = {n: replace(x, array=x.array.astype(np.float32)) if x.array.dtype in others else x for n, x in draft.leaves.items()}
        yield replace(draft, leaves=changed)


def _round(draft: Draft) -> Iterator[Draft]:
    """Short numbers."""
    for name, leaf in draft.leaves.items():
        if dt.from_numpy(leaf.array.dtype).is_float and leaf.array.size:
            with np.errstate(all="ignore"):
                plain = np.round(leaf.array.astype(np.float64) * 2) / 2
            rounded = plain.astype(leaf.array.dtype)
            if not (rounded == leaf.array).all():
                yield replace(draft, leaves={**draft.leaves, name: replace(leaf, array=rounded)})
