"""Layers of Network in FP16 and INT8 against numpy on the rounded problem: operands and weights lie on the grid of the precision, so that
numpy's results are those of the precision but for rounding what the layer gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from strop.engine.build import build
from strop.engine.describe import describe
from strop.frontend import network as nw
from strop.ir.interp import run
from tests.frontend import test_network_layers as some
from tests.frontend import test_network_other_layers as others
from tests.frontend.network_bench import Array, Bench, Maker, filled, pick, random

#: Values of the 8-bit grid: multiples of it, up to 127 of them.
STEP = 1 / 32


class Rounded(np.random.Generator):
    """Draws numbers of FP16."""

    def __init__(self, seed: Any) -> None:
        super().__init__(np.random.PCG64(seed))

    def standard_normal(self, size: Any = None, *more: Any) -> Any:
        return np.float64(np.float16(super().standard_normal(size, *more)))


class OnGrid(Rounded):
    """Draws numbers of the 8-bit grid."""

    def standard_normal(self, size: Any = None, *more: Any) -> Any:
        return np.clip(np.rint(np.random.Generator.standard_normal(self, size, *more) / STEP), -90, 90) * STEP


class HalfBench(Bench):
    """Floats are FP16."""

    def input(self, array: Array) -> nw.Tensor:
        return super().input(array.astype(np.float16) if array.dtype == np.float32 else array)

    def constant(self, array: Any) -> nw.Tensor:
        array = np.asarray(array)
        return super().constant(array.astype(np.float16) if array.dtype == np.float32 else array)

    def expect(self, tensor: nw.Tensor, wanted: Array, note: str = "") -> None:
        if np.abs(wanted.astype(float)).max(initial=0) < 65504:  # others are infinite
            super().expect(tensor, wanted, note)

    def check(self, tolerance: float = 2e-3, *, engine: bool = False) -> None:
        super().check(tolerance, engine=engine)


class ByteBench(Bench):
    """Operands, weights and results are quantized: Quantize and Dequantize around every layer, as a network with explicit quantization has them."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[float] = []
        self.off_grid = False

    def input(self, array: Array) -> nw.Tensor:
        tensor = super().input(array)
        if array.dtype != np.float32:
            return tensor
        whole = np.rint(array.astype(float) / STEP).astype(np.int64)
        factor = int(np.gcd.reduce(whole, axis=None)) if np.abs(whole).max(initial=0) > 127 else 1
        self.off_grid |= bool(np.any(whole * STEP != array)) or np.abs(whole).max(initial=0) > 127 * factor
        return self.grid(tensor, STEP * factor)

    def grid(self, tensor: nw.Tensor, step: float) -> nw.Tensor:
        scale = self.constant(np.float32(step))
        whole = self.net.add(nw.Quantize(), tensor, scale).output
        return self.net.add(nw.Dequantize(), whole, scale).output

    def expect(self, tensor: nw.Tensor, wanted: Array, note: str = "") -> None:
        if self.off_grid:  # the configuration has operands that INT8 does not
            self.off_grid = False
            return
        layer = tensor.producer
        if isinstance(layer, (nw.Convolution, nw.Deconvolution)):
            shape = layer.kernel.shape if layer.kernel.ndim > 1 else (layer.maps, -1, *layer.window)
            layer.set_input(1, self.grid(self.constant(layer.kernel.reshape(shape)), STEP))
        if tensor.dtype.is_float:
            self.steps.append(max(float(np.abs(wanted).max(initial=0)), 1e-3) / 127)
            tensor = self.grid(tensor, self.steps[-1])
        else:
            self.steps.append(0.0)
        super().expect(tensor, wanted, note)

    def check(self, tolerance: float = 0.505, *, engine: bool = False) -> None:
        """Results are the wanted ones rounded to the next step."""
        graph = self.net.to_graph()
        if engine:
            made = build(graph, level=0, threads=1)
            found = made.run(self.feeds)
            results = [found[name] for name in graph.output_names]
        else:
            results = list(run(graph, self.feeds).values())
        for note, step, got, wanted in zip(self.notes, self.steps, results, self.wanted, strict=True):
            assert got.shape == wanted.shape, (note, got.shape, wanted.shape)
            error = np.abs(got.astype(float) - wanted.astype(float)).max(initial=0)
            assert error <= tolerance * step + 1e-5 * np.abs(wanted).max(initial=0), (note, error, step)


HALF: tuple[Maker, ...] = (
    some.convolution, some.deconvolution, some.pooling, some.fully_connected, some.lrn, some.softmax, some.recurrent, some.scale, some.activation,
    some.elementwise, some.shuffle, some.matrix_multiply, some.concatenation, some.padding, some.reduction, others.parametric_relu, others.resize,
    others.einsum, others.normalization, others.attention,
)  # fmt: skip
BYTE: tuple[Maker, ...] = (
    some.convolution, some.deconvolution, some.pooling, some.softmax, some.scale, some.activation, some.elementwise, some.shuffle,
    some.matrix_multiply, some.concatenation, some.padding, some.reduction, others.parametric_relu, others.resize, others.einsum,
    others.normalization, others.attention,
)  # fmt: skip
#: Configurations in engines; numpy's oracle runs more.
COUNT = 40


def benched(kind: type[Bench], generator: type[Rounded], layer: Maker, count: int = COUNT) -> Bench:
    return filled(layer, count, kind(), generator(list(layer.__name__.encode())))


@pytest.mark.parametrize("layer", HALF, ids=lambda f: f.__name__)
def test_fp16_is_numpy_rounded(layer: Maker) -> None:
    benched(HalfBench, Rounded, layer, 100).check(4e-3)


@pytest.mark.parametrize("layer", BYTE, ids=lambda f: f.__name__)
def test_int8_is_numpy_rounded(layer: Maker) -> None:
    benched(ByteBench, OnGrid, layer, 100).check()


@pytest.mark.slow
@pytest.mark.parametrize("layer", HALF, ids=lambda f: f.__name__)
def test_fp16_engine_is_numpy_rounded(layer: Maker) -> None:
    benched(HalfBench, Rounded, layer).check(4e-3, engine=True)


@pytest.mark.slow
@pytest.mark.parametrize("layer", BYTE, ids=lambda f: f.__name__)
def test_int8_engine_is_numpy_rounded(layer: Maker) -> None:
    benched(ByteBench, OnGrid, layer).check(engine=True)


# ---- INT8 as the build decides it


def on_grid(w: Array, axis: int) -> Array:
    """Weights as docs/quantization.md says they are stored: i8, one scale per output channel, -127..127, halves to even."""
    scale = np.abs(w).max(tuple(k for k in range(w.ndim) if k != axis), keepdims=True) / np.float32(127)
    return np.rint(w / scale) * scale


def convolution(bench: Bench, rng: np.random.Generator) -> None:
    groups, rank = pick(rng, 1, 1, 2), 2
    k, s = [pick(rng, 1, 3, 5) for _ in range(rank)], [pick(rng, 1, 2) for _ in range(rank)]
    x = random(rng, 1, groups * pick(rng, 2, 4), 9, 11)
    w, b = np.random.Generator.standard_normal(rng, (groups * 4, x.shape[1] // groups, *k)).astype(np.float32), random(rng, groups * 4)
    counts = [(n - kk) // st + 1 for n, kk, st in zip(x.shape[2:], k, s)]
    wanted = some.convolved(x, on_grid(w, 0), b, s, (1, 1), counts, (0, 0), groups)
    bench.expect(bench.net.add(nw.Convolution(groups * 4, k, w, b, s, groups=groups), bench.input(x)).output, wanted, f"{x.shape} {w.shape} {s}")


def fully_connected(bench: Bench, rng: np.random.Generator) -> None:
    x = random(rng, pick(rng, 1, 3), pick(rng, 2, 5), pick(rng, 1, 4), 4)
    size, maps = math.prod(x.shape[1:]), pick(rng, 7, 16)
    w, b = np.random.Generator.standard_normal(rng, (maps, size)).astype(np.float32), random(rng, maps)
    wanted = (x.reshape(-1, size) @ on_grid(w, 0).T + b).reshape(-1, maps, 1, 1)
    bench.expect(bench.net.add(nw.FullyConnected(maps, w, b), bench.input(x)).output, wanted, str(x.shape))


@pytest.mark.slow
@pytest.mark.parametrize("layer", [convolution, fully_connected], ids=lambda f: f.__name__)
def test_ranges_make_layers_integer(layer: Maker) -> None:
    bench = benched(Bench, OnGrid, layer)
    graph = bench.net.to_graph()
    ranges = dict.fromkeys(bench.feeds, (-128 * STEP, 127 * STEP))
    engine = build(graph, level=0, threads=1, precision="int8", ranges=ranges)
    found = engine.run(bench.feeds)
    kernels = [step.kernel for step in describe(engine).steps]
    assert sum(kernel.startswith("conv_int8") for kernel in kernels) == COUNT, kernels
    for note, name, wanted in zip(bench.notes, graph.output_names, bench.wanted, strict=True):
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=note)
