"""TFLite files that are damaged, inconsistent or not supported are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.errors import ModelError, OptionError, StropError, UnsupportedError
from strop.frontend.table import judge, read
from tests.errors.command import run
from tests.frontend.tflite_models import Maker, single

X = ((2, 3), "FLOAT32")
SHAPE = np.array([3, 2], np.int32)


def two(change: Callable[[Maker], None]) -> bytes:
    """x -> EXP -> a -> NEG -> y, changed."""
    maker = Maker()
    main = maker.main
    x = main.input("x", (2,))
    a, y = main.tensor("a", (2,)), main.tensor("y", (2,))
    main.op("EXP", [x], [a])
    main.op("NEG", [a], [y])
    main.outputs = [y]
    change(maker)
    return maker.bytes()


def _swap(maker: Maker) -> None:
    maker.main.operators.reverse()


def _twice(maker: Maker) -> None:
    maker.main.op("ABS", [0], [1])


def _no_tensor(maker: Maker) -> None:
    maker.main.op("ABS", [17], [1])


def _no_buffer(maker: Maker) -> None:
    maker.main.tensors[0]["buffer"] = 9


def _small_buffer(maker: Maker) -> None:
    maker.main.tensors[0]["buffer"] = maker.buffer(b"1234")


def _negative(maker: Maker) -> None:
    maker.main.tensors[0]["shape"] = (-5,)


def _scales(maker: Maker) -> None:
    maker.main.tensors[0].update(type="INT8", scale=[1, 2, 3])


def _infinite(maker: Maker) -> None:
    maker.main.tensors[0].update(type="INT8", scale=[np.inf])


def _no_outputs(maker: Maker) -> None:
    maker.main.outputs = []


def _recursion(maker: Maker) -> None:
    maker.main.tensors[0].update(shape=(), type="BOOL")
    maker.main.operators.clear()
    maker.main.op("IF", [0], [2], "IfOptions", ThenSubgraphIndex=0, ElseSubgraphIndex=0)


BROKEN: dict[str, tuple[Callable[[Maker], None], str]] = {
    "order": (_swap, "a tensor is read that nothing computes before"),
    "twice": (_twice, "a tensor is computed twice"),
    "tensor": (_no_tensor, "no such tensor"),
    "buffer": (_no_buffer, "no such buffer"),
    "small": (_small_buffer, "its buffer does not fit its shape"),
    "negative": (_negative, "an unsound shape"),
    "scales": (_scales, "scales do not fit the tensor"),
    "infinite": (_infinite, "a scale is not positive"),
    "outputs": (_no_outputs, "the subgraph has no outputs"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_inconsistent_files(name: str) -> None:
    change, what = BROKEN[name]
    with pytest.raises(ModelError, match=what):
        read(two(change))


def test_subgraphs_that_call_themselves() -> None:
    with pytest.raises(ModelError, match="call each other without end"):
        read(two(_recursion))


def test_truncated_files(tmp_path: Path) -> None:
    whole = two(lambda maker: None)
    for length in range(8, len(whole) - 40, 7):  # the description, which nothing reads, is at the end
        with pytest.raises(StropError):
            read(whole[:length])
    path = tmp_path / "net.tflite"
    path.write_bytes(whole[: len(whole) // 2])
    done = run("build", path, "-o", tmp_path / "net.strop")
    assert done.code == 1 and "TFLite" in done.err and not (tmp_path / "net.strop").exists()


OPERANDS: dict[str, tuple[bytes, type[StropError], str]] = {
    "reshape": (single("RESHAPE", [X, np.array([-1, -1], np.int32)], [X]), ModelError, "a shape is negative"),
    "computed shape": (single("RESHAPE", [X, ((2,), "INT32")], [X]), UnsupportedError, "operand shape must be known"),
    "option": (single("CONV_2D", [((1, 4, 4, 2), "FLOAT32"), np.ones((1, 3, 3, 2), np.float32)], [X]), ModelError, "option StrideH is missing"),
    "options of another op": (single("LEAKY_RELU", [X], [X], "ReshapeOptions", NewShape=[1]), ModelError, "option Alpha cannot be read"),
    "channels": (
        single("CONV_2D", [((1, 4, 4, 2), "FLOAT32"), np.ones((1, 3, 3, 5), np.float32)], [X], "Conv2DOptions", StrideH=1, StrideW=1),
        ModelError, "the weights do not fit the channels",
    ),
    "axis": (single("CONCATENATION", [X, X], [X], "ConcatenationOptions", Axis=7), StropError, "axis"),
    "missing": (single("ADD", [X, None], [X], "AddOptions"), ModelError, "operand 1 is missing"),
    "op": (single("RFFT2D", [X], [X]), UnsupportedError, "op RFFT2D is not supported"),
    "activation": (single("ADD", [X, X], [X], "AddOptions", FusedActivationFunction=5), UnsupportedError, "fused activation"),
    "result type": (single("EXP", [X], [((2, 3), "INT32")]), ModelError, "result 0 has another type"),
    "text": (single("EXP", [((2,), "STRING")], [X]), UnsupportedError, "element type STRING is not supported"),
    "too large": (single("BROADCAST_TO", [X, np.array([1 << 30, 2, 3], np.int32)], [X]), ModelError, "a value is too large"),
    "paddings": (single("PAD", [X, np.array([[-1, 0], [0, 0]], np.int32)], [X]), ModelError, "paddings do not fit"),
    "corners": (
        single("RESIZE_BILINEAR", [((1, 2, 2, 1), "FLOAT32"), np.array([4, 4], np.int32)], [X], "ResizeBilinearOptions", AlignCorners=True, HalfPixelCenters=True),
        UnsupportedError, "align_corners with half_pixel_centers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERANDS)
def test_operators(name: str) -> None:
    file, kind, what = OPERANDS[name]
    with pytest.raises(kind, match=what):
        read(file)


def test_custom_ops_are_refused_by_name() -> None:
    file = single("CUSTOM", [X], [X], custom="TransformLandmarks")
    with pytest.raises(UnsupportedError, match="custom op TransformLandmarks is not supported") as error:
        strop.build(file)
    assert "tflite::TransformLandmarks" in (error.value.hint or "")
    verdicts, _ = judge(file)
    assert [v.supported for v in verdicts] == [False]


def test_declared_custom_ops_are_read() -> None:
    strop.custom.elementwise("tflite::TestDouble", lambda x: x + x)
    try:
        assert [n.op.label for n in read(single("CUSTOM", [X], [X], custom="TestDouble")).nodes] == ["tflite::TestDouble"]
    finally:
        strop.custom.forget("tflite::TestDouble")


def sparse(**changes: Any) -> bytes:
    parts: dict[str, Any] = {"order": (0, 1), "blocks": (), "levels": ((2,), (3, (0, 1, 2), (1, 2)))} | changes
    maker = Maker()
    main = maker.main
    w = main.const(np.ones(2, np.float32), shape=(2, 3), sparsity=(parts["order"], parts["blocks"], parts["levels"]))
    main.outputs = [main.tensor("y", (2, 3))]
    main.op("ADD", [main.input("x", (2, 3)), w], main.outputs, "AddOptions")
    return maker.bytes()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"order": (0, 0)}, "the axes of a sparse tensor do not fit"),
        ({"levels": ((2,), (3, (0, 1), (1, 2)))}, "too few segments"),
        ({"levels": ((2,), (3, (0, 9, 2), (1, 2)))}, "out of order"),
        ({"levels": ((2,), (3, (0, 1, 2), (1, 7)))}, "index of a sparse tensor is out of range"),
        ({"levels": ((2,), (3, (0, 2, 3), (1, 2, 0)))}, "fewer values than its axes say"),
        ({"levels": ((1 << 30,), (3, (0, 1, 2), (1, 2)))}, "too large"),
    ],
)
def test_sparse_weights(changes: dict[str, Any], what: str) -> None:
    read(sparse())
    with pytest.raises(ModelError, match=what):
        read(sparse(**changes))


def variables(initialize: bool, assigned: tuple[int, ...] = (2,)) -> bytes:
    maker = Maker()
    main, init = maker.main, maker.function()
    x, handle, y = main.input("x", assigned), main.tensor("handle", (), "RESOURCE"), main.tensor("y", (2,))
    if initialize:
        main.op("CALL_ONCE", [], [], "CallOnceOptions", InitSubgraphIndex=1)
    main.op("VAR_HANDLE", [], [handle], "VarHandleOptions", SharedName="v")
    main.op("READ_VARIABLE", [handle], [y])
    main.op("ASSIGN_VARIABLE", [handle, x], [])
    main.outputs = [y]
    other = init.tensor("handle", (), "RESOURCE")
    init.op("VAR_HANDLE", [], [other], "VarHandleOptions", SharedName="v")
    init.op("ASSIGN_VARIABLE", [other, init.const(np.zeros(2), np.float32)], [])
    return maker.bytes()


def test_variables() -> None:
    read(variables(True))
    with pytest.raises(UnsupportedError, match="nothing initializes"):
        read(variables(False))
    with pytest.raises(UnsupportedError, match="a variable that changes its type"):
        read(variables(True, (5,)))


def test_options() -> None:
    file = two(lambda maker: None)
    with pytest.raises(OptionError, match="no such signature"):
        read(file, signature="serve")
    with pytest.raises(OptionError, match="a TensorFlow Lite model takes no example_inputs"):
        read(file, example_inputs=(1,))
    for shapes, what in (({"z": "3"}, "no such input"), ({"x": "3x4"}, "the wrong rank"), ({"x": (0,)}, "must be positive")):
        with pytest.raises(OptionError, match=what):
            read(file, shapes)
    assert str(read(file, {"x": "5"}).outputs[0].type) == "f32[5]"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.frontend.table.find_spec", lambda name: None)
    with pytest.raises(OptionError, match="the package tflite is not installed") as error:
        read(two(lambda maker: None))
    assert error.value.hint == "pip install 'strop[tflite]'"
