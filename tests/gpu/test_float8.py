"""8-bit floats on an NVIDIA GPU. Run with ``pytest --gpu tests/gpu``."""

from __future__ import annotations

import numpy as np
import pytest

from strop import demo_data
from strop.codegen.triton import Cubin, compile_all, jobs_of
from strop.engine.build import build, portable
from strop.engine.engine import load
from strop.ir.interp import run as interpret
from strop.kernels.oracle import difference
from strop.kernels.table import GPU_KERNELS, refusal
from strop.kernels.triton import pointwise
from strop.kernels.triton.emit import GpuEmitted
from strop.runtime.gpu_driver import device
from strop.target.base import Target
from strop.target.cuda import has_fp8
from strop.target.detect import parse
from strop.trace import Trace
from tests.gpu.test_device import _run
from tests.kernels import regions
from tests.kernels.gpu import float8

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def target() -> Target:
    found = parse(f"cuda:sm_{device().capability}")
    if not has_fp8(found):
        pytest.skip("this GPU has no products of 8-bit floats")
    return found


def _results(case: regions.Case, kernel, target: Target) -> list[np.ndarray]:
    region, arrays = case
    params = min(kernel.space(region, target), key=lambda p: kernel.cost(region, p, target))
    emitted = kernel.emit(region, params, target)
    assert isinstance(emitted, GpuEmitted)
    code = compile_all(jobs_of(emitted, [False] * len(emitted.pointers), kernel.name, target))
    assert all(isinstance(c, Cubin) for c in code), code
    return _run(device(), emitted, [c for c in code if isinstance(c, Cubin)], region, arrays)


@pytest.mark.parametrize("case", [*float8.products(), *float8.movers()], ids=lambda case: case[0].name)
def test_kernels_are_right(case, target):
    region, _ = case
    kernels = [k for k in GPU_KERNELS if refusal(k, region, target) is None]
    assert kernels
    for kernel in kernels:
        (found,), (wanted,) = _results(case, kernel, target), float8.wanted(case)
        assert difference(region, 0, found, wanted) is None, kernel.name


def test_casts_are_those_of_ml_dtypes(target):
    for case in float8.casts():
        (found,), (wanted,) = _results(case, pointwise.KERNEL, target), float8.wanted(case)
        np.testing.assert_array_equal(found.astype(np.float32), wanted.astype(np.float32), case[0].name)


def test_digits_are_named_as_on_the_processor(target, tmp_path):
    images, labels = demo_data.held_back_digits()
    graph = portable(demo_data.lenet_path(), None, Trace())
    seen: dict[str, list[np.ndarray]] = {}
    for k in range(300, 330):
        interpret(graph, {graph.inputs[0].name: images[k : k + 1].astype(np.float32)}, lambda value, array: seen.setdefault(value.name, []).append(array))
    ranges = {name: (float(np.min(arrays)), float(np.max(arrays))) for name, arrays in seen.items() if arrays[0].dtype == np.float32}
    build(demo_data.lenet_path(), target=target, level=0, precision="fp8", ranges=ranges).save(tmp_path / "lenet.strop")
    engine = load(tmp_path / "lenet.strop")
    right = sum(int(np.argmax(engine(images[k : k + 1].astype(np.float32)))) == labels[k] for k in range(300))
    assert right >= 290
