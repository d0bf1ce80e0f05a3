"""Recurrent layers over sequences: RNN, GRU and LSTM, with the formulas and the order of gates of ONNX.

What a step computes is written once, as expressions over the sums that feed its gates (``RNN.hidden``,
``GRU.hidden``, ``LSTM.cell`` ...); loop programs and kernels are made of them. ``reference`` states it
again in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, TypeVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.interp import ABSENT
from strop.ir.loops import Program
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim
from strop.ops import base
from strop.ops.elementwise import make
from strop.ops.recurrent_loops import Steps

DIRECTIONS = ("forward", "reverse", "bidirectional")
#: Function of ``strop.ops.elementwise``, alpha, beta; 0.0 where the function has no such param.
Activation = tuple[str, float, float]
Shaped = TypeVar("Shaped", Type, Array)


def activation(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """An activation by its elementwise function's name; None gives the function's default."""
    given = {"alpha": alpha, "beta": beta}
    defaults = dict(make(name).function.params)
    chosen = {k: defaults[k] if v is None else v for k, v in given.items() if k in defaults}
    return (name, chosen.get("alpha", 0.0), chosen.get("beta", 0.0))


SIGMOID, TANH = activation("sigmoid"), activation("tanh")


@dataclass(frozen=True)
class Recurrent(Op):
    """Base of the recurrent layers.

    Operands, of one float dtype but for ``lens``; an optional one that is left out has shape [0]:
        x: [S, B, I], or with ``projected`` [S, B, D G H]: x W^T per direction and gate, biases added or not.
        w: [D, G H, I]; not there with ``projected``.
        r: [D, G H, H].
        b: [D, 2 G H], optional: biases that go with w, then those that go with r.
        lens: i32[B], optional: steps of every sample; numbers outside 0..S are forced into it.
        h0: [D, B, H], optional (zeros): the state before the first step.
        c0: as h0 (LSTM): the cell before the first step.
        p: [D, 3 H], optional (LSTM): peephole weights of the gates i, o, f.
    Results: y [S, D, B, H], the state after every step, zero from a sample's end on; y_h [D, B, H], the
    state after the last step; LSTM also y_c, the cell after the last step. A sample of no steps keeps its
    first state.

    S: steps, B: samples, I: size of x, H: hidden units, D: directions, G: gates.

    Attributes:
        direction: forward, reverse (each sample from its own last step to its first) or bidirectional
            (forward, then reverse).
        activations: f, g, h of the formulas per direction, as many as the layer has.
        clip: the sums that feed gates are forced into -clip..clip; the operand of h is not, as in ONNX Runtime.
        projected: x holds the products with w.
    """

    #: Gates, in the order of the rows of w and r.
    gates: ClassVar[int] = 1
    #: Activations per direction.
    functions: ClassVar[int] = 1
    #: Names of the operands, and of those that hold a state.
    names: ClassVar[tuple[str, ...]] = ("x", "w", "r", "b", "lens", "h0")
    states: ClassVar[tuple[str, ...]] = ("h0",)

    direction: str = "forward"
    activations: tuple[Activation, ...] = ()
    clip: float = math.inf
    projected: bool = False

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.direction == "bidirectional" else 1

    def reversed(self, d: int) -> bool:
        """Whether direction ``d`` walks from the end to the start."""
        return self.direction == "reverse" or d == 1

    @property
    def operand_names(self) -> tuple[str, ...]:
        """Names of the operands in order."""
        return tuple(n for n in self.names if n != "w" or not self.projected)

    def given(self, inputs: Sequence[Shaped]) -> dict[str, Shaped]:
        """The operands that are present, by name."""
        pairs = zip(self.operand_names, inputs, strict=False)
        return {name: value for name, value in pairs if value.shape != (0,)}

    def bias_in_sum(self, gate: int) -> bool:
        """Whether the gate's recurrent bias may be added together with its other bias."""
        return True

    # ---- formulas

    def activate(self, d: int, k: int, value: Expr, clipped: bool = True) -> Expr:
        """Activation ``k`` of direction ``d``, applied to a value that is clipped before."""
        if clipped and math.isfinite(self.clip):
            value = call("max", call("min", value, self.clip), -self.clip)
        body = _function(self.activations[d * self.functions + k])
        return ex.substitute(body, lambda node: value if isinstance(node, ex.Input) else None)

    def _act(self, d: int, k: int, value: Array, clipped: bool = True) -> Array:
        return ex.evaluate(self.activate(d, k, ex.Input(0), clipped), [value])

    def _step(
        self, d: int, sums: Array, h: Array, c: Array, given: dict[str, Array]
    ) -> tuple[Array, Array]:
        """The state and cell [B, H] after a step.

        Args:
            d: direction.
            sums: [B, G H], x W^T and the biases that may be added to it.
            h, c: before the step.
            given: operands in f64.
        """
        raise NotImplementedError(f"{self.name}._step")

    # ---- the contract

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, self.operand_names.index("r") + 1, len(self.operand_names))
        base.choice(self, "direction", self.direction, DIRECTIONS)
        given = self.given(inputs)
        if missing := {*self.operand_names[: self.operand_names.index("r") + 1]} - given.keys():
            raise self.fail(f"operands {', '.join(sorted(missing))} are empty", inputs)
        dtype = base.floating(self, [t for name, t in given.items() if name != "lens"])
        if len(self.activations) != self.functions * self.directions or self.clip < 0:
            raise self.fail(
                "activations or clip do not fit",
                inputs,
                f"{self.functions * self.directions} functions, clip 0 or more",
            )
        x, r = given["x"], given["r"]
        if x.rank != 3 or r.rank != 3:
            raise self.fail("x or r has the wrong rank", inputs, "rank 3")
        (hidden,) = sh.static(r.shape[2:], self.name)
        steps, samples, _ = x.shape
        for name, found in given.items():
            wanted = self._shapes(x, hidden)[name]
            if found.shape != wanted or (name == "lens") != (found.dtype is dt.i32):
                raise self.fail(
                    f"operand {name} does not fit", inputs, f"{name}[{sh.show(wanted)}]"
                )
        state = Type(dtype, (self.directions, samples, hidden))
        y = Type(dtype, (steps, self.directions, samples, hidden))
        return (y, *(state for _ in self.states))

    def _shapes(self, x: Type, hidden: int) -> dict[str, tuple[Dim, ...]]:
        """Shape of every operand."""
        steps, samples, size = x.shape
        d, rows = self.directions, self.gates * hidden
        state = (d, samples, hidden)
        return {
            "x": (steps, samples, d * rows if self.projected else size),
            "w": (d, rows, size),
            "r": (d, rows, hidden),
            "b": (d, 2 * rows),
            "lens": (samples,),
            "h0": state,
            "c0": state,
            "p": (d, 3 * hidden),
        }

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        given = {k: base.wide(a) for k, a in self.given(inputs).items()}
        x, r = given["x"], given["r"]
        steps, samples, _ = x.shape
        hidden = r.shape[2]
        lens = np.clip(given.get("lens", np.full(samples, steps)), 0, steps)
        blank = np.zeros((self.directions, samples, hidden))
        states = [given.get(name, blank).copy() for name in self.states]
        y = np.zeros((steps, self.directions, samples, hidden))
        rows = np.arange(samples)
        for d in range(self.directions):
            sums = self._sums(d, given)
            for s in range(steps):
                live = s < lens
                t = np.where(live & self.reversed(d), lens - 1 - s, s)
                h, c = states[0][d], states[-1][d]
                new = self._step(d, sums[t, rows], h, c, given)
                for state, value in zip(states, new, strict=False):
                    state[d] = np.where(live[:, None], value, state[d])
                y[t, d, rows] = np.where(live[:, None], new[0], 0.0)
        return tuple(base.narrow(a, inputs[0]) for a in (y, *states))

    def _sums(self, d: int, given: dict[str, Array]) -> Array:
        """[S, B, G H]: what feeds the gates of all steps beside the state."""
        x = given["x"]
        rows = given["r"].shape[1]
        sums = x[..., d * rows : (d + 1) * rows] if self.projected else x @ given["w"][d].T
        if "b" in given:
            sums = sums + given["b"][d, :rows]
            recurrent = given["b"][d, rows:].reshape(self.gates, -1).copy()
            for gate in range(self.gates):
                recurrent[gate] *= self.bias_in_sum(gate)
            sums = sums + recurrent.reshape(-1)
        return sums

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        steps, d, samples, hidden = outputs[0].static_shape
        size = 0 if self.projected else inputs[0].static_shape[2]
        per_unit = self.gates * (2 * size + 2 * hidden + 8)
        return Cost(steps * d * samples * hidden * per_unit, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        steps = Steps(
            self.given(inputs),
            {name: number for number, name in enumerate(self.operand_names)},
            outputs[0],
            self.gates,
            [self.reversed(d) for d in range(self.directions)],
            [self.bias_in_sum(gate) for gate in range(self.gates)],
            dict(zip(("hidden", "cell"), self.states, strict=False)),
        )
        self._stages(steps)
        return steps.program()

    def _stages(self, steps: Steps) -> None:
        """Adds the stages of a step; the states are called ``hidden`` and ``cell``."""
        raise NotImplementedError(f"{self.name}._stages")

    # ---- samples

    @classmethod
    def default(cls, direction: str = "forward", **changes: object) -> Recurrent:
        """The layer with ONNX's default activations."""
        times = 2 if direction == "bidirectional" else 1
        fields = {"activations": cls.usual() * times, **changes}
        return cls(direction, **fields)  # type: ignore[arg-type]

    @classmethod
    def usual(cls) -> tuple[Activation, ...]:
        """ONNX's default activations of one direction."""
        return (TANH,)

    @classmethod
    def variants(cls) -> Iterator[Recurrent]:
        """Layers that cover the attributes."""
        for direction in DIRECTIONS:
            yield cls.default(direction)
        mixed = (activation("hard_sigmoid"), activation("softsign"), activation("leaky_relu", 0.1))
        yield cls.default("forward", activations=mixed[: cls.functions])
        others = (activation("sigmoid"), activation("affine", 0.5, 0.1), activation("scaled_tanh", 1.5, 0.5))
        both = (*cls.usual(), *others[: cls.functions])
        yield cls.default("bidirectional", activations=both, clip=0.4)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        every = set(cls.names)
        bare = {"x", "w", "r"}
        for number, op in enumerate(cls.variants()):
            if (number + number // 2) % 2 == 0:
                yield cls._sample(rng, op, (3, 2, 4, 5), every)
            else:
                yield cls._sample(rng, op, (2, 1, 3, 6), bare)
            if number % 3 == 0:
                yield cls._sample(rng, op.replace(projected=True), (3, 4, 2, 18), every)
        for left in ("b", "lens", "h0", "c0", "p"):
            if left in every:
                yield cls._sample(rng, cls.default("bidirectional"), (3, 2, 4, 5), every - {left})
        yield cls._sample(rng, cls.default(), (3, 2, 2, 3), bare)
        yield cls._sample(rng, cls.default("reverse"), (1, 1, 1, 1), bare)
        yield cls._sample(rng, cls.default(), (2, 1, 8, 33), every - {"lens"})
        yield cls._sample(rng, cls.default(projected=True), (9, 9, 1, 16), bare)
        yield cls._sample(rng, cls.default(), (0, 2, 3, 4), every - {"lens"})
        for dtype in (dt.f64, dt.f16, dt.bf16):
            yield cls._sample(rng, cls.default("bidirectional"), (3, 2, 4, 5), every, dtype)

    @classmethod
    def _sample(
        cls,
        rng: np.random.Generator,
        op: Recurrent,
        sizes: tuple[int, int, int, int],
        given: set[str],
        dtype: DType = dt.f32,
    ) -> Sample:
        """A problem of S, B, I, H with the operands ``given``."""
        steps, samples, size, hidden = sizes
        shapes = op._shapes(Type(dtype, (steps, samples, size)), hidden)
        arrays: list[Array] = []
        for name in op.operand_names:
            shape = sh.static(shapes[name])
            if name not in given:
                arrays.append(ABSENT)
            elif name == "lens":
                lens = rng.integers(0, steps + 1, shape)
                lens[0] = steps
                arrays.append(lens.astype(np.int32))
            else:
                arrays.append(base.random_array(rng, shape, dtype, -1, 1))
        while arrays[-1] is ABSENT:
            arrays.pop()
        return Sample(op, tuple(arrays))


@lru_cache(maxsize=256)
def _function(given: Activation) -> Expr:
    name, alpha, beta = given
    params = {"alpha": alpha, "beta": beta}
    return make(name, **{k: params[k] for k, _ in make(name).function.params}).expr()


@dataclass(frozen=True)
class RNN(Recurrent):
    """H' = f(x W^T + H R^T + Wb + Rb). See Recurrent."""

    name: ClassVar[str] = "rnn"

    def hidden(self, d: int, total: Expr) -> Expr:
        """The state from the gate's sum."""
        return self.activate(d, 0, total)

    def _stages(self, steps: Steps) -> None:
        steps.product("gate", (0,), lambda k: steps.before("hidden", k))
        total = steps.now("gate", steps.unit) + steps.sum_at(0, steps.unit)
        steps.add("hidden", steps.either(lambda d: self.hidden(d, total)))

    def _step(
        self, d: int, sums: Array, h: Array, c: Array, given: dict[str, Array]
    ) -> tuple[Array, Array]:
        h = self._act(d, 0, sums + h @ given["r"][d].T)
        return h, h


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gated recurrent unit; gates z, r, h. See Recurrent.

    z, r = f(x W^T + H R^T + Wb + Rb); n = g(x W^T + (r H) R^T + Rb + Wb), or with ``linear_before_reset``
    g(x W^T + r (H R^T + Rb) + Wb); H' = (1 - z) n + z H.

    Attributes:
        linear_before_reset: whether r applies after the product.
    """

    name: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3
    functions: ClassVar[int] = 2

    linear_before_reset: bool = False

    @classmethod
    def usual(cls) -> tuple[Activation, ...]:
        return (SIGMOID, TANH)

    @classmethod
    def variants(cls) -> Iterator[Recurrent]:
        for op in super().variants():
            yield op
            yield op.replace(linear_before_reset=True)

    def bias_in_sum(self, gate: int) -> bool:
        return not (self.linear_before_reset and gate == 2)

    def gate(self, d: int, total: Expr) -> Expr:
        """z or r from its sum."""
        return self.activate(d, 0, total)

    def hidden(self, d: int, z: Expr, total: Expr, before: Expr) -> Expr:
        """The state from z, the sum that feeds n, and the state before."""
        return (1.0 - z) * self.activate(d, 1, total) + z * before

    def _stages(self, steps: Steps) -> None:
        unit, after = steps.unit, self.linear_before_reset

        def gate(number: int) -> Expr:
            place = unit + base.integer(number * steps.hidden) if number else unit
            total = steps.now("gates", place) + steps.sum_at(number, unit)
            return steps.either(lambda d: self.gate(d, total))

        steps.product("gates", (0, 1, 2) if after else (0, 1), lambda k: steps.before("hidden", k))
        if after:
            product = steps.now("gates", unit + base.integer(2 * steps.hidden))
            if "b" in steps.operands:
                row = unit + base.integer(5 * steps.hidden)
                product = product + steps.operand("b", [steps.here[0], row])
            product = gate(1) * product
        else:
            steps.add("reset", gate(1) * steps.before("hidden", unit))
            steps.product("new", (2,), lambda k: steps.now("reset", k))
            product = steps.now("new", unit)
        total = product + steps.sum_at(2, unit)
        before = steps.before("hidden", unit)
        steps.add("hidden", steps.either(lambda d: self.hidden(d, gate(0), total, before)))

    def _step(
        self, d: int, sums: Array, h: Array, c: Array, given: dict[str, Array]
    ) -> tuple[Array, Array]:
        size = h.shape[1]
        weights = given["r"][d]
        gates = self._act(d, 0, sums[:, : 2 * size] + h @ weights[: 2 * size].T)
        z, r = gates[:, :size], gates[:, size:]
        if self.linear_before_reset:
            bias = given["b"][d, 5 * size :] if "b" in given else 0.0
            product = r * (h @ weights[2 * size :].T + bias)
        else:
            product = (r * h) @ weights[2 * size :].T
        h = (1 - z) * self._act(d, 1, sums[:, 2 * size :] + product) + z * h
        return h, h


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory; gates i, o, f, c. See Recurrent.

    i, f = f(x W^T + H R^T + P C + Wb + Rb); n = g(x W^T + H R^T + Wb + Rb); C' = f C + i n;
    o = f(x W^T + H R^T + P C' + Wb + Rb); H' = o h(C').

    Attributes:
        input_forget: f is 1 - i.
        cell_clip: C' is forced into -cell_clip..cell_clip (TensorFlow Lite's cell_clip).
    """

    name: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4
    functions: ClassVar[int] = 3
    names: ClassVar[tuple[str, ...]] = ("x", "w", "r", "b", "lens", "h0", "c0", "p")
    states: ClassVar[tuple[str, ...]] = ("h0", "c0")

    input_forget: bool = False
    cell_clip: float = math.inf

    @classmethod
    def usual(cls) -> tuple[Activation, ...]:
        return (SIGMOID, TANH, TANH)

    @classmethod
    def variants(cls) -> Iterator[Recurrent]:
        yield from super().variants()
        yield cls.default("bidirectional", input_forget=True)
        yield cls.default("forward", cell_clip=0.2)

    def cell(self, d: int, sums: Sequence[Expr], before: Expr, peepholes: Sequence[Expr]) -> Expr:
        """The cell after the step.

        Args:
            d: direction.
            sums: of the gates i, o, f, c.
            before: the cell before.
            peepholes: weights of i, o, f; or empty.
        """
        i, f = sums[0], sums[2]
        if peepholes:
            i, f = i + peepholes[0] * before, f + peepholes[2] * before
        i = self.activate(d, 0, i)
        f = 1.0 - i if self.input_forget else self.activate(d, 0, f)
        after = f * before + i * self.activate(d, 1, sums[3])
        return call("max", call("min", after, self.cell_clip), -self.cell_clip) if math.isfinite(self.cell_clip) else after

    def hidden(self, d: int, total: Expr, cell: Expr, peepholes: Sequence[Expr]) -> Expr:
        """The state from the sum of gate o and the cell after the step."""
        if peepholes:
            total = total + peepholes[1] * cell
        return self.activate(d, 0, total) * self.activate(d, 2, cell, clipped=False)

    def _stages(self, steps: Steps) -> None:
        unit, size = steps.unit, steps.hidden
        steps.product("gates", (0, 1, 2, 3), lambda k: steps.before("hidden", k))
        places = [unit, *(unit + base.integer(gate * size) for gate in (1, 2, 3))]
        sums = [steps.now("gates", p) + steps.sum_at(gate, unit) for gate, p in enumerate(places)]
        peepholes = []
        if "p" in steps.operands:
            peepholes = [steps.operand("p", [steps.here[0], place]) for place in places[:3]]
        before, cell = steps.before("cell", unit), steps.now("cell", unit)
        steps.add("cell", steps.either(lambda d: self.cell(d, sums, before, peepholes)))
        steps.add("hidden", steps.either(lambda d: self.hidden(d, sums[1], cell, peepholes)))

    def _step(
        self, d: int, sums: Array, h: Array, c: Array, given: dict[str, Array]
    ) -> tuple[Array, Array]:
        sums = sums + h @ given["r"][d].T
        i, o, f, n = np.split(sums, 4, axis=1)
        pi, po, pf = np.split(given["p"][d], 3) if "p" in given else (0.0, 0.0, 0.0)
        i = self._act(d, 0, i + pi * c)
        f = 1 - i if self.input_forget else self._act(d, 0, f + pf * c)
        c = np.clip(f * c + i * self._act(d, 1, n), -self.cell_clip, self.cell_clip)
        return self._act(d, 0, o + po * c) * self._act(d, 2, c, clipped=False), c
