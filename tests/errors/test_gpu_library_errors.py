"""What goes wrong around calls of cuBLASLt and cuDNN, and how it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strop.engine.build import build
from strop.engine.cubins import GpuKernel, decode, encode
from strop.engine.engine import load
from strop.engine.library_calls import LibraryCall, Lying, call_of
from strop.engine.plan import Arg, Plan, Space
from strop.engine.plan import Step as PlanStep
from strop.errors import EngineFileError, TargetError
from strop.runtime.gpu_library_files import NoAlgorithm
from strop.runtime.gpu_session import _libraries
from tests.gpu.library_net import network
from tests.runtime.fake_libraries import install
from tests.runtime.test_gpu_libraries import convolution, engine_path, fakes, product  # noqa: F401
from tests.runtime.test_gpu_session import driver  # noqa: F401


@pytest.mark.parametrize(("absent", "title", "package"), [("cublaslt", "cuBLASLt", "nvidia-cublas"), ("cudnn", "cuDNN", "nvidia-cudnn-cu13")])
def test_a_build_without_a_library(absent, title, package, monkeypatch):
    install(monkeypatch, absent)
    with pytest.raises(TargetError, match=f"needs {title}") as caught:
        build(network(), target="cuda:sm_90+libraries", level=0, precision="fp16")
    assert f"pip install {package}" in str(caught.value) and "without +libraries" in str(caught.value)


def test_an_engine_without_its_library(engine_path, driver, monkeypatch):  # noqa: F811
    install(monkeypatch, "cudnn")
    with pytest.raises(TargetError, match=r"step 'n0' of the engine calls cuDNN 9\.28\.1") as caught:
        load(engine_path).context()
    assert "no libcudnn.so.9" in str(caught.value) and "pip install nvidia-cudnn-cu13" in str(caught.value) and str(engine_path) in str(caught.value)


def test_an_engine_of_another_version(engine_path, driver, monkeypatch):  # noqa: F811
    install(monkeypatch)["cublaslt"].version = 130200
    with pytest.raises(TargetError, match=r"of the engine calls cuBLASLt 13\.1\.0") as caught:
        load(engine_path).context()
    assert "got: cuBLASLt 13.2.0" in str(caught.value)


def test_an_engine_whose_algorithm_is_not_here(engine_path, driver, monkeypatch):  # noqa: F811
    install(monkeypatch)["cudnn"].algorithms = 1
    with pytest.raises(NoAlgorithm, match="no such algorithm") as caught:
        load(engine_path).context()
    assert "build again on this machine" in str(caught.value)


def _operand(name: str, **changes: Any) -> dict[str, Any]:
    """The product with one operand changed."""
    row = product()
    at = ["dtype", "shape", "strides"]
    return {**row, "operands": [[n, *(changes.get(k, v) if n == name else v for k, v in zip(at, rest, strict=True))] for n, *rest in row["operands"]]}


@pytest.mark.parametrize(
    "row",
    [
        product(library="cufft"), product(act="gelu"), product(act=["relu"]), product(version=""), product(version=3), product(rank=-1), product(rank=64),
        product(rank=True), product(tf32=1), product(operands=[]), product(operands=product()["operands"][:2]), product(operands=product()["operands"][::-1]),
        product(window=[0] * 8), convolution(window=[]), convolution(window=[0, 0, 1, 1, 2, 2, 1]), convolution(window=[0, 0, 1, 1, 0, 2, 1, 1]),
        convolution(window=[0, 0, 0, 0, 1, 1, 1, 1]), convolution(window=[0, 0, 1, 1, 2, 2, 99, 1]), convolution(library="cublaslt", version="13.1.0"),
        _operand("x", dtype="i64"), _operand("x", dtype="f32"), _operand("x", shape=[1, 16, 9]), _operand("x", strides=[128, 8, 2]), _operand("x", strides=[128, 8, -1]),
        _operand("x", shape=[1, 16]), _operand("w", shape=[2, 8, 24]), _operand("y", strides=[512, 1, 32]), _operand("y", shape=[1, 16, 1 << 40]),
        _operand("bias", shape=[23]), _operand("bias", strides=[2]), _operand("added", shape=[1, 1, 24]), _operand("y", strides=[0, 1 << 40, 1]), 3, {}, None,
    ],
)  # fmt: skip
def test_malformed_calls(row):
    with pytest.raises((ValueError, KeyError, TypeError)):
        call_of(row)
    data = encode([], [GpuKernel((), 32 << 20, 0, library=_Raw(row))])  # type: ignore[arg-type]
    with pytest.raises(EngineFileError, match="the GPU code of the engine is malformed"):
        decode(data)


class _Raw:
    def __init__(self, row: Any) -> None:
        self._row = row

    def row(self) -> Any:
        return self._row


@pytest.mark.parametrize("changes", [{"workspace": 0}, {"locks": 1}])
def test_a_call_with_what_only_launches_have(changes):
    kernel = replace(GpuKernel((), 32 << 20, 0, library=call_of(product())), **changes)
    with pytest.raises(EngineFileError, match="the GPU code of the engine is malformed"):
        decode(encode([], [kernel]))


def test_sections_with_calls_are_read_back():
    kernels = (GpuKernel((), 32 << 20, 0, library=call_of(product())), GpuKernel((), 32 << 20, 0, library=call_of(convolution(act="gelu"))))
    assert decode(encode([], kernels)) == ((), kernels)


@pytest.mark.parametrize(
    ("change", "scratch"),
    [(None, (32 << 20) - 1), (lambda args: args[:-1], 32 << 20), (lambda args: [replace(args[0], size=args[0].size - 1), *args[1:]], 32 << 20),
     (lambda args: [replace(args[0], offset=8), *args[1:]], 32 << 20)],
)  # fmt: skip
def test_operands_that_do_not_fit_a_call(change, scratch, fakes):  # noqa: F811
    call = call_of(product())
    args = [Arg(Space.ARENA, 1024 * k, call.operands[name].reach) for k, name in enumerate(call.names)]
    kernels = [GpuKernel((), 32 << 20, 0, library=call)]
    plan = Plan((), (), (PlanStep("fc", 0, tuple(args), 1),), 1 << 16, 32 << 20, 1, True)
    assert list(_libraries(plan, kernels, "here")) == [0]
    spoilt = replace(plan, steps=(PlanStep("fc", 0, tuple(change(args) if change else args), 1),), scratch_bytes=scratch)
    with pytest.raises(EngineFileError, match="do not fit the library's call") as caught:
        _libraries(spoilt, kernels, "here")
    assert "here, step 'fc'" in str(caught.value)


def test_the_rows_that_are_malformed_are_right_but_for_one_thing():
    assert isinstance(call_of(product()), LibraryCall) and isinstance(call_of(convolution()), LibraryCall)
    assert call_of(_operand("x")).operands["x"] == Lying(call_of(product()).operands["x"].dtype, (1, 16, 8), (128, 8, 1))
