"""Problems for the PyTorch frontend: functions of torch by family, with the inputs they are tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """Functions that are exported together.

    Attributes:
        inputs: arguments of every function.
        functions: by what a failure is called.
        rtol, atol: how far results may be from PyTorch's.
    """

    inputs: tuple[Tensor, ...]
    functions: dict[str, Function]
    rtol: float = 1e-5
    atol: float = 1e-5


class Together(nn.Module):
    """Calls every function with the same arguments."""

    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = functions
        self.layers = nn.ModuleList(f for f in functions.values() if isinstance(f, nn.Module))

    def forward(self, *inputs: Tensor) -> dict[str, Any]:
        return {name: function(*inputs) for name, function in self.functions.items()}


_RANDOM = torch.Generator().manual_seed(7)


def floats(*shape: int, low: float = -3.0, high: float = 3.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers."""
    return (torch.rand(shape, generator=_RANDOM) * (high - low) + low).to(dtype)


def longs(*shape: int, low: int = -9, high: int = 10, dtype: torch.dtype = torch.int64) -> Tensor:
    """Uniform integers, ``high`` left out."""
    return torch.randint(low, high, shape, generator=_RANDOM).to(dtype)


def bools(*shape: int) -> Tensor:
    """Coin flips."""
    return torch.randint(0, 2, shape, generator=_RANDOM).bool()


def named(*functions: Function) -> dict[str, Function]:
    """Functions of torch under their own names."""
    return {function.__name__: function for function in functions}


_SPECIAL = torch.tensor([1.0, -0.0, 0.0, float("nan"), float("inf"), -float("inf"), -2.5, 1e-30])

CASES: dict[str, Case] = {
    "functions": Case(
        (floats(3, 17),),
        {
            **named(
                torch.abs, torch.asinh, torch.atan, torch.ceil, torch.cos, torch.cosh, torch.erf, torch.erfc, torch.exp, torch.exp2,
                torch.expm1, torch.floor, torch.frac, torch.neg, torch.relu, torch.round, torch.sgn, torch.sigmoid, torch.sign, torch.sin,
                torch.sinh, torch.square, torch.tanh, torch.trunc, torch.deg2rad, torch.sinc, torch.positive,
            ),
            "round to 1": lambda x: torch.round(x, decimals=1),
            "clamp": lambda x: x.clamp(-1, 1.5) + x.clamp(min=0.5) + x.clamp_max(2),
            "powers": lambda x: x**2 + x.abs() ** 0.5 + x.abs() ** 1.7 + 2.0**x,
            "scalars": lambda x: 1 - x * 3 + x / 4 - (x - 2) + torch.add(x, 1, alpha=3) + torch.rsub(x, 2.0),
            "rounded quotients": lambda x: torch.div(x, 0.7, rounding_mode="floor") + torch.div(x, 0.7, rounding_mode="trunc") + x // 2,
            "remainders": lambda x: x % 0.9 + torch.fmod(x, 0.8),
            "in place": lambda x: x.clone().add_(1).mul_(2).relu_().clamp_(max=3),
        },
    ),
    "functions of positive numbers": Case(
        (floats(3, 9, low=0.1, high=4.0),),
        {
            **named(torch.log, torch.log1p, torch.log2, torch.log10, torch.sqrt, torch.rsqrt, torch.reciprocal),
            "acosh": lambda x: torch.acosh(x + 1),
            "arcs": lambda x: torch.acos(x / 4) + torch.asin(x / 4) + torch.atanh(x / 5) + torch.tan(x / 4),
            "logit": lambda x: torch.logit(x / 5, eps=1e-3),
            "xlogy": lambda x: torch.xlogy(x, x),
        },
    ),
    "activations": Case(
        (floats(3, 8, low=-6.0, high=6.0),),
        {
            **named(
                F.silu, F.mish, F.hardswish, F.hardsigmoid, F.relu6, F.softsign, F.logsigmoid, F.selu, F.celu, F.elu, F.gelu, F.hardtanh,
                F.softplus, F.leaky_relu, F.softshrink, F.hardshrink, F.tanhshrink, F.glu,
            ),
            "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
            "elu 0.7": lambda x: F.elu(x, 0.7),
            "elu scaled": lambda x: torch._C._nn.elu(x, 0.5, 1.5, 2.0),
            "celu 0.7": lambda x: F.celu(x, 0.7),
            "softplus 2, 1": lambda x: F.softplus(x, 2.0, 1.0),
            "threshold": lambda x: F.threshold(x, 0.3, -2.0),
            "prelu": nn.PReLU(),
            "prelu of channels": nn.PReLU(8),
            "rrelu": lambda x: F.rrelu(x),
            "gumbel-free softmin": lambda x: F.softmin(x, -1),
        },
    ),
    "half precision": Case(
        (floats(3, 8, dtype=torch.bfloat16), floats(3, 8, dtype=torch.float16)),
        {
            "bf16": lambda a, b: F.gelu(a) * 2 + a.exp(),
            "f16": lambda a, b: F.silu(b) - b.tanh() * 0.5,
            "both": lambda a, b: a + b,
            "to f32": lambda a, b: a.float() + b.float(),
            "norm": lambda a, b: F.layer_norm(a.float(), (8,)).to(torch.bfloat16),
        },
        2e-2,
        2e-2,
    ),
    "pairs": Case(
        (floats(2, 1, 5), floats(3, 5, low=0.5)),
        {
            **named(torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.minimum, torch.fmax, torch.fmin, torch.atan2, torch.hypot,
                    torch.copysign, torch.fmod, torch.remainder, torch.logaddexp),
            "pow": lambda a, b: torch.pow(b, a),
            "alpha": lambda a, b: torch.add(a, b, alpha=2) - torch.sub(a, b, alpha=0.5) + torch.rsub(a, b, alpha=2),
            "addcmul": lambda a, b: torch.addcmul(a, b, b, value=0.5),
            "addcdiv": lambda a, b: torch.addcdiv(a, a.expand(2, 3, 5), b),
            "lerp": lambda a, b: torch.lerp(a, b, 0.25) + torch.lerp(a, b, b),
            "floor divide": lambda a, b: torch.floor_divide(a, b),
            "clamp tensor": lambda a, b: torch.clamp(a, max=b) + torch.clamp(a, -b, b) + torch.clamp_min(a, b),
            "threshold where": lambda a, b: torch.where(a > b, a, b) + torch.where(a > 0, 1.0, b),
            "cosine": lambda a, b: F.cosine_similarity(a, b, dim=-1),
            "distance": lambda a, b: F.pairwise_distance(a, b),
            "heaviside": lambda a, b: torch.heaviside(a, b),
            "l1 and mse": lambda a, b: F.l1_loss(a.expand(2, 3, 5), b.expand(2, 3, 5)) + F.mse_loss(a.expand(2, 3, 5), b.expand(2, 3, 5)),
        },
    ),
    "integers": Case(
        (longs(3, 5), longs(3, 5, low=1), longs(5, low=0, high=4, dtype=torch.int32)),
        {
            "arithmetic": lambda a, b, c: a + b * c - 3,
            "true quotient": lambda a, b, c: a / b,
            "whole quotients": lambda a, b, c: (a // b, torch.div(a, b, rounding_mode="trunc"), a % b, torch.fmod(a, b)),
            "bits": lambda a, b, c: (a & b) + (a | b) + (a ^ b) + ~a,
            "bits of numbers": lambda a, b, c: (a & 3) + (b | 1) + (b ^ 2),
            "shifts": lambda a, b, c: (b << 2) + (a >> 1) + (b << c),
            "comparisons": lambda a, b, c: (a > b, a >= 2, a == b, a != c, a < 0.5, a <= b),
            "promoted": lambda a, b, c: (c + a, c * 0.5, a + torch.tensor(1.5), c + torch.tensor(3), c + True),
            "functions": lambda a, b, c: (torch.sqrt(b), torch.sin(a), a.abs(), a.neg(), a.sign(), torch.floor(a), b.float().log(), F.relu(a)),
            "bounds": lambda a, b, c: (a.clamp(-2, 3), torch.maximum(a, b), a.clamp(min=0)),
            "powers": lambda a, b, c: (b**2, torch.pow(b, c)),
            "sums": lambda a, b, c: (a.sum(), a.sum(0), a.prod(1), a.amax(1), a.max(), b.float().mean(), c.sum(), c.cumsum(0)),
            "casts": lambda a, b, c: (a.to(torch.int32), a.to(torch.uint8) if False else a.to(torch.int16), a.bool(), a.double()),
        },
    ),
    "bools": Case(
        (bools(3, 5), bools(3, 5), floats(3, 5)),
        {
            "logic": lambda a, b, x: (a & b, a | b, a ^ b, ~a),
            "logical": lambda a, b, x: (torch.logical_and(a, x), torch.logical_or(a, b), torch.logical_xor(a, b), torch.logical_not(x)),
            "arithmetic": lambda a, b, x: (a + b, a * b, a * x, a + 1, a.sum(), a.float().mean(0)),
            "any and all": lambda a, b, x: (a.any(), a.all(), a.any(1), b.all(0, keepdim=True), torch.any(a, dim=(0, 1)), x.any(1)),
            "selection": lambda a, b, x: (torch.where(a, x, 0.0), x.masked_fill(a, -1e9), torch.where(a, x, -x), x.masked_fill(b, x.sum())),
            "comparisons": lambda a, b, x: (a == b, a != b, a > b, a.max(), a.amin(1)),
            "masked assignment": lambda a, b, x: torch.index_put(x, (a,), torch.tensor(2.0)),
        },
    ),
    "special numbers": Case(
        (_SPECIAL,),
        {
            **named(torch.isnan, torch.isinf, torch.isfinite, torch.isposinf, torch.isneginf, torch.nan_to_num, torch.relu, torch.sign),
            "nan_to_num": lambda x: torch.nan_to_num(x, 1.0, 2.0, 3.0),
            "fmax": lambda x: torch.fmax(x, x.flip(0)),
            "copysign": lambda x: torch.copysign(torch.ones(8), x),
        },
    ),
    "reductions": Case(
        (floats(3, 4, 5),),
        {
            "sums": lambda x: (x.sum(), x.sum(1), x.sum((0, 2)), x.sum(-1, keepdim=True), torch.sum(x, 1, dtype=torch.float64)),
            "means": lambda x: (x.mean(), x.mean(1), x.mean((1, 2), keepdim=True), torch.nanmean(x, 1)),
            "products": lambda x: (x.prod(), x.prod(2), x.prod(0, keepdim=True)),
            "extremes": lambda x: (x.amax(1), x.amin((0, 1)), x.max(), x.min(), torch.aminmax(x, dim=1)),
            "extremes with indices": lambda x: (*x.max(1), *x.min(2, keepdim=True), x.max(0).values, x.min(1)[1]),
            "indices": lambda x: (x.argmax(), x.argmin(1), x.argmax(2, keepdim=True), x.argmax(-1)),
            "variances": lambda x: (x.var(), x.var(1), x.std(1), x.var((0, 2), unbiased=False), x.std(2, correction=0, keepdim=True)),
            "variance and mean": lambda x: (*torch.var_mean(x, 1), *torch.std_mean(x, (0, 1), correction=0)),
            "logsumexp": lambda x: (x.logsumexp(1), torch.logsumexp(x, (0, 1), keepdim=True)),
            "norms": lambda x: (x.norm(), x.norm(dim=1), x.norm(p=1, dim=2), torch.linalg.vector_norm(x, 3, dim=1),
                                torch.linalg.vector_norm(x, float("inf"), dim=0), torch.linalg.vector_norm(x, 0), F.normalize(x, dim=1)),
            "running": lambda x: (x.cumsum(1), x.cumsum(-1), x.cumprod(2), x.cumsum(0)),
            "counted": lambda x: torch.count_nonzero(x > 0, 1),
            "median": lambda x: (x.median(1).values, torch.kthvalue(x, 2, 2).values, x.median(2)[0]),
            "softmax": lambda x: (x.softmax(1), x.softmax(-1), x.log_softmax(2), F.softmax(x, 0, dtype=torch.float64)),
            "of scalars": lambda x: (x[0, 0, 0].sum(), x[0, 0, 0].max(), x[0, 0, 0].softmax(0), x[0, 0, 0].cumsum(0)),
        },
    ),
    "shapes": Case(
        (floats(2, 3, 4, 4), longs(3, low=0, high=3)),
        {
            "views": lambda x, i: (x.view(6, -1), x.reshape(2, 48), x.flatten(1), x.flatten(), x.unflatten(1, (3, 1)), x.view_as(x)),
            "axes": lambda x, i: (x.permute(0, 2, 3, 1), x.transpose(1, 2), x[0, 0].t(), x.movedim(1, 3), x.swapaxes(0, 1), x.mT, x[0, 0].T),
            "ones": lambda x, i: (x.unsqueeze(0), x[:, :1].squeeze(1), x[:1, :1].squeeze(), x[:1, :1].squeeze((0, 1)), x[None, :, None]),
            "spread": lambda x, i: (x[:, :1].expand(2, 5, 4, 4), x[:1].expand(3, -1, -1, -1), x[0].expand_as(x), torch.broadcast_to(x[0, 0], (3, 4, 4))),
            "joined": lambda x, i: (torch.cat([x, x], 1), torch.cat([x, x[:, :1]], -3), torch.stack([x, -x]), torch.stack([x, x], -1), torch.hstack([x, x]),
                                    torch.cat([i, i.float()])),
            "cut": lambda x, i: (*x.split(2, 1), *x.split([1, 2], 1), *x.chunk(2, 2), *x.unbind(1), *torch.tensor_split(x, 3, 3)),
            "slices": lambda x, i: (x[:, 1:], x[..., ::2], x[:, -2:], x[1], x[:, -1], x[:, :, 1:3, 0], x.narrow(2, 1, 2), x.select(1, 2), x[:, 1:-1]),
            "repeated": lambda x, i: (x.repeat(1, 2, 1, 3), x[0, 0].repeat(2, 1, 1), x.tile(2), x.repeat_interleave(2, 1), x[0, 0].repeat_interleave(2)),
            "turned": lambda x, i: (x.flip(1), x.flip((2, 3)), x.roll(1, 2), x.roll((1, -2), (1, 2)), x.roll(3), x.rot90(1, (2, 3)), x.fliplr()),
            "diagonals": lambda x, i: (x.diagonal(0, 2, 3), x.diagonal(1, 2, 3), x[0, 0].diagonal(-1), x[0, 0].diag(), torch.diag_embed(x[0, 0]), x[0, 0].trace()),
            "triangles": lambda x, i: (x.tril(), x.triu(1), x.tril(-1), torch.tril(torch.ones(4, 4))),
            "windows": lambda x, i: (x.unfold(2, 2, 1), x.unfold(3, 3, 1)),
            "blocks": lambda x, i: (F.pixel_unshuffle(x, 2), F.pixel_shuffle(x.reshape(2, 12, 2, 2), 2), F.channel_shuffle(x[:, :2], 2)),
            "columns": lambda x, i: (F.unfold(x, 2), F.unfold(x, 3, padding=1, stride=2), F.unfold(x, (2, 1), dilation=(1, 2))),
            "folded": lambda x, i: F.fold(F.unfold(x, 2), (4, 4), 2),
            "meshes": lambda x, i: (*torch.meshgrid(x[0, 0, 0], x[0, 0, 1], indexing="ij"), torch.outer(x[0, 0, 0], x[0, 0, 1]), torch.cartesian_prod(i, i)),
            "written": lambda x, i: (torch.slice_scatter(x, x[:, :1] * 2, 1, 1, 2), torch.select_scatter(x, x[:, 0], 1, 2),
                                     torch.slice_scatter(x, x[..., :2], 3, 0, 4, 2)),
            "assigned": lambda x, i: _assigned(x),
            "identities": lambda x, i: (x.clone() + 0, x.contiguous() * 1, x.detach() - 0, x.expand(2, 3, 4, 4) + 0),
        },
    ),
    "made": Case(
        (floats(3, 4),),
        {
            "full": lambda x: (torch.zeros(2, 3) + x[:2, :3], torch.ones_like(x) + x, torch.full((3, 4), 2.5) * x, torch.full_like(x, 3) + x,
                               x.new_zeros(3, 1) + x, x.new_full((4,), 1.0) + x, torch.zeros_like(x, dtype=torch.int64), x.new_ones(2)),
            "ranges": lambda x: (torch.arange(4) + x, torch.arange(1, 9, 2), torch.arange(0, 1, 0.25) * x, torch.linspace(0, 1, 4) + x, torch.arange(3, 0, -1)),
            "matrices": lambda x: (torch.eye(4) + x[:1], torch.eye(3, 4) * x, torch.tensor([1.0, 2.0, 3.0, 4.0]) * x, torch.tensor(2.0) * x),
            "empty": lambda x: torch.empty(3, 4).fill_(1.0) + x,
            "windows": lambda x: torch.hann_window(4) * x,
        },
    ),
    "padding": Case(
        (floats(2, 3, 5, 6),),
        {
            "constant": lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 0, 0, 2), value=3.0), F.pad(x, (-1, 1, 2, -2)), F.pad(x, (0, 0, 0, 0, 1, 1))),
            "reflect": lambda x: (F.pad(x, (1, 2, 2, 1), mode="reflect"), F.pad(x[0], (1, 2), mode="reflect")),
            "replicate": lambda x: (F.pad(x, (1, 2, 2, 1), mode="replicate"), F.pad(x[0], (1, 2), mode="replicate")),
            "circular": lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"),
        },
    ),
    "products": Case(
        (floats(2, 3, 4), floats(2, 4, 5), floats(4, 5), floats(4)),
        {
            "matmul": lambda a, b, c, v: (a @ b, a @ c, a @ v, v @ c, v @ v, a[0] @ c, torch.bmm(a, b), torch.mm(a[0], c), a[0].mv(v), v.dot(v)),
            "added": lambda a, b, c, v: (torch.addmm(a[0, :, :1], a[0], c), torch.baddbmm(a[:, :, :1], a, b, beta=0.5, alpha=2), torch.addmm(c[0], a[0], c, beta=0)),
            "linear": lambda a, b, c, v: (F.linear(a, c.t()), F.linear(a, c.t(), c[0]), F.linear(v, c.t()), F.linear(a, v)),
            "einsum": lambda a, b, c, v: (torch.einsum("bij,bjk->bik", a, b), torch.einsum("bij,jk->bki", a, c), torch.einsum("bij->bi", a),
                                          torch.einsum("i,j->ij", v, v), torch.einsum("...ij,jk->...ik", a, c)),
            "kron and tensordot": lambda a, b, c, v: (torch.kron(v, v), torch.tensordot(a, c, 1), torch.inner(a, v), torch.outer(v, v)),
            "distances": lambda a, b, c, v: (torch.cdist(a, a), torch.cdist(a, a + 1, p=1.0)),
            "bilinear": lambda a, b, c, v: F.bilinear(v, v, c.reshape(5, 4, 1).expand(5, 4, 4)),
            "cross": lambda a, b, c, v: torch.linalg.cross(c[:, :3], c[:, 1:4]),
        },
    ),
    "picking": Case(
        (floats(4, 5, 6), longs(2, 3, low=-4, high=4), longs(3, low=0, high=4), longs(4, 2, 6, low=0, high=5)),
        {
            "indexed": lambda x, i, j, k: (x[i], x[:, j], x[j, j], x[:, j, j], x[j, :, j], x[i, 0], x[j[:, None], j], x[..., j]),
            "selected": lambda x, i, j, k: (x.index_select(1, j), torch.take_along_dim(x, k, 1), x.gather(1, k), torch.take(x, j)),
            "embedding": lambda x, i, j, k: (F.embedding(j, x[0]), F.embedding(i.abs(), x[0], padding_idx=0)),
            "one hot": lambda x, i, j, k: F.one_hot(j, 5),
            "ordered": lambda x, i, j, k: (*x.topk(3), *x.topk(2, 1, largest=False), *x.sort(1), x.sort(2, descending=True)[0], x.argsort(1)),
            "searched": lambda x, i, j, k: (torch.bucketize(x, x[0, 0].sort()[0]), torch.bucketize(x, torch.arange(-2.0, 3.0), right=True),
                                            torch.searchsorted(x[0].sort(-1)[0], x[1]), torch.searchsorted(torch.arange(-2.0, 3.0), x, side="right")),
            "in a set": lambda x, i, j, k: (torch.isin(i, j), torch.isin(j, torch.tensor([1, 2]))),
        },
    ),
    "placing": Case(
        (floats(4, 5), torch.tensor([0, 2, 3]), floats(3, 5), torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 1]])),
        {
            "index_put": lambda x, i, u, k: (x.index_put((i,), u), x.index_put((i, i), u[:, 0]), x.index_put((i,), u, accumulate=True),
                                             _put(x, i, u), x.index_put((i,), torch.tensor(1.0))),
            "index": lambda x, i, u, k: (x.index_copy(0, i, u), x.index_add(0, i, u), x.index_fill(0, i, 2.0), x.index_add(0, i, u, alpha=2)),
            "scatter": lambda x, i, u, k: (x.scatter(0, k, 1.5), x.scatter(0, k[:, :3], u[:, :3]), x.scatter_add(0, k, u[:2]), x.scatter_add(1, k[:, :2], u)),
            "scatter_reduce": lambda x, i, u, k: (x.scatter_reduce(0, k, u[:2], "sum"), x.scatter_reduce(0, k, u[:2], "amax"), x.scatter_reduce(0, k, u[:2], "prod")),
        },
    ),
}  # fmt: skip


def _assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = 1.0
    y[:, 1:2, ::2] *= 2
    y[..., -1] = y[..., 0]
    y[:, :, 1:3, 1:3] = x[:, :, :2, :2]
    return y


def _put(x: Tensor, i: Tensor, u: Tensor) -> Tensor:
    y = x.clone()
    y[:, i] = u[:, :1].t()
    return y


def _layers(**layers: nn.Module) -> dict[str, Function]:
    return {name: layer.eval() for name, layer in layers.items()}


def _trained(layer: nn.Module) -> nn.Module:
    """A layer whose parameters and buffers are no longer what they start as."""
    for tensor in [*layer.parameters(), *layer.buffers()]:
        if tensor.dtype.is_floating_point:
            tensor.data = floats(*tensor.shape, low=0.5, high=1.5)
    return layer


CASES |= {
    "convolutions of images": Case(
        (floats(2, 4, 9, 8),),
        _layers(
            plain=nn.Conv2d(4, 6, 3), strided=nn.Conv2d(4, 6, 3, 2, 1), dilated=nn.Conv2d(4, 6, (3, 2), padding=(2, 0), dilation=2),
            grouped=nn.Conv2d(4, 8, 3, groups=2, bias=False), depthwise=nn.Conv2d(4, 4, 3, padding=1, groups=4),
            same=nn.Conv2d(4, 6, (4, 3), padding="same"), valid=nn.Conv2d(4, 6, 3, padding="valid"),
            reflected=nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), circular=nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
            transposed=nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), transposed_groups=nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2),
        ) | {"without batch": lambda x: F.conv2d(x[0], x[:, :, :3, :3].contiguous())},
    ),
    "convolutions of signals": Case(
        (floats(2, 4, 20),),
        _layers(
            plain=nn.Conv1d(4, 6, 3, padding=1), strided=nn.Conv1d(4, 6, 5, 3), same=nn.Conv1d(4, 6, 4, padding="same", dilation=2),
            transposed=nn.ConvTranspose1d(4, 6, 4, 2, 1), max_pool=nn.MaxPool1d(3, 2, 1), avg_pool=nn.AvgPool1d(3, 2),
            adaptive=nn.AdaptiveAvgPool1d(6), adaptive_max=nn.AdaptiveMaxPool1d(5), norm=_trained(nn.BatchNorm1d(4)),
            up=nn.Upsample(scale_factor=2, mode="linear"), nearest=nn.Upsample(scale_factor=3), pad=nn.ReflectionPad1d(2),
        ),
    ),
    "convolutions of volumes": Case(
        (floats(1, 2, 6, 5, 4),),
        _layers(
            plain=nn.Conv3d(2, 3, 3, padding=1), transposed=nn.ConvTranspose3d(2, 3, 2, 2), max_pool=nn.MaxPool3d(2), avg_pool=nn.AvgPool3d(2, padding=1),
            adaptive=nn.AdaptiveAvgPool3d((3, 1, 2)), up=nn.Upsample(scale_factor=2, mode="trilinear"), nearest=nn.Upsample(scale_factor=2),
            norm=_trained(nn.BatchNorm3d(2)), pad=nn.ReplicationPad3d(1),
        ),
    ),
    "pools": Case(
        (floats(2, 3, 9, 8),),
        _layers(
            max=nn.MaxPool2d(3, 2, 1), max_ceil=nn.MaxPool2d(3, 2, ceil_mode=True), max_dilated=nn.MaxPool2d(2, dilation=2),
            max_indices=nn.MaxPool2d(2, return_indices=True), avg=nn.AvgPool2d(3, 2, 1), avg_ceil=nn.AvgPool2d(3, 2, 1, ceil_mode=True),
            avg_inner=nn.AvgPool2d(3, 2, 1, count_include_pad=False), avg_divisor=nn.AvgPool2d(2, divisor_override=3),
            lp=nn.LPPool2d(2, 3, 2), adaptive=nn.AdaptiveAvgPool2d(1), adaptive_even=nn.AdaptiveAvgPool2d((3, 4)), adaptive_odd=nn.AdaptiveAvgPool2d((5, 3)),
            adaptive_one=nn.AdaptiveAvgPool2d((None, 1)), adaptive_max=nn.AdaptiveMaxPool2d((4, 3)), adaptive_max_even=nn.AdaptiveMaxPool2d((3, 2)),
        ) | {
            "without batch": lambda x: (F.max_pool2d(x[0], 2), F.avg_pool2d(x[0], 2), F.adaptive_avg_pool2d(x[0], 2)),
            "unpooled": lambda x: F.max_unpool2d(*F.max_pool2d(x[:, :, :8], 2, return_indices=True), 2),
        },
    ),
    "norms": Case(
        (floats(2, 8, 5, 6),),
        _layers(
            batch=_trained(nn.BatchNorm2d(8)), batch_plain=nn.BatchNorm2d(8, affine=False), group=_trained(nn.GroupNorm(4, 8)),
            group_plain=nn.GroupNorm(2, 8, affine=False), instance=_trained(nn.InstanceNorm2d(8, affine=True)), instance_plain=nn.InstanceNorm2d(8),
            instance_tracked=_trained(nn.InstanceNorm2d(8, track_running_stats=True)), layer=_trained(nn.LayerNorm(6)),
            layer_two=_trained(nn.LayerNorm((5, 6))), layer_plain=nn.LayerNorm(6, elementwise_affine=False), layer_scale=nn.LayerNorm(6, bias=False),
            rms=_trained(nn.RMSNorm(6)), rms_eps=nn.RMSNorm((5, 6), eps=1e-3, elementwise_affine=False), local=nn.LocalResponseNorm(3),
            dropout=nn.Dropout(), dropout2d=nn.Dropout2d(), alpha=nn.AlphaDropout(), softmax2d=nn.Softmax2d(),
        ) | {"weight norm": nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 4, 3)).eval(),
             "native layer norm": lambda x: torch.native_layer_norm(x, (6,), None, None, 1e-5)},
    ),
    "resizing": Case(
        (floats(1, 2, 6, 8),),
        {
            **{f"{mode} twice": lambda x, mode=mode: F.interpolate(x, scale_factor=2, mode=mode) for mode in ("nearest", "bilinear", "bicubic", "nearest-exact")},
            **{f"{mode} to size": lambda x, mode=mode: F.interpolate(x, size=(9, 5), mode=mode) for mode in ("nearest", "bilinear", "bicubic", "nearest-exact")},
            **{f"{mode} by 1.7": lambda x, mode=mode: F.interpolate(x, scale_factor=1.7, mode=mode) for mode in ("nearest", "bilinear", "bicubic")},
            **{f"{mode} aligned": lambda x, mode=mode: F.interpolate(x, size=(11, 3), mode=mode, align_corners=True) for mode in ("bilinear", "bicubic")},
            **{f"{mode} antialiased": lambda x, mode=mode: F.interpolate(x, size=(3, 5), mode=mode, antialias=True) for mode in ("bilinear", "bicubic")},
            "recomputed": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
            "shrunk": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"),
            "to one": lambda x: F.interpolate(x, size=1, mode="bilinear"),
        },
        1e-4,
    ),
    "sampling": Case(
        (floats(2, 3, 5, 6), floats(2, 4, 3, 2, low=-1.2, high=1.2), floats(2, 2, 3)),
        {
            **{f"{mode} {pad} {aligned}": lambda x, g, t, mode=mode, pad=pad, aligned=aligned: F.grid_sample(x, g, mode, pad, aligned)
               for mode in ("bilinear", "nearest", "bicubic") for pad in ("zeros", "border", "reflection") for aligned in (False, True)},
            "affine": lambda x, g, t: F.grid_sample(x, F.affine_grid(t, [2, 3, 4, 4], align_corners=False), align_corners=False),
        },
        1e-4,
        1e-4,
    ),
    "attention": Case(
        (floats(2, 4, 5, 8), floats(2, 4, 7, 8), bools(5, 7), floats(2, 1, 5, 7)),
        {
            "plain": lambda q, k, m, b: F.scaled_dot_product_attention(q, k, k),
            "bool mask": lambda q, k, m, b: F.scaled_dot_product_attention(q, k, k, m),
            "float mask": lambda q, k, m, b: F.scaled_dot_product_attention(q, k, k, b, scale=0.3),
            "causal": lambda q, k, m, b: F.scaled_dot_product_attention(q, q, q, is_causal=True),
            "grouped": lambda q, k, m, b: F.scaled_dot_product_attention(q, k[:, :2], k[:, :2], enable_gqa=True),
            "broadcast": lambda q, k, m, b: F.scaled_dot_product_attention(q, k[:1], k[:1]),
            "spelled out": lambda q, k, m, b: torch.softmax(q @ k.transpose(-1, -2) / 8**0.5 + b, -1) @ k,
        },
        1e-4,
    ),
}  # fmt: skip


class Recurrent(nn.Module):
    """A recurrent layer with its states; of an LSTM both."""

    def __init__(self, layer: nn.Module, given: bool = False) -> None:
        super().__init__()
        self.layer, self.given = layer, given

    def forward(self, x: Tensor, h: Tensor) -> Any:
        if not self.given:
            return self.layer(x)
        return self.layer(x, (h, h * 0.5) if isinstance(self.layer, nn.LSTM) else h)


CASES["recurrent layers"] = Case(
    (floats(3, 3, 4), floats(2, 3, 5, low=-0.5, high=0.5)),
    _layers(
        lstm=Recurrent(nn.LSTM(4, 5)), lstm_both=Recurrent(nn.LSTM(4, 5, bidirectional=True), True), lstm_two=Recurrent(nn.LSTM(4, 5, 2, batch_first=True), True),
        lstm_plain=Recurrent(nn.LSTM(4, 5, 2, bias=False)), gru=Recurrent(nn.GRU(4, 5)), gru_both=Recurrent(nn.GRU(4, 5, bidirectional=True, batch_first=True), True),
        gru_two=Recurrent(nn.GRU(4, 5, 2, bidirectional=True)), rnn=Recurrent(nn.RNN(4, 5, 2), True), rnn_relu=Recurrent(nn.RNN(4, 5, nonlinearity="relu")),
    ) | {"cells": lambda x, h: (torch.tanh(x), h.relu())},
    1e-4,
)  # fmt: skip


class Cells(nn.Module):
    """Cells that a module steps by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.rnn = nn.LSTMCell(4, 5), nn.GRUCell(4, 5), nn.RNNCell(4, 5)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        state = (h[0], h[1])
        for step in x:
            state = self.lstm(step, state)
        return state, self.gru(x[0], h[0]), self.rnn(x[1], h[1])


CASES["recurrent layers"].functions["cells"] = Cells().eval()


_A = torch.ops.aten

#: Overloads that programs seldom hold, called by their names.
CASES["overloads"] = Case(
    (floats(2, 3, 6, 8), longs(3, 5, low=0, high=6), floats(1, 2, 4, 4, 3), floats(4), bools(3, 5)),
    {
        "scalars": lambda x, i, v, s, b: (_A.mul.Scalar(x, 2.5), _A.div.Scalar(x, 2), _A.sub.Scalar(x, 1, 2), _A.div.Scalar_mode(x, 2, rounding_mode="floor"),
                                          _A.copysign.Scalar(x, -1), _A.add.Scalar(x, 1), _A.bucketize.Scalar(2.5, s), _A.searchsorted.Scalar(s, 1)),
        "bits": lambda x, i, v, s, b: (_A.bitwise_and.Scalar_Tensor(3, i), _A.bitwise_or.Scalar_Tensor(3, i), _A.bitwise_xor.Scalar_Tensor(3, i)),
        "shifts": lambda x, i, v, s, b: (_A.bitwise_left_shift.Tensor(i, i), _A.bitwise_left_shift.Tensor_Scalar(i, 2), _A.bitwise_left_shift.Scalar_Tensor(1, i),
                                         _A.bitwise_right_shift.Tensor(i, i), _A.bitwise_right_shift.Tensor_Scalar(i, 2), _A.bitwise_right_shift.Scalar_Tensor(64, i),
                                         _A.__rshift__.Tensor(i, i), _A.__lshift__.Tensor(i, i), _A.__rshift__.Scalar(i, 1), _A.__lshift__.Scalar(i, 1)),
        "compared": lambda x, i, v, s, b: (_A.lt.Tensor(x, x.flip(0)), _A.all.dims(b, [0, 1]), _A.any.dims(b, [0]), _A.ge.Tensor(x, x * 2), _A.clamp_max.Tensor(x, s[0])),
        "shrunk": lambda x, i, v, s, b: (_A.hardshrink(x, 0.4), _A.softshrink(x, 0.4), _A.special_expit(x), _A._prelu_kernel(x, x[:1, :, :1, :1])),
        "norms": lambda x, i, v, s, b: (_A._safe_softmax(x, -1), _A._softmax(x, 1, False), _A._log_softmax(x, 1, False), _A.native_layer_norm(x, [8], None, None, 1e-5)[0],
                                        _A.native_group_norm(x, None, None, 2, 3, 48, 3, 1e-5)[0], _A._native_batch_norm_legit.no_stats(x, None, None, True, 0.1, 1e-5)[0]),
        "indexed": lambda x, i, v, s, b: (_A._unsafe_index(x, [None, None, i]), _A._unsafe_index_put(x, [None, None, i[0]], s[0]), _A.sort.stable(x, stable=True, dim=1),
                                          _A.argsort.stable(x, stable=True, dim=-1), _A.scatter.reduce(s, 0, i[0, :2] % 4, s, reduce="add"),
                                          _A.scatter.value_reduce(s, 0, i[0, :2] % 4, 2.0, reduce="multiply")),
        "padded": lambda x, i, v, s, b: (_A.reflection_pad1d(x[0], [1, 2]), _A.reflection_pad2d(x, [1, 2, 3, 0]), _A.reflection_pad3d(v, [1, 0, 1, 1, 2, 1]),
                                         _A.replication_pad1d(x[0], [1, 2]), _A.replication_pad2d(x, [1, 2, 3, 0]), _A.replication_pad3d(v, [1, 0, 1, 1, 2, 1])),
        "resized": lambda x, i, v, s, b: (_A.upsample_nearest1d(x[0], [12]), _A.upsample_nearest2d(x, [9, 12]), _A.upsample_nearest3d(v, [8, 8, 3]),
                                          _A.upsample_linear1d(x[0], [12], False), _A.upsample_bilinear2d(x, [9, 12], True), _A.upsample_trilinear3d(v, [8, 8, 3], False),
                                          _A.upsample_bicubic2d(x, [9, 12], False), _A._upsample_nearest_exact1d(x[0], [12]), _A._upsample_nearest_exact2d(x, [9, 12]),
                                          _A._upsample_nearest_exact3d(v, [8, 8, 3]), _A._upsample_bilinear2d_aa(x, [4, 5], False), _A._upsample_bicubic2d_aa(x, [4, 5], False),
                                          F.interpolate(x[0], 12, mode="nearest-exact"), F.interpolate(v, 8, mode="nearest-exact")),
        "pooled": lambda x, i, v, s, b: (_A._adaptive_avg_pool2d(x, [3, 5]), _A._adaptive_avg_pool3d(v, [2, 2, 2]), F.adaptive_max_pool3d(v, 2), F.max_pool3d(v, 2, return_indices=True),
                                         F.max_pool1d(x[0], 2, return_indices=True), F.max_unpool3d(*F.max_pool3d(v[..., :2], 2, return_indices=True), 2)),
        "convolved": lambda x, i, v, s, b: (F.conv3d(v, v[:, :, :3, :3], padding="same"), _A.convolution(x, x[:, :, :3, :3].contiguous(), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
                                            _A.convolution(x[:, :2], x[:, :, :3, :3].contiguous(), None, [2, 2], [1, 1], [1, 1], True, [1, 1], 1)),
        "shaped": lambda x, i, v, s, b: (_A.native_channel_shuffle(x[:, :2], 2), _A.native_dropout(x, 0.5, False), _A.as_strided(s, [2, 2], [2, 1]), _A.new_empty(x, [2]) * 0,
                                         _A._unsafe_view(x, [6, 48]), _A._reshape_alias(x, [6, 48], [48, 1]), _A.alias(x) + 0, _A.lift_fresh_copy(x) * 1),
        "sampled": lambda x, i, v, s, b: F.grid_sample(v, v[:, :1, :, :, :].permute(0, 2, 3, 1, 4)[..., :1].expand(1, 4, 4, 1, 3) / 3, align_corners=True),
        "normalized": lambda x, i, v, s, b: (_A._fused_rms_norm(x, [8], None, 1e-5)[0], _A.rrelu_with_noise(x, x.clone(), 0.1, 0.3, False)),
    },
    1e-4,
    1e-4,
)  # fmt: skip
