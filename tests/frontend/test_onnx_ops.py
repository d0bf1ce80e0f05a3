"""Every import function on small graphs, over the opsets where its form changed, against the ONNX reference evaluator."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest

from strop.errors import UnsupportedError
from strop.frontend.onnx import read_onnx, supported_op_types
from strop.frontend.onnx.ops_math import PARAM_ROWS, ROWS
from strop.frontend.onnx.registry import MAX_OPSET, RULES
from strop.ir.interp import run
from strop.ops.elementwise import FUNCTIONS
from tests.frontend.onnx_models import check, compare, floats, longs, single

Case = tuple[str, str, int, list[Any], dict[str, Any]]
F = floats(2, 3, 4)
IMAGE = floats(1, 4, 6, 7)
SQUARE = floats(4, 4)
BOOL = floats(2, 3, 4) > 0
ONE_D = floats(1, 2, 9)

#: Operands of the elementwise rows that do not take (-2, 2) floats.
DOMAINS: dict[str, list[Any]] = {
    "Acos": [floats(2, 3, low=-1, high=1)],
    "Acosh": [floats(2, 3, low=1, high=3)],
    "Asin": [floats(2, 3, low=-1, high=1)],
    "Atanh": [floats(2, 3, low=-0.9, high=0.9)],
    "Log": [floats(2, 3, low=0.1, high=3)],
    "Sqrt": [floats(2, 3, low=0, high=3)],
    "Reciprocal": [floats(2, 3, low=0.5, high=3)],
    "And": [BOOL, ~BOOL[0]],
    "Or": [BOOL, ~BOOL[0]],
    "Xor": [BOOL, ~BOOL[0]],
    "Not": [BOOL],
    "BitwiseAnd": [longs(5, 9, -4), longs(3)],
    "BitwiseOr": [longs(5, 9, -4), longs(3)],
    "BitwiseXor": [longs(5, 9, -4), longs(3)],
    "BitwiseNot": [longs(5, 9, -4)],
    "Where": [BOOL, F, F[:, :1] * 2],
    "PRelu": [F, floats(3, 1, low=0, high=1)],
    "Div": [F, floats(3, 1, low=1, high=3)],
}
NAMES = {op_type: fn for op_type, fn, _ in ROWS}
BINARY = {"Add", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Sub"}


def _operands(op_type: str) -> list[Any]:
    count = FUNCTIONS[NAMES[op_type]].arity if op_type in NAMES else 1
    if "." in op_type:
        return [F, F.reshape(-1, F.shape[-1])[0]][:count]
    if op_type in DOMAINS:
        return DOMAINS[op_type]
    return [F, np.round(F[:, :1])] if op_type in BINARY else [F]


def _peer(op_type: str) -> str:
    """The reference evaluator knows ai.onnx alone."""
    return "onnxruntime" if "." in op_type else "onnx"


@pytest.mark.parametrize(("op_type", "since"), [(o, s) for o, _, s in ROWS])
def test_elementwise_row(op_type: str, since: int) -> None:
    for opset in sorted({max(since, 7), 13, MAX_OPSET}):
        if since <= opset <= onnx.defs.onnx_opset_version():
            check(*single(op_type, _operands(op_type), opset), rtol=2e-5, peer=_peer(op_type))


@pytest.mark.parametrize(("op_type", "since"), [(o, s) for o, _, s, _ in PARAM_ROWS])
def test_elementwise_row_with_attributes(op_type: str, since: int) -> None:
    attributes = {
        name: 0.75 for o, _, _, params in PARAM_ROWS if o == op_type for name, _, _ in params
    }
    opset = max(since, 13)
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"this onnx does not know opset {opset}")
    check(*single(op_type, [F], opset), peer=_peer(op_type))
    check(*single(op_type, [F], opset, **attributes), peer=_peer(op_type))


#: Where the reference evaluator is wrong or knows no answer, ONNX Runtime is asked.
ASK_ONNX_RUNTIME = {
    "BatchNormalization-7-inference",
    "BatchNormalization-9-inference",
    "ConvTranspose-11-groups",
    "ConvTranspose-11-shape",
    "GlobalLpPool-7-p 2",
    "LRN-7-size 3",
    "LogSoftmax-11-coerced",
    "MaxPool-19-pads",
    "MaxPool-19-same lower",
    "OneHot-11-depth",
    "Pad-13-value",
    "Softmax-11-coerced",
}


def case(label: str, op_type: str, opset: int, operands: list[Any], **options: Any) -> Any:
    name = f"{op_type}-{opset}-{label}"
    options["peer"] = "onnxruntime" if name in ASK_ONNX_RUNTIME else "onnx"
    return pytest.param(op_type, opset, operands, options, id=name)


IMAGE_SLICE = {"starts": longs(1, -3), "ends": longs(9, 2**63 - 1), "axes": longs(1, -1)}

MATH = [
    *(
        case("three", op, v, [F, F[:1], F[:, :1]])
        for op in ("Sum", "Max", "Min", "Mean")
        for v in (8, 13)
    ),
    *(case("one", op, 13, [F]) for op in ("Sum", "Max", "Min", "Mean")),
    case("attributes", "Clip", 6, [F], min=-0.5, max=1.0),
    case("default", "Clip", 7, [F]),
    case("both", "Clip", 13, [F, np.float32(-0.5), np.float32(1)], known=[1, 2]),
    case("upper", "Clip", 13, [F, None, np.float32(1)], known=[2]),
    case("computed", "Clip", 13, [F, np.float32(-0.5), np.float32(1)]),
    case("integers", "Clip", 13, [longs(-9, 2, 7), np.int64(0), np.int64(5)], known=[1, 2]),
    case("exact", "Gelu", 20, [F]),
    case("tanh", "Gelu", 20, [F], approximate="tanh"),
    case("same", "Pow", 7, [np.abs(F), F[0]]),
    case("integer exponent", "Pow", 15, [F, longs(2, 3, 1, 2)]),
    case("integer base", "Pow", 15, [longs(2, 3, 4), np.float32([2, 0.5, 1])]),
    case("floor", "Mod", 13, [longs(-5, 5, 7), longs(3, -3, 4)]),
    case("fmod", "Mod", 13, [F, floats(4, low=0.5, high=2)], fmod=1),
    case("both", "IsInf", 10, [np.float32([1, np.inf, -np.inf, np.nan])]),
    case("positive", "IsInf", 20, [np.float32([1, np.inf, -np.inf, np.nan])], detect_negative=0),
    case("negative", "IsInf", 20, [np.float32([1, np.inf, -np.inf])], detect_positive=0),
    case("neither", "IsInf", 20, [np.float32([1, np.inf])], detect_positive=0, detect_negative=0),
    case("left", "BitShift", 11, [np.uint8([16, 4, 1]), np.uint8([1, 2, 3])], direction="LEFT"),
    case("right", "BitShift", 11, [np.uint8([16, 4, 1]), np.uint8([1, 2, 3])], direction="RIGHT"),
    case("to int", "Cast", 13, [F], to=onnx.TensorProto.INT32),
    case("to half", "Cast", 9, [F], to=onnx.TensorProto.FLOAT16),
    case("to bool", "Cast", 13, [longs(0, 3, -1)], to=onnx.TensorProto.BOOL),
    case("like", "CastLike", 15, [F, np.zeros(1, np.float64)]),
    case("axis 1", "ArgMax", 11, [F], axis=1),
    case("last", "ArgMin", 13, [np.round(F)], axis=-1, keepdims=0, select_last_index=1),
    case("p 1", "LpNormalization", 13, [np.abs(F)], p=1, axis=1),
    case("p 2", "LpNormalization", 22, [F]),
    case("exclusive", "CumSum", 14, [F, np.int64(1)], known=[1], exclusive=1),
    case("reverse", "CumSum", 11, [F, np.int32(-1)], known=[1], reverse=1),
    case("axis", "Hardmax", 13, [F], axis=1),
    case("batched", "MatMul", 13, [floats(2, 3, 4), floats(4, 5)]),
    case("vector", "MatMul", 9, [floats(4), floats(2, 4, 5)]),
    case(
        "all",
        "Gemm",
        7,
        [floats(4, 3), floats(5, 4), floats(5)],
        transA=1,
        transB=1,
        alpha=0.5,
        beta=2.0,
    ),
    case("no C", "Gemm", 13, [floats(3, 4), floats(4, 5)], alpha=0.25),
    case("column", "Gemm", 11, [floats(3, 4), floats(4, 5), floats(3, 1)]),
]

EINSUMS = [
    case(equation, "Einsum", 12, operands, equation=equation)
    for equation, operands in (
        ("bij, bjk -> bik", [floats(2, 3, 4), floats(2, 4, 5)]),
        ("bhid,bhjd->bhij", [floats(2, 2, 3, 4), floats(2, 2, 5, 4)]),
        ("...id,jd", [floats(2, 3, 4), floats(5, 4)]),
        ("i,j->ij", [floats(3), floats(4)]),
        ("ijk->kj", [F]),
        ("ij,ij->", [SQUARE, SQUARE]),
        ("abc,cd,de->eab", [F, floats(4, 5), floats(5, 2)]),
        ("ab...,b...->...a", [floats(3, 4, 2), floats(4, 2)]),
    )
]

REDUCTIONS = sorted(o for d, o in RULES if o.startswith("Reduce") and d == "")


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("axes", [(1,), (0, -1), None])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduction(op_type: str, axes: tuple[int, ...] | None, keepdims: int) -> None:
    x = np.abs(F) + 0.1 if op_type == "ReduceLogSum" else F
    as_attribute = {} if axes is None else {"axes": axes}
    check(*single(op_type, [x], 11, keepdims=keepdims, **as_attribute))
    operands = [x] if axes is None else [x, longs(*axes)]
    check(*single(op_type, operands, 18, list(range(1, len(operands))), keepdims=keepdims))


@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin"])
def test_reduction_of_bools(op_type: str) -> None:
    check(*single(op_type, [BOOL, longs(1)], 20, known=[1]))


def test_reduction_without_axes_may_do_nothing() -> None:
    check(*single("ReduceSum", [F], 13, noop_with_empty_axes=1))
    check(*single("ReduceSum", [F, longs()], 13, known=[1]))


K2 = {"kernel_shape": [3, 2]}
WINDOWS = {
    "pads": {"pads": [1, 0, 2, 1]},
    "strides": {"strides": [2, 3], "pads": [1, 1, 0, 0]},
    "dilations": {"dilations": [2, 1]},
    "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [1, 2]},
    "valid": {"auto_pad": "VALID", "strides": [2, 2]},
}
CONVOLUTIONS = [
    *(case(k, "Conv", 11, [IMAGE, floats(5, 4, 3, 2), floats(5)], **w) for k, w in WINDOWS.items()),
    case("kernel_shape", "Conv", 1 + 6, [IMAGE, floats(5, 4, 3, 2)], **K2),
    case("groups", "Conv", 22, [IMAGE, floats(6, 2, 3, 2), floats(6)], group=2),
    case("depthwise", "Conv", 13, [IMAGE, floats(4, 1, 3, 3)], group=4, pads=[1, 1, 1, 1]),
    case("1-D", "Conv", 13, [ONE_D, floats(3, 2, 3)], strides=[2]),
    case("3-D", "Conv", 13, [floats(1, 2, 4, 5, 3), floats(3, 2, 2, 2, 2)], pads=[1] * 6),
    case("plain", "ConvTranspose", 11, [IMAGE, floats(4, 3, 3, 2), floats(3)]),
    case(
        "strides",
        "ConvTranspose",
        11,
        [IMAGE, floats(4, 3, 3, 2)],
        strides=[2, 3],
        pads=[1, 0, 1, 1],
    ),
    case(
        "padding",
        "ConvTranspose",
        22,
        [IMAGE, floats(4, 3, 3, 2)],
        strides=[2, 3],
        output_padding=[1, 2],
    ),
    case(
        "shape",
        "ConvTranspose",
        11,
        [IMAGE, floats(4, 3, 3, 3)],
        strides=[2, 2],
        output_shape=[12, 14],
    ),
    case(
        "same",
        "ConvTranspose",
        11,
        [IMAGE, floats(4, 3, 3, 3)],
        strides=[2, 2],
        auto_pad="SAME_UPPER",
    ),
    case("groups", "ConvTranspose", 11, [IMAGE, floats(4, 2, 3, 3), floats(4)], group=2),
]
POOLS = [
    *(
        case(k, op, 19, [IMAGE], **K2, **w)
        for op in ("MaxPool", "AveragePool")
        for k, w in WINDOWS.items()
    ),
    case("ceil", "MaxPool", 10, [IMAGE], **K2, strides=[2, 2], ceil_mode=1),
    case("ceil", "AveragePool", 19, [IMAGE], **K2, strides=[2, 2], ceil_mode=1),
    case("old", "MaxPool", 8, [IMAGE], **K2),
    case("counted", "AveragePool", 7, [IMAGE], **K2, pads=[1, 1, 1, 1], count_include_pad=1),
    case("1-D", "AveragePool", 11, [ONE_D], kernel_shape=[3]),
    case("3-D", "MaxPool", 12, [floats(1, 2, 4, 5, 3)], kernel_shape=[2, 2, 2]),
    case("p 1", "LpPool", 18, [IMAGE], **K2, p=1),
    case("p 2", "LpPool", 18, [IMAGE], **K2, pads=[1, 1, 1, 1]),
    case("plain", "GlobalAveragePool", 7, [IMAGE]),
    case("plain", "GlobalMaxPool", 22, [IMAGE]),
    case("p 2", "GlobalLpPool", 7, [IMAGE]),
]
CHANNEL = [floats(4, low=0.5, high=1.5, seed=s) for s in range(4)]
NORMS = [
    *(
        case("inference", "BatchNormalization", v, [IMAGE, *CHANNEL], epsilon=1e-3)
        for v in (7, 9, 14, 15)
    ),
    case("plain", "InstanceNormalization", 7, [IMAGE, *CHANNEL[:2]]),
    case(
        "per group", "GroupNormalization", 18, [IMAGE, *(c[:2] for c in CHANNEL[:2])], num_groups=2
    ),
    case("per channel", "GroupNormalization", 21, [IMAGE, *CHANNEL[:2]], num_groups=2),
    case("size 3", "LRN", 7, [IMAGE], size=3, alpha=0.1),
    case("last", "LayerNormalization", 17, [F, floats(4), floats(4)], epsilon=1e-3),
    case("axis 1", "LayerNormalization", 17, [F, floats(3, 4)], axis=1),
    case("three results", "LayerNormalization", 17, [F, floats(4), floats(4)], results=3),
    case("scale beside the axes", "LayerNormalization", 17, [F, floats(2, 1, 4), floats(1, 3, 1)]),
    case("scale of full rank", "LayerNormalization", 17, [F, floats(1, 1, 4), floats(1, 4)]),
    case("last", "RMSNormalization", 23, [F, floats(4)]),
    case("axis 1", "RMSNormalization", 23, [F, floats(2, 3, 4)], axis=1),
    case("axes", "MeanVarianceNormalization", 13, [IMAGE]),
    *(case("coerced", op, 11, [F], axis=1) for op in ("Softmax", "LogSoftmax")),
    *(case("coerced last", op, 9, [F], axis=2) for op in ("Softmax", "LogSoftmax")),
    *(case("axis", op, 13, [F], axis=1) for op in ("Softmax", "LogSoftmax")),
    case("ratio", "Dropout", 7, [F], ratio=0.4),
    case("operands", "Dropout", 13, [F, np.float32(0.4), np.bool_(False)], known=[1, 2]),
]


@pytest.mark.parametrize(
    ("op_type", "opset", "operands", "options"), [*MATH, *EINSUMS, *CONVOLUTIONS, *POOLS, *NORMS]
)
def test_math_and_layers(
    op_type: str, opset: int, operands: list[Any], options: dict[str, Any]
) -> None:
    options = dict(options)
    peer = options.pop("peer")
    check(*single(op_type, operands, opset, **options), rtol=2e-5, atol=2e-6, peer=peer)


DATA = [
    case("copy and rest", "Reshape", 7, [F, longs(0, -1)], known=[1]),
    case(
        "allowzero",
        "Reshape",
        14,
        [np.zeros((0, 3), np.float32), longs(3, 0)],
        known=[1],
        allowzero=1,
    ),
    case("axis 2", "Flatten", 9, [F], axis=2),
    case("negative", "Flatten", 13, [F], axis=-1),
    case("attribute", "Squeeze", 11, [F[:, :1]], axes=[1]),
    case("all", "Squeeze", 13, [F[:1, :, :1]]),
    case("operand", "Squeeze", 13, [F[:, :1], longs(-2)], known=[1]),
    case("attribute", "Unsqueeze", 11, [F], axes=[0, 4]),
    case("operand", "Unsqueeze", 13, [F, longs(-1, 1)], known=[1]),
    case("default", "Transpose", 7, [F]),
    case("perm", "Transpose", 21, [F], perm=[1, 0, 2]),
    case("DCR", "DepthToSpace", 7, [IMAGE], blocksize=2),
    case("CRD", "DepthToSpace", 13, [IMAGE], blocksize=2, mode="CRD"),
    case("blocks", "SpaceToDepth", 13, [IMAGE[..., :6]], blocksize=3),
    case("both ways", "Expand", 8, [F[:, :1], longs(3, 1)], known=[1]),
    case("repeats", "Tile", 13, [F, longs(1, 2, 3)], known=[1]),
    case("negative axis", "Concat", 11, [F, F[..., :2]], axis=-1),
    case("attributes", "Slice", 9, [F], starts=[0, -3], ends=[1, 3], axes=[0, 2]),
    case(
        "all operands",
        "Slice",
        13,
        [F, longs(3, 0), longs(-9, 5), longs(2, 0), longs(-2, 1)],
        known=[1, 2, 3, 4],
    ),
    case("no axes", "Slice", 10, [F, longs(0, 1), longs(2, 3)], known=[1, 2]),
    case("even", "Split", 11, [F], results=2, axis=-1),
    case("attribute", "Split", 7, [F], results=2, axis=1, split=[1, 2]),
    case("operand", "Split", 13, [F, longs(1, 0, 2)], known=[1], results=3, axis=1),
    case("num_outputs", "Split", 18, [floats(7, 2)], results=3, num_outputs=3),
    case("attributes", "Pad", 10, [F], pads=[0, 1, 0, 0, 0, 2], value=1.5),
    case("value", "Pad", 13, [F, longs(0, 1, 0, 0, -1, 2), np.float32(0.5)], known=[1, 2]),
    *(
        case(m, "Pad", 18, [F, longs(1, 2), None, longs(2)], known=[1, 3], mode=m)
        for m in ("reflect", "edge")
    ),
    case("wrap", "Pad", 19, [F, longs(0, 2, 1, 0, 1, 1)], known=[1], mode="wrap"),
    case("upper", "Trilu", 14, [F, np.int64(1)], known=[1]),
    case("lower", "Trilu", 14, [SQUARE], upper=0),
    case("plain", "Identity", 13, [F]),
    case("axis 1", "Gather", 7, [F, np.int64([[0, -1], [2, 1]])], axis=1),
    case("scalar", "Gather", 13, [F, np.int64(1)], known=[1]),
    case("axis 2", "GatherElements", 11, [F, np.int64([[[0, -1]] * 3, [[3, 1]] * 3])], axis=2),
    case("plain", "GatherND", 11, [F, np.int64([[0, 1], [1, 2]])]),
    case("batch", "GatherND", 12, [F, np.int64([[1], [2]])], batch_dims=1),
    case("plain", "ScatterElements", 11, [SQUARE, np.int64([[1, 0, 2, 3]]), floats(1, 4)], axis=0),
    case(
        "add",
        "ScatterElements",
        16,
        [SQUARE, np.int64([[1, 1]]), floats(1, 2)],
        axis=1,
        reduction="add",
    ),
    case("max", "ScatterElements", 18, [SQUARE, np.int64([[1, 1]]), floats(1, 2)], reduction="max"),
    case("plain", "ScatterND", 11, [SQUARE, np.int64([[1], [3]]), floats(2, 4)]),
    case("mul", "ScatterND", 16, [SQUARE, np.int64([[1], [1]]), floats(2, 4)], reduction="mul"),
    case("min", "ScatterND", 18, [SQUARE, np.int64([[1], [1]]), floats(2, 4)], reduction="min"),
    case(
        "depth",
        "OneHot",
        11,
        [np.int64([[0, 2], [-1, 7]]), longs(3), np.float32([0, 2])],
        known=[1],
    ),
    case(
        "float indices",
        "OneHot",
        9,
        [np.float32([0, 2]), np.int64(3), longs(1, 5)],
        known=[1],
        axis=0,
    ),
    case("operand", "TopK", 10, [F, longs(2)], known=[1], results=2),
    case("smallest", "TopK", 11, [F, longs(2)], known=[1], results=2, axis=1, largest=0),
    case("axis", "Compress", 11, [F, np.array([True, False, True])], known=[1], axis=1),
    case("flat", "Compress", 11, [F, np.array([False, True, True])], known=[1]),
    case("time first", "ReverseSequence", 10, [floats(4, 3, 2), longs(4, 1, 2)]),
    case(
        "batch first",
        "ReverseSequence",
        10,
        [floats(3, 4, 2), longs(4, 1, 2)],
        time_axis=1,
        batch_axis=0,
    ),
    case("part", "Shape", 15, [F], start=1, end=-1),
    case("whole", "Shape", 13, [F]),
    case("plain", "Size", 13, [F]),
    case(
        "value",
        "ConstantOfShape",
        9,
        [longs(2, 3)],
        known=[0],
        value=onnx.numpy_helper.from_array(longs(7)),
    ),
    case("default", "ConstantOfShape", 20, [longs(2, 3)], known=[0]),
    case("integers", "Range", 11, [np.int64(7), np.int64(-2), np.int64(-3)], known=[0, 1, 2]),
    case("floats", "Range", 11, [np.float32(0), np.float32(1), np.float32(0.3)], known=[0, 1, 2]),
    case("empty", "Range", 11, [np.int64(3), np.int64(1), np.int64(1)], known=[0, 1, 2]),
    case("diagonal", "EyeLike", 9, [SQUARE], k=1, dtype=onnx.TensorProto.INT64),
    case("known", "NonZero", 13, [np.round(F)], known=[0]),
]


@pytest.mark.parametrize(("op_type", "opset", "operands", "options"), DATA)
def test_data(op_type: str, opset: int, operands: list[Any], options: dict[str, Any]) -> None:
    options = dict(options)
    peer = options.pop("peer")
    check(*single(op_type, operands, opset, **options), peer=peer)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
)
@pytest.mark.parametrize("target", [(9, 11), (3, 5)])
def test_resize_to_sizes(mode: str, coordinates: str, target: tuple[int, int]) -> None:
    operands = [IMAGE, None, None, longs(1, 4, *target)]
    check(
        *single(
            "Resize", operands, 13, known=[3], mode=mode, coordinate_transformation_mode=coordinates
        ),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("opset", [11, 13, 18, 19])
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_resize_by_scales(opset: int, nearest: str) -> None:
    roi = np.zeros(0, np.float32) if opset == 11 else None
    operands = [IMAGE, roi, np.float32([1, 1, 2, 0.5])]
    known = [1, 2] if opset == 11 else [2]
    check(*single("Resize", operands, opset, known=known, nearest_mode=nearest))


def test_resize_crops_and_keeps_the_aspect_ratio() -> None:
    roi = np.float32([0, 0, 0.1, 0.2, 1, 1, 0.8, 1.1])
    operands = [IMAGE, roi, None, longs(1, 4, 5, 5)]
    options = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    check(
        *single("Resize", operands, 13, known=[1, 3], extrapolation_value=3.0, **options), atol=1e-5
    )
    for policy in ("not_larger", "not_smaller"):
        operands = [IMAGE, None, None, longs(12, 9)]
        check(
            *single("Resize", operands, 18, known=[3], axes=[2, 3], keep_aspect_ratio_policy=policy)
        )


@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.5, 0.5)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_and_resize_10_agree_with_onnx_runtime(
    scales: tuple[float, ...], mode: str
) -> None:
    factors = np.float32(scales)
    model, feeds = single("Resize", [IMAGE, factors], 10, known=[1], mode=mode)
    check(model, feeds, atol=1e-5, peer="onnxruntime")
    if min(scales) >= 1:
        model, feeds = single("Upsample", [IMAGE, factors], 9, known=[1], mode=mode)
        check(model, feeds, atol=1e-5, peer="onnxruntime")
        model, feeds = single("Upsample", [IMAGE], 7, mode=mode, scales=list(map(float, scales)))
        check(model, feeds, atol=1e-5, peer="onnxruntime")


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Add", {"broadcast": 1, "axis": 1}),
        ("Mul", {"broadcast": 1, "axis": 1}),
        ("PRelu", {}),
    ],
)
def test_broadcasting_of_opset_6(op_type: str, attributes: dict[str, int]) -> None:
    model, feeds = single(op_type, [F, floats(3)], 6, **attributes)
    graph = read_onnx(model)
    got = run(graph, feeds)["y0"]
    b = feeds["x1"].reshape(3, 1)
    expected = {"Add": F + b, "Mul": F * b, "PRelu": np.where(F < 0, F * b, F)}[op_type]
    compare(got, expected.astype(np.float32))


def test_gemm_and_normalization_of_opset_6() -> None:
    a, b, c = floats(3, 4), floats(4, 5), floats(5)
    model, feeds = single("Gemm", [a, b, c], 6, broadcast=1)
    compare(run(read_onnx(model), feeds)["y0"], a @ b + c)
    model, feeds = single("BatchNormalization", [IMAGE, *CHANNEL], 6, is_test=1)
    newer, _ = single("BatchNormalization", [IMAGE, *CHANNEL], 9)
    compare(run(read_onnx(model), feeds)["y0"], run(read_onnx(newer), feeds)["y0"])
    with pytest.raises(UnsupportedError, match="is_test"):
        read_onnx(single("BatchNormalization", [IMAGE, *CHANNEL], 6)[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("value", onnx.numpy_helper.from_array(F)),
        ("value_int", 7),
        ("value_ints", [3, 4]),
        ("value_float", 1.5),
        ("value_floats", [1.5, 2.0]),
    ],
)
def test_constant_forms(name: str, value: Any) -> None:
    check(*single("Constant", [], 13, **{name: value}))


@pytest.mark.parametrize("rank_2", [False, True])
def test_sparse_constant(rank_2: bool) -> None:
    values = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    flat = [1, 5]
    indices = [0, 1, 1, 2] if rank_2 else flat
    shape = [2, 2] if rank_2 else [2]
    where = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, shape, indices)
    sparse = onnx.helper.make_sparse_tensor(values, where, [2, 3])
    model, _ = single("Constant", [], 13, sparse_value=sparse)
    expected = np.zeros((2, 3), np.float32)
    expected.reshape(-1)[flat] = [1, 2]
    compare(run(read_onnx(model), {})["y0"], expected)


def test_dropout_mask_is_all_true() -> None:
    check(*single("Dropout", [F], 13, results=2))


def test_every_rule_names_a_real_op_and_opset() -> None:
    known = {(s.domain, s.name): s.since_version for s in onnx.defs.get_all_schemas_with_history()}
    first = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        first.setdefault((schema.domain, schema.name), set()).add(schema.since_version)
    newest = onnx.defs.onnx_opset_version()
    for key, rules in RULES.items():
        if key[0] == "com.microsoft" or key[1] == "SimplifiedLayerNormalization":
            continue  # ONNX Runtime's own, not in the onnx package
        for rule in rules:
            if rule.since > newest or (rule.until or 0) >= newest:
                continue
            assert key in known, key
            assert rule.since in first[key], f"{key} has no version {rule.since}"
            if rule.until is not None:
                later = {v for v in first[key] if v > rule.since}
                assert rule.until + 1 in later, f"{key} did not change after {rule.until}"


def test_no_gap_between_the_rules_of_an_op() -> None:
    for key, rules in RULES.items():
        for earlier, later in pairwise(rules):
            assert earlier.until is not None and later.since == earlier.until + 1, key


def test_ops_of_the_nets_are_supported() -> None:
    nets = """Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv Div
    Dropout Equal Erf Expand Flatten Gather Gemm GlobalAveragePool HardSigmoid HardSwish Identity
    LRN LayerNormalization MatMul MaxPool Mod Mul ReduceMean Relu Reshape Shape Sigmoid Slice
    Softmax Sqrt Squeeze Sum Transpose Unsqueeze Where"""
    assert set(nets.split()) <= set(supported_op_types())
