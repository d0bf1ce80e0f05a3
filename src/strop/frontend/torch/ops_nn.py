"""ATen products and convolutions."""

from __future__ import annotations

from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.ops_shape import cut
from strop.frontend.torch.registry import torch_op
from strop.ir.graph import Value
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.data import Concat, Pad
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce

# ---- products


@torch_op("aten.linear.default")
def linear(node: NodeContext) -> Value:
    """x w^T + b."""
    x, weight, bias = node.tensor("input"), node.tensor("weight"), node.optional("bias")
    product = node.step(MatMul(transpose_b=weight.type.rank == 2), x, weight)
    return product if bias is None else node.apply("add", product, bias)


@torch_op("aten.mm.default", "aten.bmm.default")
def mm(node: NodeContext) -> Value:
    return node.step(MatMul(), node.tensor(), node.tensor("mat2"))


@torch_op("aten.matmul.default")
def matmul(node: NodeContext) -> Value:
    return node.step(MatMul(), node.tensor(), node.tensor("other"))


@torch_op("aten.mv.default", "aten.dot.default")
def mv(node: NodeContext) -> Value:
    return node.step(MatMul(), node.tensor(), node.tensor("vec" if ".mv." in node.op else "tensor"))


@torch_op("aten.addmm.default", "aten.baddbmm.default")
def addmm(node: NodeContext) -> Value:
    """beta * self + alpha * product."""
    names = ("mat1", "mat2") if ".addmm." in node.op else ("batch1", "batch2")
    x, product = node.tensor(), node.step(MatMul(), *(node.tensor(n) for n in names))
    alpha, beta = node.arg("alpha", 1), node.arg("beta", 1)
    product = product if alpha == 1 else node.apply("mul", product, node.like(alpha, product))
    if beta == 0:
        return product
    x = x if beta == 1 else node.apply("mul", x, node.like(beta, x))
    return node.apply("add", product, x)


@torch_op("aten._trilinear.default")
def trilinear(node: NodeContext) -> Value:
    """The product of three operands, each with axes of size 1 put in, summed over some axes."""
    factors = []
    for number in (1, 2, 3):
        x = node.tensor(f"i{number}")
        new = {int(axis) for axis in node.arg(f"expand{number}")}
        old = iter(x.shape)
        factors.append(node.reshape(x, tuple(1 if k in new else next(old) for k in range(x.type.rank + len(new)))))
    product = node.apply("mul", node.apply("mul", factors[0], factors[1]), factors[2])
    axes = tuple(sorted(node.ints("sumdim"))) if node.arg("sumdim") else ()
    return node.step(Reduce("sum", axes, False), product) if axes else product


# ---- convolutions


def _batched(node: NodeContext, name: str, rank: int) -> tuple[Value, bool]:
    """An operand with a batch axis, and whether it came without."""
    x = node.tensor(name)
    lone = x.type.rank == rank + 1
    return (node.reshape(x, (1, *x.shape)), True) if lone else (x, False)


def _conv(node: NodeContext, x: Value, weight: Value, pads: tuple[int, ...]) -> Value:
    rank = weight.type.rank - 2
    op = Conv(node.ints("stride", rank), pads, node.ints("dilation", rank), node.integer("groups"))
    return node.step(op, x, weight, node.optional("bias"))


@torch_op("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
def conv(node: NodeContext) -> Value:
    weight = node.tensor("weight")
    rank = weight.type.rank - 2
    x, lone = _batched(node, "input", rank)
    result = _conv(node, x, weight, node.ints("padding", rank) * 2)
    return node.reshape(result, result.shape[1:]) if lone else result


@torch_op("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
def conv_padding(node: NodeContext) -> Value:
    """``same`` keeps the size (stride 1), the odd element of padding last; ``valid`` pads nothing."""
    weight = node.tensor("weight")
    rank = weight.type.rank - 2
    x, lone = _batched(node, "input", rank)
    totals = [d * (k - 1) for d, k in zip(node.ints("dilation", rank), node.static(weight.shape[2:]), strict=True)]
    if node.arg("padding") == "valid":
        totals = [0] * rank
    before = tuple(t // 2 for t in totals)
    result = _conv(node, x, weight, (*before, *(t - b for t, b in zip(totals, before, strict=True))))
    return node.reshape(result, result.shape[1:]) if lone else result


@torch_op("aten.convolution.default")
def convolution(node: NodeContext) -> Value:
    if node.flag("transposed"):
        return _conv_transpose(node)
    return conv(node)


@torch_op("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(node: NodeContext) -> Value:
    return _conv_transpose(node)


def _conv_transpose(node: NodeContext) -> Value:
    weight = node.tensor("weight")
    rank = weight.type.rank - 2
    x, lone = _batched(node, "input", rank)
    op = ConvTranspose(
        node.ints("stride", rank), node.ints("padding", rank) * 2, node.ints("dilation", rank), node.integer("groups"),
        node.ints("output_padding", rank),
    )  # fmt: skip
    result = node.step(op, x, weight, node.optional("bias"))
    return node.reshape(result, result.shape[1:]) if lone else result


# ---- columns of convolutions


@torch_op("aten.im2col.default")
def im2col(node: NodeContext) -> Value:
    """Every window's elements as a column: one strided cut per tap, joined."""
    x = node.tensor()
    kernel, dilation, stride, padding = (node.ints(n, 2) for n in ("kernel_size", "dilation", "stride", "padding"))
    batch, channels, *_ = x.shape
    if any(padding):
        x = node.step(Pad((0, 0, *padding, 0, 0, *padding)), x)
    out = [(s - d * (k - 1) - 1) // t + 1 for s, k, d, t in zip(node.static(x.shape[2:]), kernel, dilation, stride, strict=True)]
    taps = []
    for i in range(kernel[0]):
        rows = cut(node, x, 2, i * dilation[0], out[0], stride[0])
        for j in range(kernel[1]):
            tap = cut(node, rows, 3, j * dilation[1], out[1], stride[1])
            taps.append(node.reshape(tap, (batch, channels, 1, out[0] * out[1])))
    joined = taps[0] if len(taps) == 1 else node.step(Concat(2), *taps)
    return node.reshape(joined, node.result.shape)

