"""Nets of several operators as TFLite files."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.frontend.tflite_models import Array, Maker
from tests.frontend.tflite_recurrent import LAYERS

RNG = np.random.default_rng(3)
CONV = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}


def quantized_net() -> tuple[bytes, dict[str, Array]]:
    """conv per channel with relu, depthwise, residual add, max pool, mean, fully connected; and its weights."""
    maker = Maker()
    main = maker.main
    grid = {"scale": 0.05, "zero": -3}
    w: dict[str, Array] = {
        "conv": RNG.integers(-127, 128, (8, 3, 3, 4), np.int8), "bias": RNG.integers(-500, 500, 8).astype(np.int32),
        "scales": RNG.uniform(0.002, 0.01, 8).astype(np.float32), "depth": RNG.integers(-127, 128, (1, 3, 3, 8), np.int8),
        "dense": RNG.integers(-127, 128, (5, 8), np.int8),
    }  # fmt: skip
    x = main.input("x", (1, 8, 8, 4), "INT8", **grid)
    conv_w = main.const(w["conv"], scale=w["scales"], axis=0)
    bias = main.const(w["bias"], scale=w["scales"] * np.float32(0.05), axis=0)
    depth_w = main.const(w["depth"], scale=np.float32(0.004), axis=3)
    dense_w = main.const(w["dense"], scale=0.01)
    a, d, s = (main.tensor(n, (1, 8, 8, 8), "INT8", **grid) for n in "ads")
    p = main.tensor("p", (1, 4, 4, 8), "INT8", **grid)
    m = main.tensor("m", (1, 8), "INT8", **grid)
    y = main.tensor("y", (1, 5), "INT8", scale=0.02, zero=5)
    main.op("CONV_2D", [x, conv_w, bias], [a], "Conv2DOptions", **CONV, FusedActivationFunction=1)
    main.op("DEPTHWISE_CONV_2D", [a, depth_w], [d], "DepthwiseConv2DOptions", **CONV, DepthMultiplier=1, FusedActivationFunction=3)
    main.op("ADD", [a, d], [s], "AddOptions")
    main.op("MAX_POOL_2D", [s], [p], "Pool2DOptions", Padding=0, StrideH=2, StrideW=2, FilterHeight=2, FilterWidth=2)
    main.op("MEAN", [p, main.const([1, 2], np.int32)], [m], "ReducerOptions")
    main.op("FULLY_CONNECTED", [m, dense_w], [y], "FullyConnectedOptions")
    main.outputs = [y]
    return maker.bytes(), w


def streaming() -> bytes:
    """A queue of three values that begins with 7: y is their sum."""
    maker = Maker()
    main, init = maker.main, maker.function()
    x, handle = main.input("x", (1, 1)), main.tensor("handle", (), "RESOURCE")
    old, kept, queue = main.tensor("old", (1, 3)), main.tensor("kept", (1, 2)), main.tensor("queue", (1, 3))
    y = main.tensor("y", (1, 1))
    main.op("CALL_ONCE", [], [], "CallOnceOptions", InitSubgraphIndex=1)
    main.op("VAR_HANDLE", [], [handle], "VarHandleOptions", SharedName="queue/state")
    main.op("READ_VARIABLE", [handle], [old])
    main.op("SLICE", [old, main.const([0, 1], np.int32), main.const([1, 2], np.int32)], [kept])
    main.op("CONCATENATION", [kept, x], [queue], "ConcatenationOptions", Axis=1)
    main.op("ASSIGN_VARIABLE", [handle, queue], [])
    main.op("SUM", [queue, main.const([1], np.int32)], [y], "ReducerOptions", KeepDims=True)
    main.outputs = [y]
    other = init.tensor("handle", (), "RESOURCE")
    init.op("VAR_HANDLE", [], [other], "VarHandleOptions", SharedName="queue/state")
    init.op("ASSIGN_VARIABLE", [other, init.const(np.full((1, 3), 7), np.float32)], [])
    return maker.bytes()


def branch(code: str) -> bytes:
    """IF: x > 0 ? x + 1 : x * 2; WHILE: doubles x until it is 100 or more."""
    maker = Maker()
    main, first, second = maker.main, maker.function(), maker.function()
    main.outputs = [main.tensor("y", (1,))]
    if code == "IF":
        main.op("IF", [main.input("flag", (), "BOOL"), main.input("x", (1,))], main.outputs, "IfOptions", ThenSubgraphIndex=1, ElseSubgraphIndex=2)
        parts: list[Any] = [(first, "ADD", 1.0, "FLOAT32"), (second, "MUL", 2.0, "FLOAT32")]
    else:
        main.op("WHILE", [main.input("x", (1,))], main.outputs, "WhileOptions", CondSubgraphIndex=1, BodySubgraphIndex=2)
        parts = [(first, "LESS", 100.0, "BOOL"), (second, "MUL", 2.0, "FLOAT32")]
    for function, op, number, kind in parts:
        function.outputs = [function.tensor("r", (1,), kind)]
        function.op(op, [function.input("v", (1,)), function.const([number], np.float32)], function.outputs)
    return maker.bytes()


def composite() -> bytes:
    """x relu(x + 1), as a named function."""
    maker = Maker()
    main, inner = maker.main, maker.function()
    main.outputs = [main.tensor("y", (1, 3))]
    main.op("STABLEHLO_COMPOSITE", [main.input("x", (1, 3))], main.outputs, "StableHLOCompositeOptions", Name="own.thing", DecompositionSubgraphIndex=1)
    x, more = inner.input("v", (1, 3)), inner.tensor("more", (1, 3))
    inner.outputs = [inner.tensor("r", (1, 3))]
    inner.op("ADD", [x, inner.const([1], np.float32)], [more], "AddOptions", FusedActivationFunction=1)
    inner.op("MUL", [x, more], inner.outputs, "MulOptions")
    return maker.bytes()


def dear_branch(width: int = 320) -> bytes:
    """x[1, width] times a matrix of ones where the flag, of shape [1], holds; else x as it is."""
    maker = Maker()
    main, product, same = maker.main, maker.function(), maker.function()
    main.outputs = [main.tensor("y", (1, width))]
    main.op("IF", [main.input("flag", (1,), "BOOL"), main.input("x", (1, width))], main.outputs, "IfOptions", ThenSubgraphIndex=1, ElseSubgraphIndex=2)
    product.outputs = [product.tensor("r", (1, width))]
    ones = product.const(np.ones((width, width)), np.float32)
    product.op("FULLY_CONNECTED", [product.input("v", (1, width)), ones], product.outputs, "FullyConnectedOptions")
    same.outputs = [same.input("v", (1, width))]
    return maker.bytes()


def free_net() -> bytes:
    """x [?, 4] as [?, 2, 2], its shape computed as converters write it."""
    maker = Maker()
    main = maker.main
    x = main.input("x", (1, 4), signature=(-1, 4))
    sizes, batch, wanted, y = (main.tensor(*t) for t in (("sizes", (2,), "INT32"), ("batch", (), "INT32"), ("wanted", (3,), "INT32"), ("y", (1, 2, 2))))
    main.op("SHAPE", [x], [sizes], "ShapeOptions", OutType=2)
    main.op("STRIDED_SLICE", [sizes, *(main.const([k], np.int32) for k in (0, 1, 1))], [batch], "StridedSliceOptions", ShrinkAxisMask=1)
    two = main.const(2, np.int32)
    main.op("PACK", [batch, two, two], [wanted], "PackOptions", ValuesCount=3)
    main.op("RESHAPE", [x, wanted], [y])
    main.outputs = [y]
    return maker.bytes()


def sparse_net() -> tuple[bytes, Array]:
    """A product with weights [4, 6] in half precision, stored as CSR with blocks of 1 by 2; and the weights."""
    dense = np.zeros((4, 6), np.float16)
    dense[0, 2:4], dense[2, 0:2], dense[2, 4:6] = (1, 2), (3, 4), (5, 6)
    maker = Maker()
    main = maker.main
    levels = ((4,), (3, (0, 1, 1, 3, 3), (1, 0, 2)), (2,))
    sparse = main.const(np.array([1, 2, 3, 4, 5, 6], np.float16), shape=(4, 6), sparsity=((0, 1, 2), (1,), levels))
    half, real = main.tensor("half", (4, 6), "FLOAT16"), main.tensor("real", (4, 6))
    main.op("DENSIFY", [sparse], [half], "DensifyOptions")
    main.op("DEQUANTIZE", [half], [real])
    main.outputs = [main.tensor("y", (1, 4))]
    main.op("FULLY_CONNECTED", [main.input("x", (1, 6)), real], main.outputs, "FullyConnectedOptions")
    return maker.bytes(), dense


def every_net() -> list[bytes]:
    """All of them."""
    recurrent = [LAYERS[name]().file() for name in ("lstm coupled peephole", "lstm merged", "rnn", "svdf rank")]
    return [quantized_net()[0], streaming(), branch("IF"), branch("WHILE"), free_net(), sparse_net()[0], *recurrent]


def list_of_steps(behind: int = 1) -> bytes:
    """A loop over 5 steps that writes 2 * x[i] into row i of a list, as TensorFlow's converter writes it; the rows behind begin ``behind`` later."""
    maker = Maker()
    main, condition, body = maker.main, maker.function(), maker.function()
    x = main.input("x", (5, 3))
    main.outputs = [main.tensor("y", (5, 3))]
    given = [main.const(0, np.int32), main.const(np.zeros((5, 3)), np.float32), x]
    ends = [main.tensor("last", (), "INT32"), main.outputs[0], main.tensor("same", (5, 3))]
    main.op("WHILE", given, ends, "WhileOptions", CondSubgraphIndex=1, BodySubgraphIndex=2)
    i, *_ = (condition.input(name, shape, kind) for name, shape, kind in _STATE)
    condition.outputs = [condition.tensor("more", (), "BOOL")]
    condition.op("LESS", [i, condition.const(5, np.int32)], condition.outputs)
    i, rows, x = (body.input(name, shape, kind) for name, shape, kind in _STATE)
    step, item, double, after = body.tensor("row", (3,)), body.tensor("item", (1, 3)), body.tensor("double", (1, 3)), body.tensor("i1", (), "INT32")
    body.op("GATHER", [x, i], [step], "GatherOptions", Axis=0)
    body.op("RESHAPE", [step, body.const([1, 3], np.int32)], [item])
    body.op("ADD", [item, item], [double], "AddOptions")
    body.op("ADD", [i, body.const(behind, np.int32)], [after], "AddOptions")
    parts = []
    for number, rest, begins in ((i, -1, False), (after, 0, True)):
        one, place, part = body.tensor(f"at{rest}", (1,), "INT32"), body.tensor(f"place{rest}", (2,), "INT32"), body.tensor(f"part{rest}", (1, 1))
        body.op("RESHAPE", [number, body.const([1], np.int32)], [one])
        body.op("CONCATENATION", [one, body.const([rest], np.int32)], [place], "ConcatenationOptions", Axis=0)
        all_ = body.const([-1, -1] if begins else [0, 0], np.int32)
        body.op("SLICE", [rows, place, all_] if begins else [rows, all_, place], [part])
        parts.append(part)
    whole = body.tensor("whole", (5, 3))
    body.op("CONCATENATION", [parts[0], double, parts[1]], [whole], "ConcatenationOptions", Axis=0)
    body.outputs = [after, whole, x]
    return maker.bytes()


_STATE = (("i", (), "INT32"), ("rows", (5, 3), "FLOAT32"), ("x", (5, 3), "FLOAT32"))
