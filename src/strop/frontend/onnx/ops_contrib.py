"""Fused float ops of ONNX Runtime's own domain com.microsoft, spelled out: activations, products, norms, attention.

Their meaning is that of https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md and of ONNX Runtime's CPU kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.ops_data import quotient
from strop.frontend.onnx.ops_math import gemm
from strop.frontend.onnx.ops_nn import conv, rms_norm
from strop.frontend.onnx.ops_quant import cast
from strop.frontend.onnx.registry import onnx_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ops.attention import Attention
from strop.ops.data import Expand, Reshape, Split, Transpose
from strop.ops.elementwise import make
from strop.ops.index import Gather
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm, RMSNorm
from strop.ops.reduce import Reduce

DOMAIN = "com.microsoft"

# ---- activations

#: activation: function and its params with their defaults, in the order of activation_params.
_ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "": ("", ()),
    "Relu": ("relu", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "HardSwish": ("hard_swish", ()),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "Clip": ("clip", (("lo", -np.inf), ("hi", np.inf))),
}


def _activated(node: NodeContext, x: Operand, params: Sequence[float]) -> Operand:
    """x under the function that attribute ``activation`` names."""
    fn, names = _ACTIVATIONS[node.text("activation", "", tuple(_ACTIVATIONS))]
    if not fn:
        return x
    given = {name: p for (name, _), p in zip(names, params, strict=False)}
    return node.step(make(fn, **{**dict(names), **given}), x)


@onnx_op("Gelu", domain=DOMAIN)
def gelu(node: NodeContext) -> Operand:
    return node.step(make("gelu"), node.operand(0))


@onnx_op("FastGelu", domain=DOMAIN)
def fast_gelu(node: NodeContext) -> Operand:
    x, bias = node.operand(0), node.optional(1)
    x = x if bias is None else node.step(make("add"), x, bias)
    return node.step(make("gelu_tanh"), x)


# ---- products


@onnx_op("FusedConv", domain=DOMAIN)
def fused_conv(node: NodeContext) -> Operand:
    """activation(Conv(x, w, b) + z)"""
    result, addend = conv(node), node.optional(3)
    if addend is not None:
        result = node.step(make("add"), result, addend)
    return _activated(node, result, node.floats("activation_params", ()))


@onnx_op("FusedGemm", domain=DOMAIN)
def fused_gemm(node: NodeContext) -> Operand:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    params = [node.number(name) for name in names if node.has(name)]
    return _activated(node, gemm(node), params)


@onnx_op("FusedMatMul", "TransposeMatMul", domain=DOMAIN)
def fused_matmul(node: NodeContext) -> Operand:
    """alpha * A' B', the last two axes of an operand swapped or not."""
    node.only("transBatchA", 0)
    node.only("transBatchB", 0)
    a, b = node.operand(0), node.operand(1)
    turn = [node.flag("transA") and a.type.rank > 1, node.flag("transB") and b.type.rank > 1]
    product = node.step(MatMul(*turn), a, b)
    alpha = node.number("alpha", 1.0)
    return product if alpha == 1.0 else node.step(make("mul"), product, node.like(alpha, product))


# ---- norms


@onnx_op("SimplifiedLayerNormalization")
@onnx_op("SimplifiedLayerNormalization", domain=DOMAIN)
def simplified_layer_norm(node: NodeContext) -> Operand:
    """RMSNormalization under the name it had before; ONNX Runtime's exporters put it into ai.onnx."""
    return rms_norm(node)


def _skipped(node: NodeContext, bias: Operand | None) -> Operand:
    """The sum of operands 0 and 1 and a bias."""
    total = node.step(make("add"), node.operand(0), node.operand(1))
    return total if bias is None else node.step(make("add"), total, bias)


@onnx_op("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_norm(node: NodeContext) -> tuple[Operand, ...]:
    """LayerNormalization of a sum, which is result 3; results 1 and 2 are for training."""
    total = _skipped(node, node.optional(4))
    scale, shift = node.operand(2), node.optional(3)
    op = LayerNorm(total.type.rank - 1, node.number("epsilon", 1e-12))
    return _with_sum(node, node.step(op, total, scale, *(() if shift is None else (shift,))), total)


@onnx_op("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_rms_norm(node: NodeContext) -> tuple[Operand, ...]:
    total = _skipped(node, node.optional(3))
    op = RMSNorm(total.type.rank - 1, node.number("epsilon", 1e-12))
    return _with_sum(node, node.step(op, total, node.operand(2)), total)


def _with_sum(node: NodeContext, result: Operand, total: Operand) -> tuple[Operand, ...]:
    """Results 0 and 3 of a norm of a sum; UnsupportedError when one between them is read."""
    if any(node.wanted[1:3]):
        raise node.unsupported("results 1 and 2 are not supported", got="statistics that are read")
    return (result, total, total, total) if any(node.wanted[3:]) else (result,)


@onnx_op("EmbedLayerNormalization", domain=DOMAIN)
def embed_layer_norm(node: NodeContext) -> tuple[Operand, ...]:
    """LayerNormalization of the sum of word, position and segment embeddings; result 1 is the length that a mask leaves."""
    words, segments = node.operand(0), node.optional(1)
    batch, length = words.type.shape
    total = node.step(Gather(0), node.operand(2), words)
    if node.optional(8) is not None:
        places = node.step(Gather(0), node.operand(3), node.operand(8))
    else:
        (count,) = sh.static((length,), node.where)
        node.check_size((count,), 8)
        places = node.step(Gather(0), node.operand(3), node.const(np.arange(count)))
    total = node.step(make("add"), total, places)
    if segments is not None:
        total = node.step(make("add"), total, node.step(Gather(0), node.operand(4), segments))
    op = LayerNorm(2, node.number("epsilon", 1e-12))
    result = node.step(op, total, node.operand(5), node.operand(6))
    kind, mask = node.integer("mask_index_type", 1), node.optional(7)
    if not any(node.wanted[1:]):
        return (result,)
    if kind != 1:
        raise node.unsupported("attribute mask_index_type has an unsupported value", got=kind, expected=1)
    if mask is not None:
        lengths = node.step(Reduce("sum", (1,), False), cast(node, mask, dt.i32))
    else:
        lengths = node.step(Expand((batch,)), node.const(np.zeros(1, np.int32)))
    return result, lengths, total


# ---- attention


def _by_heads(node: NodeContext, x: Operand, heads: int) -> Operand:
    """[batch, length, width] as [batch, heads, length, width / heads]."""
    if x.type.rank != 3:
        raise node.unsupported("packed or 4-D operands are not supported", got=x.type)
    batch, length, width = x.type.shape
    if heads < 1 or (isinstance(width, int) and width % heads):
        raise node.malformed("num_heads does not divide the width", got=f"{heads} and {width}")
    split = node.step(Reshape((batch, length, heads, quotient(width, heads))), x)
    return node.step(Transpose((0, 2, 1, 3)), split)


def _mask_bias(node: NodeContext, mask: Operand | None, keys: Operand, filler: float) -> Operand | None:
    """What a mask of keys adds to the scores [batch, heads, queries, keys]: lengths [batch], or 1 for keys that count."""
    if mask is None:
        return None
    batch, _, length, _ = keys.type.shape
    shape = mask.type.shape
    if mask.type.rank == 1 and shape == (batch,):
        (count,) = sh.static((length,), node.where)
        node.check_size((count,), 4)
        column = node.step(Reshape((batch, 1, 1, 1)), mask)
        seen = node.step(make("lt"), node.const(np.arange(count).astype(mask.type.dtype.numpy)), column)
    elif mask.type.rank == 2 and shape == (batch, length):
        seen = node.step(make("gt"), node.step(Reshape((batch, 1, 1, length)), mask), node.like(0, mask))
    elif mask.type.rank == 3 and shape[0] == batch and shape[2] == length:
        seen = node.step(make("gt"), node.step(Reshape((batch, 1, *shape[1:])), mask), node.like(0, mask))
    else:
        raise node.unsupported(
            "this form of mask is not supported", got=mask.type, expected="[batch], [batch, keys] or [batch, queries, keys]"
        )
    return node.step(make("where"), seen, node.like(0, keys), node.like(filler, keys))


def _attend(
    node: NodeContext, q: Operand, k: Operand, v: Operand, biases: Sequence[Operand | None], heads: int
) -> Operand:
    """Attention of [batch, heads, length, size], joined to [batch, length, width]."""
    (size,) = sh.static(q.type.shape[3:], node.where)
    scale = node.number("scale", 0.0) or 1.0 / sqrt(size)
    bias: Operand | None = None
    for other in biases:
        if other is not None:
            bias = other if bias is None else node.step(make("add"), bias, other)
    if node.flag("unidirectional"):
        rows, columns = sh.static((q.type.shape[2], k.type.shape[2]), node.where)
        node.check_size((rows, columns), 4)
        hidden = np.triu(np.full((rows, columns), -np.inf), 1 + columns - rows)
        causal = node.const(hidden.astype(q.type.dtype.numpy))
        bias = causal if bias is None else node.step(make("add"), bias, causal)
    out = node.step(Attention(scale), q, k, v, bias)
    batch, _, length, width = out.type.shape
    turned = node.step(Transpose((0, 2, 1, 3)), out)
    return node.step(Reshape((batch, length, sh.mul(heads, width))), turned)


@onnx_op("Attention", domain=DOMAIN)
def attention(node: NodeContext) -> Operand:
    """Self-attention with its projection: x[batch, length, width] times the weights of query, key and value side by side."""
    heads, filler = node.integer("num_heads"), node.number("mask_filter_value", -10000.0)
    node.only("do_rotary", 0)
    node.only("past_present_share_buffer", 0)
    if node.optional(4) is not None or any(node.wanted[1:]):
        raise node.unsupported("past and present keys are not supported")
    projected = node.step(MatMul(), node.operand(0), node.operand(1))
    if node.optional(2) is not None:
        projected = node.step(make("add"), projected, node.operand(2))
    (width,) = sh.static(projected.type.shape[-1:], node.where)
    sizes = node.integers("qkv_hidden_sizes", (width // 3,) * 3)
    if len(sizes) != 3 or sum(sizes) != width or min(sizes) < 1:
        raise node.malformed("qkv_hidden_sizes do not fit", got=sizes, expected=f"3 that sum to {width}")
    parts = node.steps(Split(2, sizes), projected)
    q, k, v = (_by_heads(node, part, heads) for part in parts)
    return _attend(node, q, k, v, (_mask_bias(node, node.optional(3), k, filler), node.optional(5)), heads)


@onnx_op("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(node: NodeContext) -> Operand:
    """Attention over projected query, key and value [batch, length, width], with a bias of all three side by side."""
    heads, filler = node.integer("num_heads"), node.number("mask_filter_value", -10000.0)
    if any(node.optional(i) is not None for i in range(6, len(node))) or any(node.wanted[1:]):
        raise node.unsupported("past and present keys are not supported")
    parts = [node.operand(i) for i in range(3)]
    if node.optional(3) is not None:
        widths = sh.static(tuple(p.type.shape[-1] for p in parts), node.where)
        biases = node.steps(Split(0, widths), node.operand(3))
        parts = [node.step(make("add"), p, b) for p, b in zip(parts, biases, strict=True)]
    q, k, v = (_by_heads(node, part, heads) for part in parts)
    return _attend(node, q, k, v, (_mask_bias(node, node.optional(4), k, filler), node.optional(5)), heads)
