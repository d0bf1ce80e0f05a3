"""References against ONNX's evaluator and ONNX Runtime, on samples and random configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from strop.frontend.onnx.ops_math import PARAM_ROWS, ROWS
from strop.ir.op import REGISTRY, Op, Sample
from strop.ops.attention import Attention
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.cumulative import CumProd, CumSum
from strop.ops.data import Concat, Expand, Pad, Slice, Split, Tile, Transpose
from strop.ops.elementwise import FUNCTIONS, BitCast, Cast, Elementwise
from strop.ops.index import Gather, GatherElements, GatherND, OneHot, TopK, Trilu
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.norm import LRN, BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.recurrent import GRU, LSTM, RNN, Recurrent
from strop.ops.reduce import ArgReduce, Reduce
from strop.ops.resize import Resize
from strop.ops.roi import MaxRoiPool, RoiAlign
from strop.ops.sampling import GridSample
from strop.ops.scatter import ScatterElements, ScatterND
from strop.ops.softmax import LogSoftmax, Softmax
from tests.ops.quantized_calls import conv_integer, lacking, linear, matmul_integer
from tests.ops.test_samples import assert_close, named_samples
from tests.saturates import SATURATES

Array = np.ndarray[Any, Any]
#: ONNX operator, its inputs, its attributes.
Call = tuple[str, list[Array | None], dict[str, Any]]


def run_onnx(call: Call, like: Sequence[Array], runner: str, opset: int) -> list[Array] | None:
    """Runs one ONNX node with ``evaluator`` or ``runtime``; inputs that are None are left out.

    Args:
        like: arrays of the results' dtypes.

    Returns:
        The results; None when ONNX Runtime has no such kernel for these dtypes.
    """
    kind, arrays, attributes = call
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    outputs = [f"y{i}" for i in range(len(like))]
    node = helper.make_node(kind, names, outputs, **attributes)
    given = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in given.items()
    ]
    ends = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), None)
        for n, a in zip(outputs, like, strict=True)
    ]
    model = helper.make_model(
        helper.make_graph([node], "one", infos, ends),
        opset_imports=[helper.make_opsetid("", opset)],
    )
    if runner == "evaluator":
        return [np.asarray(a) for a in ReferenceEvaluator(model).run(None, given)]
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model.ir_version = 10
    try:
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error) or "INVALID_GRAPH" in str(error):
            return None
        raise
    return [np.asarray(a) for a in session.run(None, given)]


def ints(*values: int) -> Array:
    return np.asarray(values, np.int64)


#: Elementwise function to ONNX operator; the params have the attributes' names unless given.
ELEMENTWISE: dict[str, str] = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "min": "Min",
    "max": "Max",
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "sqrt": "Sqrt", "reciprocal": "Reciprocal",
    "exp": "Exp", "log": "Log", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin",
    "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "erf": "Erf", "floor": "Floor",
    "ceil": "Ceil", "round": "Round", "relu": "Relu", "leaky_relu": "LeakyRelu", "prelu": "PRelu",
    "elu": "Elu", "selu": "Selu", "celu": "Celu", "sigmoid": "Sigmoid", "softplus": "Softplus",
    "softsign": "Softsign", "hard_sigmoid": "HardSigmoid", "hard_swish": "HardSwish",
    "gelu": "Gelu", "mish": "Mish", "thresholded_relu": "ThresholdedRelu", "shrink": "Shrink",
    "swish": "Swish", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "isnan": "IsNaN", "isinf": "IsInf", "and": "And", "or": "Or",
    "xor": "Xor", "not": "Not", "bitand": "BitwiseAnd", "bitor": "BitwiseOr",
    "bitxor": "BitwiseXor", "bitnot": "BitwiseNot", "where": "Where",
}  # fmt: skip
#: Those whose ONNX operator differs in its attributes or inputs.
SPECIAL: dict[str, Callable[[Elementwise, list[Array]], Call]] = {
    "mod": lambda op, x: ("Mod", [*x], {"fmod": 0}),
    "fmod": lambda op, x: ("Mod", [*x], {"fmod": 1}),
    "gelu_tanh": lambda op, x: ("Gelu", [*x], {"approximate": "tanh"}),
    "shrink": lambda op, x: ("Shrink", [*x], op.param),
    "clip": lambda op, x: (
        "Clip",
        [
            x[0],
            *(np.asarray(v).astype(x[0].dtype) if np.isfinite(v) else None for _, v in op.params),
        ],
        {},
    ),
    "shl": lambda op, x: ("BitShift", [*x], {"direction": "LEFT"}),
    "shr": lambda op, x: ("BitShift", [*x], {"direction": "RIGHT"}),
}
#: Functions ONNX has no operator for, by numpy in float64.
def fixed_sum(a: Array, b: Array, scale_a: float, zero_a: float, scale_b: float, zero_b: float, scale: float, zero: float, lo: float, hi: float, signed: float) -> Array:
    """The sum of the reals that integers stand for, rounded; at these scales no sum lies near a half."""
    total = (np.float64(a) - int(zero_a)) * scale_a + (np.float64(b) - int(zero_b)) * scale_b
    return np.clip(np.floor(total / scale + 0.5) + int(zero), int(lo), int(hi)).astype(np.int8 if signed else np.uint8)


def fixed_leaky_relu(x: Array, scale_x: float, zero_x: float, scale: float, zero: float, alpha: float, signed: float) -> Array:
    """Of the reals that integers stand for, by factors rounded to 1/256."""
    whole = np.float64(x) - int(zero_x)
    factor = np.where(whole > 0, np.rint(256 * scale_x / scale), np.rint(256 * scale_x / scale * alpha)) / 256
    return np.clip(np.floor(whole * factor + 0.5) + int(zero), *((-128, 127) if signed else (0, 255))).astype(np.int8 if signed else np.uint8)


NUMPY: dict[str, Callable[..., Array]] = {
    "atan2": np.arctan2,
    "square": lambda x: x * x,
    "rsqrt": lambda x: x**-0.5,
    "trunc": np.trunc,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "ne": np.not_equal,
    "fixed_sum": fixed_sum,
    "fixed_leaky_relu": fixed_leaky_relu,
}


def elementwise(op: Elementwise, x: list[Array]) -> Call:
    if op.fn in SPECIAL:
        return SPECIAL[op.fn](op, x)
    return ELEMENTWISE[op.fn], [*x], op.param


def conv(op: Conv, x: list[Array]) -> Call:
    attributes = dict(
        strides=op.strides, pads=op.pads, dilations=op.dilations, group=op.groups
    )  # fmt: skip
    return "Conv", [*x], attributes


def conv_transpose(op: ConvTranspose, x: list[Array]) -> Call:
    attributes = dict(
        strides=op.strides,
        pads=op.pads,
        dilations=op.dilations,
        group=op.groups,
        output_padding=op.output_padding,
    )
    return "ConvTranspose", [*x], attributes


def pool(op: MaxPool | AveragePool, x: list[Array]) -> Call:
    attributes: dict[str, Any] = dict(
        kernel_shape=op.kernel,
        strides=op.strides,
        pads=op.pads,
        dilations=op.dilations,
        ceil_mode=int(op.ceil_mode),
    )
    if isinstance(op, AveragePool):
        attributes["count_include_pad"] = int(op.count_include_pad)
        return "AveragePool", [*x], attributes
    return "MaxPool", [*x], attributes


REDUCE = {
    "sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin",
    "prod": "ReduceProd", "l1": "ReduceL1", "l2": "ReduceL2", "sumsq": "ReduceSumSquare",
    "logsum": "ReduceLogSum", "logsumexp": "ReduceLogSumExp",
}  # fmt: skip


def reduce(op: Reduce, x: list[Array]) -> Call:
    attributes = {"keepdims": int(op.keepdims), "noop_with_empty_axes": 1}
    return REDUCE[op.kind], [x[0], ints(*op.axes)], attributes


def arg_reduce(op: ArgReduce, x: list[Array]) -> Call:
    attributes = dict(axis=op.axis, keepdims=int(op.keepdims), select_last_index=int(op.last))
    return "ArgMax" if op.kind == "max" else "ArgMin", [*x], attributes


def resize(op: Resize, x: list[Array]) -> Call:
    attributes = dict(
        mode=op.mode,
        coordinate_transformation_mode=op.coordinates,
        nearest_mode=op.nearest,
        cubic_coeff_a=op.cubic_a,
        exclude_outside=int(op.exclude_outside),
        extrapolation_value=op.extrapolation,
        antialias=int(op.antialias),
    )
    roi = np.asarray(op.roi, np.float32) if op.roi else None
    return "Resize", [x[0], roi, None, ints(*op.sizes)], attributes  # type: ignore[arg-type]


def slice_(op: Slice, x: list[Array]) -> Call:
    stops = [stop if stop != -1 else -(1 << 40) for stop in op.stops]
    arrays = [ints(*v) for v in (op.starts, stops, op.axes, op.steps)]  # type: ignore[misc]
    return "Slice", [x[0], *arrays], {}


def pad(op: Pad, x: list[Array]) -> Call:
    return "Pad", [x[0], ints(*op.pads), np.asarray(op.value).astype(x[0].dtype)], {"mode": op.mode}


def roi_align(op: RoiAlign, x: list[Array]) -> Call:
    attributes = dict(
        output_height=op.size[0],
        output_width=op.size[1],
        spatial_scale=op.scale,
        sampling_ratio=op.ratio,
        mode=op.mode,
        coordinate_transformation_mode="half_pixel" if op.half_pixel else "output_half_pixel",
    )
    return "RoiAlign", [*x], attributes


ACTIVATIONS = {
    "tanh": "Tanh", "sigmoid": "Sigmoid", "hard_sigmoid": "HardSigmoid", "softsign": "Softsign",
    "leaky_relu": "LeakyRelu", "affine": "Affine", "scaled_tanh": "ScaledTanh",
}  # fmt: skip


def recurrent(op: Recurrent, x: list[Array]) -> Call:
    attributes: dict[str, Any] = dict(
        direction=op.direction,
        hidden_size=x[2].shape[2],
        activations=[ACTIVATIONS[name] for name, _, _ in op.activations],
    )
    for word, place in (("alpha", 1), ("beta", 2)):
        numbers = [
            a[place] for a in op.activations if word in dict(FUNCTIONS[a[0]].params)
        ]
        if numbers:
            attributes[f"activation_{word}"] = numbers
    if np.isfinite(op.clip):
        attributes["clip"] = op.clip
    if isinstance(op, LSTM):
        attributes["input_forget"] = int(op.input_forget)
    if isinstance(op, GRU):
        attributes["linear_before_reset"] = int(op.linear_before_reset)
    return type(op).name.upper(), [None if a.shape == (0,) else a for a in x], attributes


#: Op class to its ONNX node.
CALLS: dict[type[Op], Callable[[Any, list[Array]], Call]] = {
    Conv: conv,
    ConvTranspose: conv_transpose,
    MatMul: lambda op, x: (
        "MatMul",
        [
            x[0].swapaxes(-1, -2) if op.transpose_a else x[0],
            x[1].swapaxes(-1, -2) if op.transpose_b else x[1],
        ],
        {},
    ),
    MaxPool: pool,
    AveragePool: pool,
    Reduce: reduce,
    ArgReduce: arg_reduce,
    BatchNorm: lambda op, x: ("BatchNormalization", [*x], {"epsilon": op.epsilon}),
    LayerNorm: lambda op, x: (
        "LayerNormalization",
        [*x],
        {"axis": op.axis, "epsilon": op.epsilon},
    ),
    RMSNorm: lambda op, x: ("RMSNormalization", [*x], {"axis": op.axis, "epsilon": op.epsilon}),
    GroupNorm: lambda op, x: (
        "GroupNormalization",
        [*x],
        {"num_groups": op.groups, "epsilon": op.epsilon},
    ),
    InstanceNorm: lambda op, x: ("InstanceNormalization", [*x], {"epsilon": op.epsilon}),
    LRN: lambda op, x: (
        "LRN",
        [*x],
        {"size": op.size, "alpha": op.alpha, "beta": op.beta, "bias": op.bias},
    ),
    Softmax: lambda op, x: ("Softmax", [*x], {"axis": op.axis}),
    LogSoftmax: lambda op, x: ("LogSoftmax", [*x], {"axis": op.axis}),
    Attention: lambda op, x: ("Attention", [*x], {"scale": op.scale, "is_causal": int(op.causal)}),
    Resize: resize,
    Transpose: lambda op, x: ("Transpose", [*x], {"perm": op.perm}),
    Concat: lambda op, x: ("Concat", [*x], {"axis": op.axis}),
    Slice: slice_,
    Split: lambda op, x: ("Split", [x[0], ints(*op.sizes)], {"axis": op.axis}),
    Pad: pad,
    Expand: lambda op, x: ("Expand", [x[0], ints(*op.shape)], {}),
    Tile: lambda op, x: ("Tile", [x[0], ints(*op.repeats)], {}),
    Trilu: lambda op, x: ("Trilu", [x[0], ints(op.k).reshape(())], {"upper": int(op.upper)}),
    Gather: lambda op, x: ("Gather", [*x], {"axis": op.axis}),
    GatherElements: lambda op, x: ("GatherElements", [*x], {"axis": op.axis}),
    GatherND: lambda op, x: ("GatherND", [*x], {"batch_dims": op.batch_dims}),
    ScatterND: lambda op, x: ("ScatterND", [*x], {"reduction": op.reduction}),
    ScatterElements: lambda op, x: (
        "ScatterElements",
        [*x],
        {"axis": op.axis, "reduction": op.reduction},
    ),
    OneHot: lambda op, x: (
        "OneHot",
        [x[0], np.asarray(op.depth, x[0].dtype), x[1]],
        {"axis": op.axis},
    ),
    TopK: lambda op, x: ("TopK", [x[0], ints(op.k)], {"axis": op.axis, "largest": int(op.largest)}),
    CumSum: lambda op, x: (
        "CumSum",
        [x[0], np.asarray(op.axis, np.int64)],
        {"exclusive": int(op.exclusive), "reverse": int(op.reverse)},
    ),
    CumProd: lambda op, x: (
        "CumProd",
        [x[0], np.asarray(op.axis, np.int64)],
        {"exclusive": int(op.exclusive), "reverse": int(op.reverse)},
    ),
    GridSample: lambda op, x: (
        "GridSample",
        [*x],
        {"mode": op.mode, "padding_mode": op.padding, "align_corners": int(op.align_corners)},
    ),
    RoiAlign: roi_align,
    MaxRoiPool: lambda op, x: (
        "MaxRoiPool",
        [*x],
        {"pooled_shape": op.size, "spatial_scale": op.scale},
    ),
    Quantize: linear,
    Dequantize: linear,
    IntegerMatMul: matmul_integer,
    IntegerConv: conv_integer,
    RNN: recurrent,
    GRU: recurrent,
    LSTM: recurrent,
    Cast: lambda op, x: ("Cast", [*x], {"to": helper.np_dtype_to_tensor_dtype(op.to.numpy)}),
    BitCast: lambda op, x: ("BitCast", [*x], {"to": helper.np_dtype_to_tensor_dtype(op.to.numpy)}),
}


RUNNERS = ("evaluator", "runtime")
#: Opset a node is written for: the newest that the runner has.
OPSETS = {"evaluator": 26, "runtime": 23}
#: Ops whose newest form the runtime lacks, with an opset that it has and means the same.
OLDER: dict[type[Op], int] = {RoiAlign: 16, MaxRoiPool: 16}


#: What a runner has no kernel for at its opset.
UNKNOWN: set[tuple[str, type[Op] | str]] = {
    ("runtime", "swish"),
    ("runtime", CumProd),
    ("runtime", BitCast),
    ("evaluator", LRN),
    ("evaluator", MaxRoiPool),
}


def why_not(sample: Sample, runner: str) -> str | None:
    """Why a runner cannot be asked about a sample."""
    op, x = sample.op, sample.inputs
    kinds = {a.dtype.name for a in x}
    if kinds & {"bfloat16", "float16"} or (isinstance(op, Cast) and op.to.name in ("f16", "bf16")):
        return "computed in low precision"
    if isinstance(op, Conv) and op.layout == "NHWC":
        return "ONNX has channels at axis 1 only"
    if isinstance(op, Attention) and x[0].ndim != 4:
        return "rank 4 only"
    if isinstance(op, Recurrent) and op.projected:
        return "ONNX multiplies x with its weights"
    if isinstance(op, LSTM) and op.cell_clip < np.inf:
        return "ONNX does not clip cells"
    reason = lacking(op, x, runner)
    if reason is not None:
        return reason
    check = evaluator_lacks if runner == "evaluator" else runtime_lacks
    return check(op, x, kinds)


def evaluator_lacks(op: Op, x: tuple[Array, ...], kinds: set[str]) -> str | None:
    """What ONNX's evaluator does not do, or not as ONNX says."""
    if isinstance(op, Conv | ConvTranspose) and x[0].ndim == 5:
        return "no 3-D convolution"
    if isinstance(op, ConvTranspose) and op.groups > 1:
        return "wrong with groups"
    if isinstance(op, MaxPool | AveragePool) and op.ceil_mode:
        return "windows shift when ceil_mode adds more than one element"
    if isinstance(op, Resize) and op.coordinates == "pytorch_half_pixel" and 1 in op.sizes[2:]:
        return "a result of size 1 is not taken from position 0"
    if isinstance(op, Pad) and min(op.pads) < 0:
        return "no negative pads"
    if isinstance(op, GatherElements):
        axis = op.axis % x[0].ndim
        pairs = enumerate(zip(x[0].shape, x[1].shape, strict=True))
        if any(a != b for k, (a, b) in pairs if k != axis):
            return "indices must be as long as x beside the axis"
    if isinstance(op, OneHot) and "bool" in kinds:
        return "no bool"
    if isinstance(op, MaxRoiPool):
        return "no such operator"
    if isinstance(op, GridSample) and (op.mode, op.padding) == ("cubic", "border"):
        return "moves positions to the border before it weighs, unlike PyTorch and ONNX Runtime"
    if isinstance(op, LRN):
        return "walks the batch instead of the channels"
    if isinstance(op, Reduce) and op.kind == "mean" and x[0].dtype.kind != "f":
        return "integer sums wrap"
    if x[0].ndim == 0 and (op.label == "softsign" or getattr(op, "kind", "") == "logsumexp"):
        return "no scalars"
    if isinstance(op, Resize) and "bool" in kinds:
        return "no bool"
    if isinstance(op, Recurrent) and op != type(op).default():
        return "forward with default attributes only"
    if isinstance(op, Recurrent) and (x[0].shape[0] == 0 or op.given(x).keys() & {"lens"}):
        return "no lengths, no empty sequences"
    return None


def runtime_lacks(op: Op, x: tuple[Array, ...], kinds: set[str]) -> str | None:
    """What ONNX Runtime's CPU kernels do not take."""
    if isinstance(op, MaxPool | AveragePool):
        rank = len(op.kernel)
        if any(p >= op.kernel[k % rank] for k, p in enumerate(op.pads)):
            return "pads must be smaller than the kernel"
    if isinstance(op, GridSample) and (x[0].ndim == 3 or x[0].dtype != x[1].dtype):
        return "images and volumes only"
    if isinstance(op, LRN) and (x[0].ndim != 4 or op.size % 2 == 0):
        return "rank 4 and odd sizes only"
    if isinstance(op, Attention) and len(x) == 4 and x[3].shape[-2] == 1:
        return "the mask must have every query"
    if isinstance(op, Resize) and (op.mode == "cubic" or op.antialias) and x[0].ndim != 4:
        return "rank 4 only"
    if isinstance(op, Resize) and op.mode == "cubic" and not op.antialias and min(op.scales) < 1:
        return "no shrinking"
    if isinstance(op, OneHot) and x[0].ndim == 0:
        return "no scalars"
    if op.label == "mod" and x[0].dtype.kind == "f":
        return "integers only"
    if isinstance(op, Recurrent):
        given = op.given(x)
        if "float64" in kinds:
            return "no f64"
        if x[0].shape[0] == 0 or ("lens" in given and given["lens"].min() == 0):
            return "a sample of no steps loses its first state"
    return None


def compare(sample: Sample, call: Call, runner: str) -> bool:
    """Reference and runner agree within f32 rounding; False when the runner has no kernel."""
    want = sample.op.reference(*sample.inputs)
    opset = OPSETS[runner] if runner == "evaluator" else OLDER.get(type(sample.op), OPSETS[runner])
    found = run_onnx(call, want, runner, opset)
    if found is None:
        return False
    for k, (a, b) in enumerate(zip(found, want, strict=True)):
        assert a.shape == b.shape, (sample.op, a.shape, b.shape)
        kind = np.float32 if b.dtype == np.float64 else b.dtype
        assert_close(b.astype(kind), a.astype(kind), f"{sample.op} result {k}")
    return True


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", CALLS, ids=lambda c: c.name)
def test_samples(kind: type[Op], runner: str) -> None:
    if runner == "runtime" and SATURATES and kind in (IntegerConv, IntegerMatMul):
        pytest.skip("on this processor ONNX Runtime's sums of two products of bytes saturate")
    asked = 0
    for sample in named_samples(kind.name):
        if why_not(sample, runner) is None:
            asked += compare(sample, CALLS[kind](sample.op, list(sample.inputs)), runner)
    assert asked >= 2 or (runner, kind) in UNKNOWN


def test_every_op_has_an_oracle() -> None:
    elsewhere = {"elementwise", "identity", "reshape"}  # tested below or in test_families
    elsewhere |= {"mixed_conv", "mixed_matmul", "wide_conv", "wide_matmul"}  # tests/kernels/test_matmul_mixed.py, test_conv_int16.py, tests/lower/test_quantized.py
    elsewhere |= {"max_pool_indices", "deform_columns"}  # tests/frontend: of MaxPool and DeformConv
    elsewhere |= {"non_max_suppression", "non_zero", "unique"}  # tests/engine/test_computed.py and onnx's own cases
    elsewhere |= {"iota", "read_sizes", "sizes", "loop_begin", "loop_end"}  # no ops of ONNX: tests/engine/test_computed.py, test_loops.py
    assert {c.name for c in CALLS} | elsewhere == set(REGISTRY)
    from_rows = {fn for _, fn, *_ in (*ROWS, *PARAM_ROWS)}  # tests/frontend runs every row against a peer
    assert set(ELEMENTWISE) | set(SPECIAL) | set(NUMPY) | from_rows == set(FUNCTIONS)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("fn", [*ELEMENTWISE, *SPECIAL])
def test_elementwise(fn: str, runner: str) -> None:
    asked = 0
    for sample in named_samples("elementwise"):
        if sample.op.label == fn and why_not(sample, runner) is None:
            assert isinstance(sample.op, Elementwise)
            asked += compare(sample, elementwise(sample.op, list(sample.inputs)), runner)
    assert asked >= 1 or (runner, fn) in UNKNOWN


@pytest.mark.parametrize("fn", NUMPY)
def test_elementwise_without_onnx_operator(fn: str) -> None:
    for sample in named_samples("elementwise"):
        if sample.op.label == fn:
            assert isinstance(sample.op, Elementwise)
            wide = [a.astype(np.float64) if a.dtype.kind not in "iub" else a for a in sample.inputs]
            (want,) = sample.op.reference(*sample.inputs)
            assert_close(want, np.asarray(NUMPY[fn](*wide, **sample.op.param)).astype(want.dtype), fn)


def random_windows(rng: np.random.Generator, rank: int) -> dict[str, tuple[int, ...]]:
    """Random kernel, strides, dilations and pads smaller than the window."""
    kernel = rng.integers(1, 4, rank)
    dilations = rng.integers(1, 3, rank)
    reach = (kernel - 1) * dilations + 1
    bound = kernel if rng.integers(2) else reach
    pads = np.concatenate([rng.integers(0, bound), rng.integers(0, bound)])
    numbers = {"kernel": kernel, "strides": rng.integers(1, 4, rank), "dilations": dilations}
    return {k: tuple(map(int, v)) for k, v in {**numbers, "pads": pads}.items()}


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("seed", range(25))
def test_random_convolutions(seed: int, runner: str) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 3))
    window = random_windows(rng, rank)
    kernel = window.pop("kernel")
    groups = int(rng.integers(1, 4))
    inner, outer = (groups * int(n) for n in rng.integers(1, 4, 2))
    spatial = rng.integers(7, 12, rank)
    x = rng.standard_normal((int(rng.integers(1, 3)), inner, *spatial)).astype(np.float32)
    bias = rng.standard_normal(outer).astype(np.float32)
    w = rng.standard_normal((outer, inner // groups, *kernel)).astype(np.float32)
    op = Conv(**window, groups=groups)
    compare(Sample(op, (x, w, bias)), conv(op, [x, w, bias]), runner)
    extra = tuple(int(rng.integers(0, s)) for s in window["strides"])
    back = ConvTranspose(**window, groups=groups, output_padding=extra)
    w = rng.standard_normal((inner, outer // groups, *kernel)).astype(np.float32)
    sample = Sample(back, (x, w, bias))
    if why_not(sample, runner) is None:
        compare(sample, conv_transpose(back, [x, w, bias]), runner)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("seed", range(15))
def test_random_pools(seed: int, runner: str) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 3))
    window = random_windows(rng, rank)
    x = rng.standard_normal((2, 2, *rng.integers(6, 10, rank))).astype(np.float32)
    for op in (
        MaxPool(**window),
        AveragePool(**window),
        AveragePool(**window, count_include_pad=True),
    ):
        sample = Sample(op, (x,))
        if why_not(sample, runner) is None:
            compare(sample, pool(op, [x]), runner)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("seed", range(30))
def test_random_resizes(seed: int, runner: str) -> None:
    rng = np.random.default_rng(seed)
    shape = (1, 2, *(int(n) for n in rng.integers(2, 9, 2)))
    scales = np.round(rng.uniform(0.3, 3, 2), 2)
    sizes = tuple(max(1, int(n * s)) for n, s in zip(shape[2:], scales, strict=True))
    x = rng.standard_normal(shape).astype(np.float32)
    mode = ["nearest", "linear", "cubic"][seed % 3]
    coordinates = str(rng.choice(["half_pixel", "asymmetric", "half_pixel_symmetric"]))
    exact = tuple(float(np.float32(s)) for s in scales)
    op = Resize((1, 2, *sizes), (1.0, 1.0, *exact), mode, coordinates)
    given = np.asarray([1, 1, *exact], np.float32)
    call: Call = (
        "Resize",
        [x, None, given],
        {"mode": mode, "coordinate_transformation_mode": coordinates},
    )
    floors = [int(n * s) for n, s in zip(shape[2:], exact, strict=True)]
    if list(sizes) == floors:
        compare(Sample(op, (x,)), call, runner)
    else:
        pytest.skip("the size was rounded up to 1")
