"""ATen normalization, softmax and dropout."""

from __future__ import annotations

import numpy as np

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.ops_reduce import moments
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Value
from strop.ops.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.softmax import LogSoftmax, Softmax

_EVAL = "call module.eval() before the export"


def _param(node: NodeContext, name: str, shape: tuple[int, ...], default: float, dtype: DType) -> Value:
    """A parameter, or one number repeated where it is left out."""
    given = node.optional(name)
    return node.const(np.full(shape, default, dtype.numpy)) if given is None else node.cast(given, dtype)


def _channels(node: NodeContext, x: Value) -> tuple[int, ...]:
    return node.static(x.shape[1:2])


def _wide(x: Value, *params: Value | None) -> DType:
    """The widest dtype of x and parameters: what PyTorch computes in."""
    return max([x.dtype, *(p.dtype for p in params if p is not None)], key=lambda d: d.size)


@torch_op("aten._native_batch_norm_legit_no_training.default")
def batch_norm(node: NodeContext) -> tuple[Value, ...]:
    """With the statistics of the training."""
    x = node.tensor("input")
    mean, variance = node.tensor("running_mean"), node.tensor("running_var")
    kind, channels = _wide(x, mean, node.optional("weight")), _channels(node, x)
    params = [_param(node, "weight", channels, 1.0, kind), _param(node, "bias", channels, 0.0, kind)]
    result = node.step(BatchNorm(node.number("eps")), node.cast(x, kind), *params, node.cast(mean, kind), node.cast(variance, kind))
    return (node.cast(result, x.dtype),)


@torch_op("aten._native_batch_norm_legit.no_stats")
def batch_norm_alone(node: NodeContext) -> tuple[Value, ...]:
    """With the statistics of the operand itself, as instance norms are spelled out: over all axes but the channels'."""
    x = node.tensor("input")
    channels = _channels(node, x)
    params = [_param(node, "weight", channels, 1.0, x.dtype), _param(node, "bias", channels, 0.0, x.dtype)]
    if x.shape[0] == 1:
        return (node.step(InstanceNorm(node.number("eps")), x, *params),)
    axes = tuple(k for k in range(x.type.rank) if k != 1)
    variance, mean = moments(node, x, axes, 0.0, True)
    column = (*channels, *(1,) * (x.type.rank - 2))
    scale, bias = (node.reshape(p, column) for p in params)
    unit = node.apply("rsqrt", node.apply("add", variance, node.like(node.number("eps"), x)))
    plain = node.apply("mul", node.apply("sub", x, mean), unit)
    return (node.apply("add", node.apply("mul", plain, scale), bias),)


@torch_op("aten.instance_norm.default")
def instance_norm(node: NodeContext) -> Value:
    """Per sample and channel; with the statistics of the training it is a batch norm."""
    x = node.tensor("input")
    channels = _channels(node, x)
    params = [_param(node, "weight", channels, 1.0, x.dtype), _param(node, "bias", channels, 0.0, x.dtype)]
    epsilon = node.number("eps")
    if node.flag("use_input_stats"):
        return node.step(InstanceNorm(epsilon), x, *params)
    return node.step(BatchNorm(epsilon), x, *params, node.tensor("running_mean"), node.tensor("running_var"))


@torch_op("aten.group_norm.default", "aten.native_group_norm.default")
def group_norm(node: NodeContext) -> tuple[Value, ...]:
    x = node.tensor("input")
    channels = _channels(node, x)
    groups = node.integer("num_groups" if "num_groups" in node.args else "group")
    params = [_param(node, "weight", channels, 1.0, x.dtype), _param(node, "bias", channels, 0.0, x.dtype)]
    return (node.step(GroupNorm(groups, node.number("eps")), x, *params),)


@torch_op("aten.layer_norm.default", "aten.native_layer_norm.default")
def layer_norm(node: NodeContext) -> tuple[Value, ...]:
    """Results 1 and 2, mean and inverse deviation, are computed beside it where they are read."""
    x = node.tensor("input")
    inner = node.static(tuple(node.arg("normalized_shape")))
    axis, epsilon = x.type.rank - len(inner), node.number("eps")
    kind = _wide(x, node.optional("weight"))
    params = [_param(node, "weight", inner, 1.0, kind)]
    if node.optional("bias") is not None:
        params.append(node.cast(node.tensor("bias"), kind))
    result = node.cast(node.step(LayerNorm(axis, epsilon), node.cast(x, kind), *params), x.dtype)
    if not any(node.wanted[1:]):
        return (result,)
    variance, mean = moments(node, x, tuple(range(axis, x.type.rank)), 0.0, True)
    return result, mean, node.apply("rsqrt", node.apply("add", variance, node.like(epsilon, x)))


@torch_op("aten.rms_norm.default", "aten._fused_rms_norm.default")
def rms_norm(node: NodeContext) -> tuple[Value, ...]:
    """Without an epsilon: the distance from 1 to the next number of the dtype that is computed in."""
    x = node.tensor("input")
    inner = node.static(tuple(node.arg("normalized_shape")))
    axis = x.type.rank - len(inner)
    given = node.arg("eps")
    wide = np.float64 if x.dtype is dt.f64 else np.float32
    epsilon = float(np.finfo(wide).eps) if given is None else float(given)
    return (node.step(RMSNorm(axis, epsilon), x, _param(node, "weight", inner, 1.0, x.dtype)),)


# ---- softmax


@torch_op("aten.softmax.int", "aten._softmax.default", "aten._safe_softmax.default", "aten.log_softmax.int", "aten._log_softmax.default")
def softmax(node: NodeContext) -> Value:
    """Computed in the dtype of the result. The safe one gives zeros where every operand is minus infinity."""
    x = node.cast(node.tensor(), node.result.dtype)
    op = LogSoftmax if "log_softmax" in node.op else Softmax
    if x.type.rank == 0:
        return node.reshape(node.step(op(0), node.reshape(x, (1,))), ())
    result = node.step(op(node.axis()), x)
    if "_safe" in node.op:
        nothing = node.apply("isnan", result)
        return node.apply("where", nothing, node.like(0, result), result)
    return result


# ---- dropout


@torch_op("aten.native_dropout.default")
def dropout(node: NodeContext) -> tuple[Value | None, ...]:
    """Does nothing in inference; the mask (result 1) is all true."""
    if node.flag("train") and node.number("p") != 0:
        raise node.unsupported("dropout is for training only", got="training mode", hint=_EVAL)
    x = node.tensor("input")
    mask = node.filled(x.shape, True, dt.boolean) if len(node.wanted) > 1 and node.wanted[1] else None
    return x, mask

