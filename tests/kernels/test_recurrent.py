"""The recurrent kernel on every instruction set the host has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.expr import Input
from strop.ir.op import Type
from strop.ir.shape import Sym
from strop.kernels.base import Candidate, Emitted, Operand, Region, View
from strop.kernels.c.recurrent import KERNEL, Params
from strop.kernels.extent import at, extent, extents
from strop.kernels.oracle import expected
from strop.ops.recurrent import GRU, LSTM, RNN, activation
from strop.target.detect import TARGETS, runs_here
from tests.kernels.harness import assert_agree, check_all, compiled, run

HERE = [t for t in TARGETS.values() if runs_here(t)]
WEIGHTS = ("r", "b", "p")


def turned(shape):
    """Row-major but for the first two axes, which are swapped, with room between rows."""
    wide = (*shape[:-1], shape[-1] + 3)
    return View(tuple(shape), View.dense(wide, dt.f32, (1, 0, *range(2, len(shape)))).strides, dt.f32)


def dense(shape):
    return View.dense(shape, dt.f32)


def layer(op, steps, samples, hidden, given="b lens h0 c0 p", place=dense, seed=0):
    """A region of the layer with the operands ``given`` beside x and r, and its arrays; weights are constants."""
    rng = np.random.default_rng(seed)
    op = op.replace(projected=True)
    x = Type(dt.f32, (steps, samples, op.directions * op.gates * hidden))
    shapes = op._shapes(x, hidden)
    operands, arrays = [], []
    for name in op.operand_names:
        shape = sh.static(shapes[name])
        if name not in ("x", "r", *given.split()):
            operands.append(None)
            arrays.append(None)
            continue
        if name == "lens":
            array = rng.integers(1, steps + 1, shape).astype(np.int32)
            array[-1] = steps
            view = View.dense(shape, dt.i32)
        else:
            array = (rng.standard_normal(shape) * 0.6).astype(np.float32)
            view = dense(shape) if name in WEIGHTS else place(shape)
        operands.append(Operand(view, array if name in WEIGHTS else None))
        arrays.append(array)
    outs = tuple(place(t.static_shape) for t in op.infer([x, *(_type(o) for o in operands[1:])]))
    name = f"{op.name} {op.direction} {steps}x{samples}x{hidden} {given}"
    return Region(name, op, tuple(operands), len(operands), Input(0), outs), arrays


def _type(operand):
    return Type(dt.f32, (0,)) if operand is None else operand.view.type


def cases(target):
    """Sizes around the lanes, batches around the tiles, operands with and without, both memory orders."""
    lanes = {"avx512": 16, "avx2": 8}.get(target.isa, 4)
    found = []
    layers = [
        RNN.default("reverse"),
        GRU.default(),
        GRU.default("bidirectional", linear_before_reset=True),
        LSTM.default("bidirectional"),
        LSTM.default("reverse", input_forget=True, clip=0.5),
    ]
    sizes = [(1, 1, 1), (3, 1, lanes), (2, 3, lanes + 1), (5, 7, 2 * lanes - 1), (4, 9, 3 * lanes)]
    for number, op in enumerate(layers):
        for k, (steps, samples, hidden) in enumerate(sizes):
            given = ("b lens h0 c0 p", "", "b", "lens p c0", "h0 b")[(number + k) % 5]
            given = " ".join(n for n in given.split() if n in op.names)
            found.append(layer(op, steps, samples, hidden, given, (dense, turned)[k % 2], k))
    return found


@pytest.mark.parametrize("target", HERE, ids=str)
def test_layers(target):
    assert check_all(KERNEL, cases(target), target, every=False) == 25


def test_every_tile():
    target = HERE[0]
    op = LSTM.default()
    case = layer(op, 2, 8, 70)
    assert check_all(KERNEL, [case, layer(GRU.default(), 2, 7, 70, "b")], target) >= 10


def test_all_activations():
    names = ("relu", "tanh", "sigmoid", "affine", "leaky_relu", "thresholded_relu", "scaled_tanh",
             "hard_sigmoid", "elu", "softsign", "softplus")  # fmt: skip
    found = [layer(RNN.default(activations=(activation(n, 0.3, 0.7),)), 3, 2, 5, "b") for n in names]
    check_all(KERNEL, found, HERE[0], every=False)


def test_directions_are_tasks_and_samples_are_split():
    target = HERE[0].with_cores(4)
    region, arrays = layer(LSTM.default("bidirectional"), 4, 11, 20)
    emitted = KERNEL.emit(region, Params(2, 1), target)
    assert emitted.tasks == 4
    results = run(compiled([emitted], target)[0], emitted, region, arrays, splits=4)
    for got, want in zip(results, expected(region, arrays), strict=True):
        assert_agree(got, want, 1e-4, "split")
    assert KERNEL.emit(region, Params(2, 1), HERE[0]).tasks == 2


def test_lengths_out_of_range_are_forced_into_it():
    region, arrays = layer(GRU.default("bidirectional"), 4, 5, 9)
    arrays[region.op.operand_names.index("lens")] = np.asarray([9, -3, 0, 4, 2], np.int32)
    check_all(KERNEL, [(region, arrays)], HERE[0], every=False)


def free_layer(op, hidden, given, place=dense):
    """``layer`` over free steps and samples, without arrays."""
    rng = np.random.default_rng(1)
    op = op.replace(projected=True)
    x = Type(dt.f32, (Sym("s", 1, 4, 9), Sym("b", 1, 3, 20), op.directions * op.gates * hidden))
    shapes = op._shapes(x, hidden)
    operands = []
    for name in op.operand_names:
        if name not in ("x", "r", *given.split()):
            operands.append(None)
        elif name == "lens":
            operands.append(Operand(View.dense(extents(shapes[name]), dt.i32)))
        elif name in WEIGHTS:
            array = (rng.standard_normal(sh.static(shapes[name])) * 0.6).astype(np.float32)
            operands.append(Operand(dense(array.shape), array))
        else:
            operands.append(Operand(place(extents(shapes[name]))))
    outs = tuple(place(extents(t.shape)) for t in op.infer([x, *(_type(o) for o in operands[1:])]))
    return Region(f"{op.name} {op.direction} {given}", op, tuple(operands), len(operands), Input(0), outs)


@pytest.mark.parametrize("cores", [1, 3])
def test_free_steps_and_samples(cores):
    target = HERE[0].with_cores(cores)
    regions = [
        free_layer(LSTM.default("bidirectional"), 33, "b lens h0 c0 p"),
        free_layer(LSTM.default(), 16, "b h0 c0", turned),
        free_layer(GRU.default("reverse"), 20, "b lens", turned),
        free_layer(GRU.default(linear_before_reset=True), 48, "b h0"),
    ]
    candidates = [Candidate(KERNEL, Params(mr, 1)) for mr in (1, 2, 4, 5)]
    work = [(r, c.emit(r, target)) for r, c in zip(regions, candidates, strict=True)]
    rng = np.random.default_rng(2)
    for (region, emitted), function in zip(work, compiled([e for _, e in work], target), strict=True):
        for place in ((1, 1), (9, 20), (4, 7), (3, 2), (2, 13)):
            known = dict(zip("sb", place, strict=True))
            there = region.at(known)
            arrays = [None if o is None or o.const is not None else rng.standard_normal(o.view.shape).astype(np.float32) for o in there.operands]
            for k, operand in enumerate(there.operands):
                if operand is not None and operand.view.dtype is dt.i32:
                    arrays[k] = rng.integers(0, place[0] + 1, operand.view.shape).astype(np.int32)
            counted = replace(emitted, tasks=at(emitted.tasks, known))
            got = run(function, counted, there, arrays, splits=2, sizes=[at(extent(d), known) for d in emitted.dims])
            for g, want in zip(got, expected(there, arrays), strict=True):
                assert_agree(g, want, 1e-4, f"{region.name} at {place}")


def test_scratch_does_not_grow_with_steps():
    def scratch(steps):
        emitted: Emitted = KERNEL.emit(layer(LSTM.default(), steps, 2, 16)[0], Params(1, 1), HERE[0])
        return emitted.scratch

    assert scratch(2) == scratch(200)


def test_refusals():
    target = HERE[0]
    region, _ = layer(LSTM.default(), 3, 2, 8, "b")

    def changed(**fields):
        return KERNEL.accepts(replace(region, **fields), target)

    assert changed() is None
    assert changed(op=None) == "the anchor is no recurrent layer"
    assert "multiplied" in changed(op=region.op.replace(projected=False))
    free = Operand(region.operand(1).view)
    assert "constants" in changed(operands=(region.operands[0], free, *region.operands[2:]))
    none = tuple(View.dense((0, *v.shape[1:]), dt.f32) for v in region.outs)
    assert "empty" in changed(outs=none)
    wide = Operand(View.dense(region.operand(0).view.shape, dt.f64))
    assert "f32" in changed(operands=(wide, *region.operands[1:]))
