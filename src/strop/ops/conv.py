"""Convolution and transposed convolution in 1 to 3 spatial dims (ONNX Conv and ConvTranspose)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.expr import Expr
from strop.ir.loops import Loop, Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ir.shape import Dim, Shape
from strop.ops import base

LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Conv(Op):
    """Cross-correlation of x with w, plus b per output channel.

    Operands: x[N, C, *spatial], w[O, C/groups, *kernel], optional b[O]; one float dtype or i32;
    w is static.
    Result: [N, O, *out] with out = (in + pads - dilation * (kernel - 1) - 1) // stride + 1.

    Attributes:
        strides: per spatial axis.
        pads: zeros before every spatial axis, then after every spatial axis.
        dilations: per spatial axis.
        groups: channel groups; divides C and O.
        layout: ``NCHW`` (channels at axis 1, any number of spatial axes) or ``NHWC`` (channels
            last, x and result).
    """

    name: ClassVar[str] = "conv"

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    layout: str = "NCHW"

    def channel_axis(self, rank: int) -> int:
        """Axis of the channels in x and the result."""
        return 1 if self.layout == "NCHW" else rank - 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Axes of x and the result that the window moves along."""
        return tuple(range(2, rank)) if self.layout == "NCHW" else tuple(range(1, rank - 1))

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        dtype = base.same_dtype(self, inputs)
        if dtype is not dt.i32:
            base.floating(self, inputs)
        base.choice(self, "layout", self.layout, LAYOUTS)
        x, w = inputs[0].shape, sh.static(inputs[1].shape, self.name)
        if not 3 <= len(x) <= 5 or len(w) != len(x):
            raise self.fail("ranks do not fit", inputs, "x and w of equal rank 3 to 5")
        rank = len(x) - 2
        base.check_window(
            self, rank, strides=self.strides, pads=self.pads, dilations=self.dilations
        )
        channels = x[self.channel_axis(len(x))]
        if self.groups < 1 or channels != w[1] * self.groups:
            raise self.fail(
                "channels of x and w do not fit", inputs, f"C = groups * w[1], groups {self.groups}"
            )
        if w[0] % self.groups:
            raise self.fail("groups do not divide the output channels", inputs)
        if len(inputs) == 3 and inputs[2].shape != (w[0],):
            raise self.fail("bias does not fit", inputs, f"[{w[0]}]")
        kernel = w[2:]
        out = tuple(
            _out(self, x[axis], kernel[k], k) for k, axis in enumerate(self.spatial_axes(len(x)))
        )
        shape: Shape = (x[0], w[0], *out) if self.layout == "NCHW" else (x[0], *out, w[0])
        return (Type(dtype, shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, w = inputs[:2]
        first = x if self.layout == "NCHW" else np.moveaxis(x, -1, 1)
        out = _correlate(base.wide(first), base.wide(w), self)
        if len(inputs) == 3:
            out += base.wide(inputs[2]).reshape(-1, *[1] * (x.ndim - 2))
        out = out if self.layout == "NCHW" else np.moveaxis(out, 1, -1)
        return (base.narrow(np.ascontiguousarray(out), x),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        per_output = sh.count(sh.static(inputs[1].shape[1:], self.name))
        flops = (2 * per_output + len(inputs) - 2) * outputs[0].count
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, w = inputs[0], inputs[1]
        out = outputs[0]
        axes = loops(out.shape)
        per_group = sh.static(w.shape, self.name)
        taps = (Loop("c", per_group[1]), *loops(w.shape[2:], "k"))
        position = base.variables(axes)
        channel = position[self.channel_axis(out.rank)]
        group = base.floor_div(channel, per_group[0] // self.groups)
        index = list(position)
        index[self.channel_axis(out.rank)] = (
            taps[0].var if self.groups == 1 else base.scale(group, per_group[1]) + taps[0].var
        )
        guards: list[Expr] = []
        rank = len(self.strides)
        for k, axis in enumerate(self.spatial_axes(out.rank)):
            at = base.window_index(
                position[axis], taps[1 + k].var, self.strides[k], self.dilations[k], self.pads[k]
            )
            padded = self.pads[k] > 0 or self.pads[rank + k] > 0
            index[axis] = base.guarded(at, x.shape[axis], guards) if padded else at
        kind = base.compute_type(x.dtype)
        element = base.padded_load(0, x, index, guards, 0.0)
        weight = base.load(1, w.dtype, [channel, *base.variables(taps)])
        final: Expr = ex.Acc()
        if len(inputs) == 3:
            final = final + base.load(2, inputs[2].dtype, [channel])
        final = base.cast(final, kind, out.dtype)
        stage = Stage(
            "out0", out.dtype, axes, element * weight, taps, "add", ex.Const(0), final, kind
        )
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for x, w, bias, attributes in _CONV_SAMPLES:
            rank = len(x) - 2
            op = cls(**{**_plain(rank), **attributes})  # type: ignore[arg-type]
            shapes = [x if op.layout == "NCHW" else (x[0], *x[2:], x[1]), w]
            shapes += [(w[0],)] if bias else []
            yield Sample(op, tuple(base.random_array(rng, s) for s in shapes))
        for dtype in (dt.f64, dt.f16, dt.bf16, dt.i32):
            op = cls(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
            shapes = [(1, 3, 5, 5), (4, 3, 3, 3), (4,)]
            yield Sample(op, tuple(base.random_array(rng, s, dtype) for s in shapes))


ProductT = TypeVar("ProductT", bound="ConvAttributes")


@dataclass(frozen=True)
class ConvAttributes:
    """The attributes of a Conv, of an op that multiplies as it does and adds up otherwise."""

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    layout: str = "NCHW"

    def plain(self) -> Conv:
        """The convolution."""
        return Conv(self.strides, self.pads, self.dilations, self.groups, self.layout)

    @classmethod
    def of(cls: type[ProductT], op: Conv) -> ProductT:
        """The op with the attributes of a Conv."""
        return cls(op.strides, op.pads, op.dilations, op.groups, op.layout)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """Transposed convolution: the gradient of Conv with respect to its input, plus b.

    Operands: x[N, C, *spatial], w[C, O/groups, *kernel], optional b[O]; one float dtype; w is
    static.
    Result: [N, O, *out] with out = (in - 1) * stride + output_padding + dilation * (kernel - 1) + 1
    - pads.

    Attributes:
        strides: per spatial axis.
        pads: cut off before every spatial axis, then after every spatial axis.
        dilations: per spatial axis.
        groups: channel groups.
        output_padding: extra size after each spatial axis.
    """

    name: ClassVar[str] = "conv_transpose"

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    output_padding: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 2, 3)
        dtype = base.floating(self, inputs)
        x, w = inputs[0].shape, sh.static(inputs[1].shape, self.name)
        if not 3 <= len(x) <= 5 or len(w) != len(x):
            raise self.fail("ranks do not fit", inputs, "x and w of equal rank 3 to 5")
        rank = len(x) - 2
        base.check_window(
            self,
            rank,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            output_padding=self.output_padding,
        )
        if x[1] != w[0]:
            raise self.fail("channels of x and w do not fit", inputs, "C = w[0]")
        if self.groups < 1 or w[0] % self.groups:
            raise self.fail(f"groups {self.groups} do not divide the channels", inputs)
        channels = w[1] * self.groups
        if len(inputs) == 3 and inputs[2].shape != (channels,):
            raise self.fail("bias does not fit", inputs, f"[{channels}]")
        kernel = w[2:]
        out: list[Dim] = []
        for k in range(rank):
            grown = sh.mul(sh.sub(x[2 + k], 1), self.strides[k])
            extra = self.output_padding[k] + self.dilations[k] * (kernel[k] - 1) + 1
            out.append(sh.add(grown, extra - self.pads[k] - self.pads[rank + k]))
        if any(isinstance(d, int) and d < 0 for d in out):
            raise self.fail("pads cut off more than there is", inputs)
        return (Type(dtype, (x[0], channels, *out)),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        x, w = base.wide(inputs[0]), base.wide(inputs[1])
        rank, groups = x.ndim - 2, self.groups
        batch, channels, spatial = x.shape[0], x.shape[1], x.shape[2:]
        kernel, per_group = w.shape[2:], w.shape[1]
        whole = [
            (size - 1) * s + d * (k - 1) + 1 + extra
            for size, s, d, k, extra in zip(
                spatial, self.strides, self.dilations, kernel, self.output_padding, strict=True
            )
        ]
        out = np.zeros((batch, groups * per_group, *whole))
        columns = x.reshape(batch, groups, channels // groups, -1)
        weights = w.reshape(groups, channels // groups, per_group, *kernel)
        for tap in np.ndindex(*kernel):
            part = np.matmul(weights[(slice(None),) * 3 + tap].swapaxes(1, 2), columns)
            place = tuple(
                slice(t * d, t * d + (size - 1) * s + 1, s)
                for t, d, size, s in zip(tap, self.dilations, spatial, self.strides, strict=True)
            )
            out[(slice(None), slice(None), *place)] += part.reshape(batch, -1, *spatial)
        kept = tuple(slice(self.pads[k], whole[k] - self.pads[rank + k]) for k in range(rank))
        out = out[(slice(None), slice(None), *kept)]
        if len(inputs) == 3:
            out = out + base.wide(inputs[2]).reshape(-1, *[1] * rank)
        return (base.narrow(np.ascontiguousarray(out), inputs[0]),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        per_input = sh.count(sh.static(inputs[1].shape[1:], self.name))
        flops = 2 * per_input * inputs[0].count + (len(inputs) - 2) * outputs[0].count
        return Cost(flops, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        x, w, out = inputs[0], inputs[1], outputs[0]
        axes = loops(out.shape)
        channels, per_group, *kernel = sh.static(w.shape, self.name)
        taps = (Loop("c", channels // self.groups), *loops(tuple(kernel), "k"))
        position = base.variables(axes)
        source = base.scale(base.floor_div(position[1], per_group), channels // self.groups)
        source = taps[0].var if self.groups == 1 else source + taps[0].var
        index: list[Expr] = [position[0], source]
        guards: list[Expr] = []
        for k, stride in enumerate(self.strides):
            at = base.scale(position[2 + k], 1, self.pads[k])
            at = at - base.scale(taps[1 + k].var, self.dilations[k])
            if stride > 1:
                guards.append(ex.call("eq", base.floor_mod(at, stride), base.integer(0)))
            index.append(base.guarded(base.floor_div(at, stride), x.shape[2 + k], guards))
        kind = base.compute_type(x.dtype)
        element = base.padded_load(0, x, index, guards, 0.0)
        within = base.floor_mod(position[1], per_group)
        weight = base.load(1, w.dtype, [source, within, *base.variables(taps[1:])])
        final: Expr = ex.Acc()
        if len(inputs) == 3:
            final = final + base.load(2, inputs[2].dtype, [position[1]])
        final = base.cast(final, kind, out.dtype)
        stage = Stage(
            "out0", out.dtype, axes, element * weight, taps, "add", ex.Const(0.0), final, kind
        )
        return Program((stage,))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for x, w, bias, attributes in _TRANSPOSE_SAMPLES:
            rank = len(x) - 2
            plain = {**_plain(rank), "groups": 1, "output_padding": (0,) * rank}
            op = cls(**{**plain, **attributes})  # type: ignore[arg-type]
            shapes = [x, w] + ([(w[1] * op.groups,)] if bias else [])
            yield Sample(op, tuple(base.random_array(rng, s) for s in shapes))
        op = cls((2, 2), (1, 1, 1, 1), (1, 1), 1, (1, 1))
        shapes = [(1, 3, 4, 4), (3, 2, 3, 3), (2,)]
        yield Sample(op, tuple(base.random_array(rng, s, dt.bf16) for s in shapes))


def _plain(rank: int) -> dict[str, tuple[int, ...]]:
    """Window attributes that change nothing."""
    return {"strides": (1,) * rank, "pads": (0,) * (2 * rank), "dilations": (1,) * rank}


#: x (channels first), w, whether there is a bias, attributes that differ from _plain.
_CONV_SAMPLES: tuple[tuple[tuple[int, ...], tuple[int, ...], bool, dict[str, object]], ...] = (
    ((1, 3, 7, 7), (4, 3, 3, 3), True, {"pads": (1, 1, 1, 1)}),
    ((2, 4, 5, 6), (8, 4, 1, 1), True, {}),
    ((1, 16, 6, 5), (24, 16, 1, 1), False, {"strides": (2, 2)}),
    ((1, 3, 11, 9), (6, 3, 7, 7), True, {"strides": (2, 2), "pads": (3, 3, 3, 3)}),
    ((1, 8, 7, 6), (8, 1, 3, 3), True, {"groups": 8, "pads": (1, 1, 1, 1)}),
    ((2, 6, 8, 7), (6, 1, 5, 5), False, {"groups": 6, "pads": (2, 2, 2, 2), "strides": (2, 2)}),
    ((1, 4, 5, 5), (8, 1, 3, 3), True, {"groups": 4, "pads": (0, 1, 2, 1)}),
    ((1, 8, 5, 5), (12, 2, 3, 2), True, {"groups": 4, "pads": (1, 0, 1, 1)}),
    ((1, 2, 9, 8), (3, 2, 3, 3), True, {"dilations": (2, 3), "pads": (2, 3, 2, 3)}),
    ((1, 5, 4, 9), (7, 5, 1, 7), True, {"pads": (0, 3, 0, 3)}),
    ((1, 5, 9, 4), (7, 5, 7, 1), True, {"pads": (3, 0, 3, 0), "strides": (3, 1)}),
    ((1, 3, 1, 1), (5, 3, 3, 3), False, {"pads": (1, 1, 1, 1)}),
    ((2, 3, 13), (4, 3, 5), True, {"pads": (2, 1), "strides": (2,)}),
    ((1, 10, 6, 7), (3, 10, 3, 3), False, {"pads": (1, 1, 1, 1)}),
    ((1, 4, 9), (4, 1, 3), False, {"groups": 4, "dilations": (2,)}),
    ((1, 2, 4, 5, 3), (3, 2, 2, 3, 2), True, {"pads": (1, 1, 0, 0, 1, 1), "strides": (1, 2, 1)}),
    ((2, 3, 6, 5), (4, 3, 3, 3), True, {"pads": (1, 1, 1, 1), "layout": "NHWC"}),
    ((1, 6, 7, 5), (6, 1, 3, 3), True, {"groups": 6, "strides": (2, 1), "layout": "NHWC"}),
    ((1, 4, 6, 6), (6, 2, 3, 3), False, {"groups": 2, "pads": (0, 0, 1, 1), "layout": "NHWC"}),
)
_TRANSPOSE_SAMPLES: tuple[tuple[tuple[int, ...], tuple[int, ...], bool, dict[str, object]], ...] = (
    ((1, 3, 4, 5), (3, 2, 3, 3), True, {}),
    ((2, 4, 3, 3), (4, 3, 2, 2), False, {"strides": (2, 2)}),
    (
        (1, 4, 4, 3),
        (4, 2, 3, 3),
        True,
        {"strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 1), "groups": 2},
    ),
    ((1, 6, 3, 4), (6, 1, 4, 4), True, {"strides": (2, 2), "pads": (1, 1, 1, 1), "groups": 6}),
    ((1, 2, 5, 4), (2, 3, 3, 2), False, {"dilations": (2, 3), "pads": (1, 0, 2, 1)}),
    ((1, 3, 7), (3, 4, 5), True, {"strides": (3,), "output_padding": (2,)}),
    ((1, 2, 3, 2, 3), (2, 3, 2, 3, 2), True, {"strides": (1, 2, 2), "pads": (0, 1, 0, 1, 0, 1)}),
)

_CHUNK = 1 << 22  # elements of a window matrix that are unfolded at once


def _correlate(x: Array, w: Array, op: Conv) -> Array:
    """Convolution of channels-first float64 arrays, without bias."""
    rank = x.ndim - 2
    channels, kernel = w.shape[0], w.shape[2:]
    out = sh.static(tuple(_out(op, x.shape[2 + k], kernel[k], k) for k in range(rank)))
    pads = [(op.pads[k], op.pads[rank + k]) for k in range(rank)]
    if any(op.pads):
        x = np.pad(x, [(0, 0), (0, 0), *pads])
    if 0 in (*out, x.shape[0]):
        return np.zeros((x.shape[0], channels, *out))
    steps = x.strides[2:]
    windows = np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *kernel, *out),
        (
            *x.strides[:2],
            *(s * d for s, d in zip(steps, op.dilations, strict=True)),
            *(s * t for s, t in zip(steps, op.strides, strict=True)),
        ),
        writeable=False,
    )
    if w.shape[1] == 1:
        return _per_channel(windows, w, op.groups)
    weights = w.reshape(op.groups, channels // op.groups, -1)
    result = np.empty((x.shape[0], channels, *out))
    depth = x.shape[1] * sh.count(kernel) * x.shape[0]
    rows = max(1, _CHUNK // max(1, depth * sh.count(out[1:])))
    for low in range(0, out[0], rows):
        high = min(low + rows, out[0])
        part = windows[(slice(None),) * (2 + rank) + (slice(low, high),)]
        matrix = part.reshape(x.shape[0], op.groups, weights.shape[2], -1)
        product = np.matmul(weights, matrix)
        result[:, :, low:high] = product.reshape(x.shape[0], channels, high - low, *out[1:])
    return result


def _per_channel(windows: Array, w: Array, groups: int) -> Array:
    """Depthwise convolution, tap by tap; every channel gives w.shape[0] // groups results."""
    batch, kernel, out = windows.shape[0], w.shape[2:], windows.shape[2 + w.ndim - 2 :]
    factor = w.shape[0] // groups
    weights = w.reshape(groups, factor, *kernel)
    total = np.zeros((batch, groups, factor, *out))
    for tap in np.ndindex(*kernel):
        element = windows[(slice(None), slice(None), *tap)][:, :, None]
        total += element * weights[(slice(None), slice(None), *tap)].reshape(
            groups, factor, *[1] * len(out)
        )
    return total.reshape(batch, groups * factor, *out)


def _out(op: Conv, size: Dim, kernel: int, k: int) -> Dim:
    """Result size along spatial axis k."""
    rank = len(op.strides)
    return base.window_extent(
        size, kernel, op.strides[k], op.pads[k], op.pads[rank + k], op.dilations[k]
    )
