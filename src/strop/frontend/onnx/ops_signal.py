"""ONNX ops of signal processing: Fourier transforms as products with matrices of sines and cosines, mel filters."""

from __future__ import annotations

from math import log, pi

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Operand
from strop.frontend.onnx.registry import onnx_op
from strop.frontend.onnx.tensors import element_type
from strop.ir import shape as sh
from strop.ir.op import Array
from strop.ops.conv import Conv
from strop.ops.data import Reshape, Slice, Transpose
from strop.ops.elementwise import make
from strop.ops.matmul import MatMul


def fourier(length: int, taken: int, bins: int, parts: int) -> Array:
    """The transform of ``taken`` elements to ``bins`` frequencies as a matrix [taken, parts, bins, 2] in f64.

    Args:
        length: of the period; element n turns bin k by -2 pi n k / length.
        taken: elements, the others being zero.
        bins: frequencies from 0 on.
        parts: 1 for real elements, 2 for (real, imaginary) pairs.
    """
    angle = 2 * pi / length * (np.outer(np.arange(taken), np.arange(bins)) % length)
    real = np.stack([np.cos(angle), -np.sin(angle)], -1)
    imaginary = np.stack([np.sin(angle), np.cos(angle)], -1)
    return np.stack([real, imaginary][:parts], 1)


def _inverse(length: int, taken: int, parts: int, onesided: bool) -> Array:
    """The inverse transform as a matrix [taken, parts, length, 2], or [taken, parts, length, 1] from half of a spectrum."""
    angle = 2 * pi / length * (np.outer(np.arange(taken), np.arange(length)) % length)
    cos, sin = np.cos(angle) / length, np.sin(angle) / length
    if not onesided:
        pairs = [np.stack([cos, sin], -1), np.stack([-sin, cos], -1)]
        return np.stack(pairs[:parts], 1)
    twice = np.where((np.arange(taken) == 0) | (2 * np.arange(taken) == length), 1.0, 2.0)
    halves = [(cos * twice[:, None])[..., None], (-sin * twice[:, None])[..., None]]
    return np.stack(halves[:parts], 1)


@onnx_op("DFT", since=17, until=19)
def dft_17(node: NodeContext) -> Operand:
    return _dft(node, node.axis(default=1))


@onnx_op("DFT", since=20)
def dft_20(node: NodeContext) -> Operand:
    axis = -2 if node.optional(2) is None else int(node.scalar(2, "axis"))
    return _dft(node, node.normal_axis(axis, node.rank(0)))


def _dft(node: NodeContext, axis: int) -> Operand:
    """x[.., n, .., 1 or 2] along an axis; onesided gives or takes the first half of the spectrum of a real signal."""
    x, inverse, onesided = node.operand(0), node.flag("inverse"), node.flag("onesided")
    last = x.type.rank - 1
    have, parts = sh.static((x.type.shape[axis], x.type.shape[last]), node.where)
    if axis == last or parts not in (1, 2) or have < 1 or not x.type.dtype.is_float:
        raise node.malformed("operand 0 does not fit", got=x.type, expected="floats [.., n, .., 1 or 2]")
    length = 2 * (have - 1) if inverse and onesided else have
    if node.optional(1) is not None:
        length = int(node.scalar(1, "dft_length"))
    if length < 1:
        raise node.malformed("dft_length must be positive", got=length)
    half = length // 2 + 1
    taken = min(have, half if inverse and onesided else length)
    bins = half if onesided and not inverse else length
    node.check_size((taken, parts, bins, 2), 8)
    table = _inverse(length, taken, parts, onesided) if inverse else fourier(length, taken, bins, parts)
    if taken < have:
        x = node.step(Slice.of(x.type.shape, [0], [taken], [axis], [1]), x)
    rest = [k for k in range(last) if k != axis]
    moved = node.step(Transpose((*rest, axis, last)), x)
    lead = moved.type.shape[:-2]
    rows = node.step(Reshape((sh.volume(lead), taken * parts)), moved)
    matrix = table.reshape(taken * parts, -1).astype(x.type.dtype.numpy)
    product = node.step(MatMul(), rows, node.const(matrix))
    spectrum = node.step(Reshape((*lead, *table.shape[2:])), product)
    back = [rest.index(k) if k in rest else len(rest) for k in range(last)]
    return node.step(Transpose((*back, last)), spectrum)


@onnx_op("STFT", since=17)
def stft(node: NodeContext) -> Operand:
    """A convolution: one output channel per real or imaginary part of a frequency, its weights the windowed waves."""
    x, window = node.operand(0), node.optional(2)
    step = int(node.scalar(1, "frame_step"))
    onesided = node.flag("onesided", True)
    if x.type.rank == 2:
        x = node.step(Reshape((*x.type.shape, 1)), x)
    if x.type.rank != 3 or x.type.shape[2] not in (1, 2) or not x.type.dtype.is_float:
        raise node.malformed("operand 0 does not fit", got=x.type, expected="floats [batch, n, 1 or 2]")
    (parts,) = sh.static(x.type.shape[2:], node.where)
    if node.optional(3) is not None:
        length = int(node.scalar(3, "frame_length"))
    elif window is not None:
        (length,) = sh.static(window.type.shape, node.where)
    else:
        raise node.malformed("needs a window or a frame_length")
    if step < 1 or length < 1 or (window is not None and window.type.shape != (length,)):
        raise node.malformed("frames do not fit", got=f"step {step}, length {length}")
    bins = length // 2 + 1 if onesided else length
    node.check_size((length, parts, bins, 2), 8)
    table = fourier(length, length, bins, parts).transpose(2, 3, 1, 0)
    waves: Operand = node.const(table.reshape(2 * bins, parts, length).astype(x.type.dtype.numpy))
    if window is not None:
        waves = node.step(make("mul"), waves, window)
    signal = node.step(Transpose((0, 2, 1)), x)
    found = node.step(Conv((step,), (0, 0), (1,)), signal, waves)
    batch, _, frames = found.type.shape
    split = node.step(Reshape((batch, bins, 2, frames)), found)
    return node.step(Transpose((0, 3, 1, 2)), split)


@onnx_op("MelWeightMatrix", since=17)
def mel_weight_matrix(node: NodeContext) -> Operand:
    """Triangles over the frequencies [dft_length // 2 + 1, bins], their corners at equal distances in mel, all known."""
    names = ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz")
    bins, length, rate, low, high = (node.scalar(i, name) for i, name in enumerate(names))
    to = element_type(node.integer("output_datatype", 1), node.where)
    if bins < 1 or length < 1 or rate < 1 or not 0 <= low <= high:
        raise node.malformed("operands out of range", got=(bins, length, rate, low, high))
    node.check_size((length // 2 + 1, bins), 8)
    mel = 2595 / log(10)
    first, last = mel * np.log1p(low / 700), mel * np.log1p(high / 700)
    corners = first + np.arange(bins + 2) * ((last - first) / (bins + 2))
    edges = np.floor((length + 1) * 700 * np.expm1(corners / mel) / rate).astype(np.int64)
    if edges[-1] > length // 2 + 1:
        raise node.malformed("upper_edge_hertz is above half of sample_rate", got=high)
    at = np.arange(length // 2 + 1)[:, None]
    left, top, right = edges[:-2], edges[1:-1], edges[2:]
    rising = np.where((at >= left) & (at <= top), (at - left) / np.maximum(top - left, 1), 0.0)
    rising = np.where((left == top) & (at == top), 1.0, rising)
    falling = (at >= top) & (at < right)
    weights = np.where(falling, (right - at) / np.maximum(right - top, 1), rising)
    return node.const(weights.astype(to.numpy))
