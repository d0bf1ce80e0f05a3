"""ATen attention and embeddings."""

from __future__ import annotations

from math import sqrt

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.registry import torch_op
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.attention import Attention
from strop.ops.data import Expand
from strop.ops.index import Gather


@torch_op("aten.scaled_dot_product_attention.default")
def attention(node: NodeContext) -> Value:
    """softmax(scale q k^T + mask) v; a bool mask is true where a key is seen, a query that sees none gives zeros."""
    if node.number("dropout_p") != 0:
        raise node.unsupported("dropout is for training only", got=f"dropout_p {node.arg('dropout_p')}", hint="call module.eval() before the export")
    q, k, v = node.tensor("query"), node.tensor("key"), node.tensor("value")
    if node.flag("enable_gqa"):
        k, v = (_repeated(node, x, q.shape[-3]) for x in (k, v))
    lead = sh.broadcast(q.shape[:-2], k.shape[:-2], v.shape[:-2], where=node.where)
    q, k, v = (x if x.shape[:-2] == lead else node.step(Expand((*lead, *x.shape[-2:])), x) for x in (q, k, v))
    scale = node.arg("scale")
    if scale is None:
        (size,) = node.static(q.shape[-1:])
        scale = 1 / sqrt(size)
    mask = node.optional("attn_mask")
    if mask is not None and mask.dtype is dt.boolean:
        mask = node.apply("where", mask, node.like(0, q), node.like(float("-inf"), q))
    operands = (q, k, v) if mask is None else (q, k, v, node.cast(mask, q.dtype))
    return node.step(Attention(float(scale), node.flag("is_causal")), *operands)


def _repeated(node: NodeContext, x: Value, heads: Dim) -> Value:
    """Every key or value head as often in a row as query heads share it."""
    *lead, have, length, size = x.shape
    if have == heads:
        return x
    times = sh.floordiv(heads, have)
    wide = node.step(Expand((*lead, have, times, length, size)), node.reshape(x, (*lead, have, 1, length, size)))
    return node.reshape(wide, (*lead, heads, length, size))


@torch_op("aten.embedding.default")
def embedding(node: NodeContext) -> Value:
    """Rows of a table; the row that stands for padding is a row like the others."""
    return node.step(Gather(0), node.tensor("weight"), node.tensor("indices"))
