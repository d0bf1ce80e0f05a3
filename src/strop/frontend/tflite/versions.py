"""The least version of each operator that knows what one uses, and the least runtime that knows these versions.

Source: tensorflow/lite/tools/versioning/op_version.cc and runtime_version.cc.
"""

from __future__ import annotations

from collections.abc import Iterable

from strop.frontend.tflite.records import OutOperator
from strop.ir import dtype as dt

#: Versions by the type of the first operand that is no constant: of i8, of i16. Others have 1.
_BY_TYPE: dict[str, tuple[int, int]] = {
    "ABS": (2, 3), "ADD": (2, 4), "ARG_MAX": (2, 3), "ARG_MIN": (2, 3), "AVERAGE_POOL_2D": (2, 3), "BATCH_MATMUL": (2, 3), "BATCH_TO_SPACE_ND": (2, 3),
    "BROADCAST_TO": (2, 2), "CONCATENATION": (2, 3), "DEPTH_TO_SPACE": (2, 2), "DIV": (1, 1), "EQUAL": (2, 2), "EXP": (2, 2), "GATHER": (2, 4),
    "GREATER": (2, 2), "GREATER_EQUAL": (2, 2), "LEAKY_RELU": (1, 2), "LESS": (2, 2), "LESS_EQUAL": (2, 2), "LOGISTIC": (2, 3), "LOG_SOFTMAX": (2, 2),
    "MAXIMUM": (2, 3), "MAX_POOL_2D": (2, 3), "MEAN": (2, 3), "MINIMUM": (2, 3), "MIRROR_PAD": (2, 3), "MUL": (2, 4), "NOT_EQUAL": (2, 2), "PACK": (2, 3),
    "PAD": (2, 3), "PADV2": (2, 3), "REDUCE_MAX": (2, 3), "REDUCE_MIN": (2, 3), "RELU": (2, 3), "RELU6": (2, 3), "RELU_N1_TO_1": (2, 3),
    "RESIZE_BILINEAR": (2, 4), "RESIZE_NEAREST_NEIGHBOR": (2, 4), "RSQRT": (2, 3), "SELECT_V2": (1, 1), "SLICE": (2, 4), "SOFTMAX": (2, 3),
    "SPACE_TO_BATCH_ND": (2, 3), "SPACE_TO_DEPTH": (2, 2), "SPLIT": (2, 4), "SPLIT_V": (2, 2), "SQUARED_DIFFERENCE": (2, 2), "STRIDED_SLICE": (2, 4),
    "SUB": (2, 4), "SUM": (2, 2), "TANH": (2, 3), "TILE": (1, 2), "TOPK_V2": (2, 3), "TRANSPOSE": (2, 4), "TRANSPOSE_CONV": (2, 3), "UNPACK": (2, 4),
}  # fmt: skip
#: Versions below which no runtime has ever gone.
_FIRST = {"BROADCAST_TO": 2}
#: Releases that introduced the newest of these versions.
_RUNTIMES = {("GELU", 1): "2.9.0", ("FULLY_CONNECTED", 12): "2.17.0"}
_LEAST = "1.14.0"


def version_of(operator: OutOperator) -> int:
    """The version that an operator needs."""
    given = [t for t in operator.operands if t.data is None]
    kind = given[0].dtype if given else dt.f32
    if operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return _product(operator)
    if operator.code in ("DEQUANTIZE", "QUANTIZE"):
        return _requantizing(operator)
    by_type = _BY_TYPE.get(operator.code, (1, 1))
    version = by_type[0] if kind in (dt.i8, dt.u8) else by_type[1] if kind is dt.i16 else _FIRST.get(operator.code, 1)
    if operator.fields.get("HalfPixelCenters"):
        version = max(version, 3)
    if operator.code in ("ADD", "SUB", "MUL", "DIV") and any(len(t.shape) > 4 for t in operator.operands):
        version = max(version, 3 if operator.code != "DIV" else 2)
    if operator.code in ("TRANSPOSE", "SLICE", "PAD", "PADV2") and any(len(t.shape) > 4 for t in operator.operands):
        version = max(version, {"TRANSPOSE": 5, "SLICE": 5}.get(operator.code, 4))
    if operator.code == "TRANSPOSE_CONV" and len(operator.inputs) > 3:
        version = max(version, 3)
    if operator.code == "GATHER" and operator.fields.get("BatchDims"):
        version = max(version, 5)
    return version


def _product(operator: OutOperator) -> int:
    x, w = operator.operands[:2]
    hybrid = x.dtype is dt.f32 and w.dtype is dt.i8
    channels = w.grid is not None and w.grid.scale.size > 1
    if operator.code == "CONV_2D":
        return 4 if x.dtype is dt.i16 else 3 if x.dtype is dt.i8 else (5 if channels else 2) if hybrid else 1
    if operator.code == "DEPTHWISE_CONV_2D":
        dilated = any(operator.fields.get(f"Dilation{a}Factor", 1) != 1 for a in "HW")
        return 5 if x.dtype is dt.i16 else 3 if x.dtype is dt.i8 else (6 if channels else 4) if hybrid else 2 if dilated else 1
    if channels:
        return 12
    keeps = operator.fields.get("KeepNumDims", False)
    if x.dtype is dt.i16:
        return 7
    if len(operator.operands) < 3:
        return 6
    return 5 if keeps else 4 if x.dtype is dt.i8 else 3 if hybrid else 1


def _requantizing(operator: OutOperator) -> int:
    given, made = operator.operands[0], operator.outputs[0]
    if operator.code == "DEQUANTIZE":
        channels = given.grid is not None and given.grid.scale.size > 1
        return 5 if channels else 3 if given.dtype in (dt.f16, dt.i16) else 2 if given.dtype is dt.i8 else 1
    return 2 if given.dtype is not dt.f32 or made.dtype is dt.i16 else 1


def runtime_version(codes: Iterable[tuple[str, int]]) -> str:
    """The least release of TensorFlow whose interpreter knows these operators."""
    found = [_RUNTIMES.get(code, _LEAST) for code in codes]
    return max([*found, _LEAST], key=lambda text: tuple(int(part) for part in text.split(".")))
