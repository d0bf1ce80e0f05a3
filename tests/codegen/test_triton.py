"""Machine code for GPUs is made without a GPU and without PyTorch, and is the code that was asked for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from strop.codegen.triton import Cubin, GpuModule, compile_all, jobs_of, text_of
from strop.ir import dtype as dt
from strop.ir.expr import Cast, Input, call
from strop.ir.op import Sample
from strop.kernels.base import Operand, Region, View
from strop.kernels.triton import (
    depthwise,
    fold,
    gather_runs,
    gemm,
    pointwise,
    recurrent_persistent,
    recurrent_steps,
    resize_taps,
)
from strop.kernels.triton.conv_gemm import KERNEL as CONV
from strop.kernels.triton.emit import GpuEmitted
from strop.kernels.triton.places import Params as Places
from strop.kernels.triton.product import Params, StreamParams
from strop.ops.conv import Conv
from strop.ops.elementwise import make
from strop.ops.index import Gather
from strop.ops.integer import IntegerConv
from strop.ops.matmul import MatMul
from strop.ops.recurrent import GRU, LSTM
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from strop.ops.wide import WideConv
from strop.target.detect import parse
from tests import golden
from tests.kernels import regions

triton = pytest.importorskip("triton", reason="the package triton is not installed")


def _conv(dtype=np.float16, groups=1):
    op = Conv((1, 1), (1, 1, 1, 1), (1, 1), groups)
    arrays = (np.ones((2, 64, 14, 14), dtype), np.ones((64, 64 // groups, 3, 3), dtype))
    return regions.anchored(Sample(op, arrays), "last", np.random.default_rng(0), constants=True)[0]


def _matmul():
    arrays = (np.ones((1000, 640), np.float16), np.ones((640, 700), np.float16))
    return regions.anchored(Sample(MatMul(), arrays), "dense", np.random.default_rng(0), constants=True)[0]


def _emitted(kernel, region, params, target) -> GpuEmitted:
    emitted = kernel.emit(region, params, target)
    assert isinstance(emitted, GpuEmitted)
    return emitted


def _sass(cubin: Cubin, folder: Path) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("the triton package carries no cuobjdump")
    path = folder / "code.cubin"
    path.write_bytes(cubin.code)
    return subprocess.run([str(tool), "-sass", str(path)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("capability", "instruction"), [(80, "HMMA"), (87, "HMMA"), (90, "HGMMA")])
def test_products_use_tensor_cores(capability, instruction, tmp_path):
    target = parse(f"cuda:sm_{capability}")
    emitted = _emitted(CONV, _conv(), Params(64, 64, 64, 4, 3), target)
    (cubin,) = compile_all(jobs_of(emitted, [True] * 3, "conv_gemm", target))
    assert isinstance(cubin, Cubin) and cubin.warps == 4 and cubin.shared > 0
    text = _sass(cubin, tmp_path)
    assert f"sm_{capability}" in text and instruction in text
    assert "LDGSTS" in text, "loads do not overlap with products"


@pytest.mark.parametrize(("capability", "instruction"), [(80, "IMMA"), (87, "IMMA"), (90, "IGMMA")])
def test_products_of_bytes_use_tensor_cores(capability, instruction, tmp_path):
    target = parse(f"cuda:sm_{capability}")
    op = IntegerConv((1, 1), (1, 1, 1, 1), (1, 1), 1)
    arrays = (np.ones((2, 64, 14, 14), np.int8), np.ones((64, 64, 3, 3), np.int8), np.asarray(-128, np.int8))
    region = regions.anchored(Sample(op, arrays), "last", np.random.default_rng(0), constants=True)[0]
    emitted = _emitted(CONV, region, Params(64, 64, 64, 4, 3), target)
    (cubin,) = compile_all(jobs_of(emitted, [True] * len(emitted.pointers), "conv_gemm", target))
    assert isinstance(cubin, Cubin), cubin
    text = _sass(cubin, tmp_path)
    assert instruction in text and "LDGSTS" in text


def test_shares_of_rounds_use_tensor_cores(tmp_path):
    target, jobs = parse("cuda:sm_90"), []
    for params in (StreamParams(128, 128, 64, 4, 3, 1, 132), StreamParams(64, 64, 64, 4, 3, 1, 77), StreamParams(64, 128, 32, 4, 4, 1, 132)):
        emitted = _emitted(gemm.KERNEL, _matmul(), params, target)
        jobs += jobs_of(emitted, [True] * len(emitted.pointers), "gemm", target)
    for cubin in compile_all(jobs):
        assert isinstance(cubin, Cubin), cubin
        text = _sass(cubin, tmp_path)
        assert "HGMMA" in text and "LDGSTS" in text


def _bytes(kernel_size=3):
    op = WideConv((1, 1), (kernel_size // 2,) * 4, (1, 1), 1)
    arrays = tuple(np.ones(shape, dt.f8e4m3.numpy) for shape in ((2, 64, 14, 14), (64, 64, kernel_size, kernel_size)))
    region = regions.anchored(Sample(op, arrays), "last", np.random.default_rng(0), constants=True)[0]
    shape = region.out.shape
    scale = Operand(View.dense((1, 64, 1, 1), dt.f32).broadcast(shape))
    value = Cast(dt.f8e4m3, call("max", Input(0) * Input(1), 0.0))
    return Region("conv", op, (*region.operands[:2], scale), 2, value, (regions.view(shape, dt.f8e4m3, "last"),))


def test_products_of_8_bit_floats_use_tensor_cores(tmp_path):
    target = parse("cuda:sm_90")
    emitted = _emitted(CONV, _bytes(), Params(64, 64, 64, 4, 3), target)
    (cubin,) = compile_all(jobs_of(emitted, [True] * len(emitted.pointers), "conv_gemm", target))
    assert isinstance(cubin, Cubin), cubin
    text = _sass(cubin, tmp_path)
    assert "QGMMA.64x64x32.F32.E4M3.E4M3" in text and re.search(r"F2FP\.SATFINITE\.\S*E4M3", text) and "LDGSTS" in text


def test_equal_steps_share_a_kernel_and_alignment_tells_them_apart():
    target, region = parse("cuda:sm_90"), _conv()
    emitted = _emitted(CONV, region, Params(64, 64, 64, 4, 3), target)
    module = GpuModule(target)
    numbers = [module.add(emitted, aligned, "conv_gemm(bm=64)", layer) for aligned, layer in (((True,) * 3, "a"), ((True,) * 3, "b"), ((False, True, True), "c"))]
    assert numbers == [0, 0, 1]
    assert module.kernels[0].layers == ["a", "b"] and len(module.jobs) == 2
    assert module.units()[0].startswith("# a, b\n")


@pytest.mark.parametrize("capability", [80, 87, 90])
def test_steps_of_a_recurrence_are_launches_of_one_code(capability):
    """A pass per step, all of the same machine code, after one launch that places the first states."""
    target, steps, hidden = parse(f"cuda:sm_{capability}"), 5, 64
    op = GRU.default("bidirectional", projected=True)
    arrays = (np.ones((steps, 20, 6 * hidden), np.float16), np.ones((2, 3 * hidden, hidden), np.float16))
    region, _ = regions.anchored(Sample(op, arrays), "dense", np.random.default_rng(0), constants=True)
    module = GpuModule(target)
    for params in (recurrent_steps.Params(16, 32, 64, 4, 3), recurrent_steps.Params(16, 64, 64, 4, 3, True), recurrent_steps.Params(1, 16, 64, 4, 1)):
        emitted = _emitted(recurrent_steps.KERNEL, region, params, target)
        module.add(emitted, (True,) * len(emitted.pointers), "recurrent_steps", str(params))
    assert [len(k.calls) for k in module.kernels] == [1 + 2 * steps, 1, 1 + 2 * steps] and len(module.jobs) == 7
    assert [c.cubin for c in module.kernels[0].calls] == [0, *[1, 2] * steps] and [c.cubin for c in module.kernels[1].calls] == [3]
    assert len(module.compile()) == 7


def _layer(samples: int) -> Region:
    op = LSTM.default("bidirectional", projected=True)
    arrays = (np.ones((30, samples, 8 * 512), np.float16), np.ones((2, 4 * 512, 512), np.float16))
    return regions.anchored(Sample(op, arrays), "dense", np.random.default_rng(0), constants=True)[0]


@pytest.mark.parametrize(
    ("samples", "params", "shared"),
    [
        (1, recurrent_persistent.Params(1, 8, 512, 4), 0),
        (16, recurrent_persistent.Params(16, 8, 512, 4, True), 32),
        (64, recurrent_persistent.Params(64, 16, 512, 8), 64),
    ],
    ids=["sums", "split", "tiles"],
)
def test_weights_of_a_recurrence_are_read_once(samples, params, shared, tmp_path):
    """Loads of weights are before the loop, which reads states behind the wait; factors of tensor cores are kept in shared memory."""
    target = parse("cuda:sm_90")
    emitted = _emitted(recurrent_persistent.KERNEL, _layer(samples), params, target)
    assert params in recurrent_persistent.KERNEL.space(_layer(samples), target)
    module = GpuModule(target)
    module.add(emitted, (True,) * len(emitted.pointers), "recurrent_persistent", "layer")
    assert [(len(k.calls), k.cooperative, k.locks) for k in module.kernels] == [(1, True, 64)]
    (cubin,) = module.compile()
    assert cubin.shared >= shared * 1024
    text = _sass(cubin, tmp_path)
    waits = text.index("CCTL.IVALL")
    assert text.count("LDG.E.128") > 0 and "LDG.E.128" not in text[waits:].replace("LDG.E.128.STRONG.GPU", "")


def test_what_does_not_compile_says_why():
    target = parse("cuda:sm_80")
    emitted = _emitted(CONV, _conv(), Params(128, 256, 128, 8, 5), target)  # more shared memory than there is
    (found,) = compile_all(jobs_of(emitted, [True] * 3, "conv_gemm", target))
    assert isinstance(found, (str, Cubin))
    if isinstance(found, Cubin):
        assert found.shared > 163 * 1024


_GOLDEN = {
    "gather_runs": lambda: (
        gather_runs.KERNEL,
        regions.anchored(Sample(Gather(0), (np.ones((300, 96), np.float16), np.ones((2, 7), np.int64))), "dense", np.random.default_rng(0))[0],
        Places(4, 64, 1),
    ),
    "gemm_stream": lambda: (gemm.KERNEL, _matmul(), StreamParams(128, 128, 64, 4, 3, 1, 132)),
    "resize_taps": lambda: (
        resize_taps.KERNEL,
        regions.anchored(Sample(Resize((1, 24, 14, 14), (1.0, 1.0, 2.0, 2.0), "linear"), (np.ones((1, 24, 7, 7), np.float16),)), "last", np.random.default_rng(0))[0],
        Places(8, 32, 1),
    ),
    "conv_gemm": lambda: (CONV, _conv(), Params(64, 64, 64, 4, 3, 3)),
    "conv_gemm_f8e4m3": lambda: (CONV, _bytes(), Params(64, 64, 64, 4, 3, 3)),
    "depthwise": lambda: (depthwise.KERNEL, _conv(groups=64), depthwise.Params(8, 64, 4)),
    "fold": lambda: (
        fold.KERNEL,
        regions.anchored(Sample(Reduce("mean", (2, 3)), (np.ones((2, 64, 7, 7), np.float16),)), "last", np.random.default_rng(0))[0],
        fold.Params(32, 64, 4),
    ),
    "recurrent_persistent": lambda: (recurrent_persistent.KERNEL, _layer(64), recurrent_persistent.Params(64, 16, 512, 8)),
    "pointwise": lambda: (
        pointwise.KERNEL, regions.elementwise(Sample(make("hard_swish"), (np.ones((2, 5, 7), np.float16),)), "dense"), pointwise.Params(256, 1, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _GOLDEN)
def test_text_is_golden(name, request):
    kernel, region, params = _GOLDEN[name]()
    region = region[0] if isinstance(region, tuple) else region
    golden.check(f"triton/{name}.py.txt", text_of(_emitted(kernel, region, params, parse("cuda:sm_90")), 0, name), request.config)
