"""Engines for GPUs: built on any machine, refused clearly where they cannot run."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from strop import demo_data
from strop.engine import cubins
from strop.engine.build import build
from strop.engine.cubins import Code, GpuKernel, decode, encode
from strop.engine.engine import Engine, load
from strop.engine.format import EngineFile, SectionKind
from strop.engine.plan import decode_plan
from strop.errors import EngineFileError

_CODES = (Code("f", b"\x7fELF1", 1024, 4), Code("g", b"\x7fELF23", 0, 8))
_KERNELS = (GpuKernel(((0, (3, 1, 2)), (1, (7, 1, 1))), 512, 3), GpuKernel(((1, (1, 1, 1)),), 0, 0, True))


def test_code_and_launches_survive():
    assert decode(encode(_CODES, _KERNELS)) == (_CODES, _KERNELS)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["codes"][0].__setitem__(1, 1 << 30),
        lambda index: index["codes"][0].__setitem__(2, -1),
        lambda index: index["codes"][0].__setitem__(0, "not a name"),
        lambda index: index["codes"][0].__setitem__(4, 64),
        lambda index: index["kernels"][0][0][0].__setitem__(0, 2),
        lambda index: index["kernels"][0][0][0].__setitem__(1, 0),
        lambda index: index["kernels"][0][0][0].__setitem__(2, 1 << 20),
        lambda index: index["kernels"][0].__setitem__(1, True),
        lambda index: index["kernels"][1].__setitem__(3, 2),
        lambda index: index["kernels"][1].__setitem__(3, True),
        lambda index: index["kernels"][1].pop(),
        lambda index: index.pop("kernels"),
    ],
)
def test_hostile_numbers_are_refused(change):
    data = encode(_CODES, _KERNELS)
    (size,) = struct.unpack_from("<I", data)
    index = json.loads(data[4 : 4 + size])
    change(index)
    text = json.dumps(index).encode()
    with pytest.raises(EngineFileError, match="GPU code of the engine is malformed"):
        decode(struct.pack("<I", len(text)) + text + data[4 + size :])


@pytest.mark.parametrize("size", [0, 3, 4, 20])
def test_truncated_code_is_refused(size):
    with pytest.raises(EngineFileError, match="malformed"):
        decode(encode(_CODES, _KERNELS)[:size])


@pytest.fixture(scope="module")
def lenet() -> Engine:
    pytest.importorskip("triton", reason="the package triton is not installed")
    return build(demo_data.lenet_path(), target="cuda:sm_90", level=0, precision="fp16")


def test_an_engine_for_a_gpu_is_built_without_one(lenet, tmp_path):
    lenet.save(tmp_path / "lenet.strop")
    file = EngineFile(tmp_path / "lenet.strop")
    names = {entry.kind: entry.name for entry in file.sections}
    assert names[SectionKind.KERNELS] == "cuda:sm_90" and SectionKind.RUNTIME not in names
    assert lenet.manifest["target"] == "cuda:sm_90"
    codes, kernels = decode(file.read(file.find(SectionKind.KERNELS)).tobytes())
    weights = file.read(file.find(SectionKind.WEIGHTS))
    plan = decode_plan(file.read(file.find(SectionKind.PLAN)), len(weights))
    assert all(code.data.startswith(b"\x7fELF") for code in codes)
    assert plan.n_kernels == len(kernels) and max(step.kernel for step in plan.steps) == len(kernels) - 1
    convolutions = [step for step in lenet.manifest["steps"] if step["kernel"].startswith("conv_gemm")]
    assert len(convolutions) == 2 and all(step["epilogue"] for step in convolutions)


def test_the_same_build_gives_the_same_bytes(lenet, tmp_path):
    again = build(demo_data.lenet_path(), target="cuda:sm_90", level=0, precision="fp16")
    for engine, name in ((lenet, "a"), (again, "b")):
        engine.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_code_of_another_kind_is_no_gpu_code(tmp_path):
    path = tmp_path / "cpu.strop"
    build(demo_data.lenet_path(), level=0).save(path)
    assert not any(e.name.startswith(cubins.PREFIX) for e in EngineFile(path).sections)
    assert load(path)(np.zeros((1, 1, 28, 28), np.float32)).shape == (1, 10)
