"""Sampling, regions, unpooling, signals and quantization beyond the backend tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from strop.frontend.onnx import read_onnx
from strop.ir.interp import run
from tests.frontend.onnx_models import check, floats, longs, onnx_runtime, single

IMAGE = floats(1, 4, 6, 7)
GRID = floats(1, 3, 4, 2, low=-1.3, high=1.3)
BOXES = np.sort(floats(1, 12, 4, low=0, high=1).reshape(1, 12, 2, 2), 2).reshape(1, 12, 4)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample_of_opset_16(mode: str, padding: str) -> None:
    model, feeds = single("GridSample", [IMAGE, GRID], 16, mode=mode, padding_mode=padding)
    check(model, feeds, rtol=2e-5, atol=2e-6, peer="onnxruntime")


@pytest.mark.parametrize("opset", [10, 16])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(opset: int, ratio: int) -> None:
    regions = np.float32([[0, 0, 9, 7], [3, 2, 5, 12], [-4, 1, 2, 3]])
    operands = [floats(2, 3, 8, 8), regions, longs(0, 1, 1)]
    size = {"output_height": 3, "output_width": 2, "sampling_ratio": ratio, "spatial_scale": 0.75}
    model, feeds = single("RoiAlign", operands, opset, **size)
    check(model, feeds, rtol=2e-5, atol=2e-6, peer="onnxruntime")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_deform_conv(masked: bool, groups: int) -> None:
    operands: list[Any] = [floats(2, 4, 5, 6), floats(6, 4 // groups, 3, 2), floats(2, 24, 5, 3, seed=1)]
    operands += [floats(6), floats(2, 12, 5, 3, low=0, high=1)] if masked else []
    attributes = {"group": groups, "offset_group": 2, "pads": [1, 0, 1, 1], "strides": [1, 2]}
    model, feeds = single("DeformConv", operands, 19, **attributes)
    check(model, feeds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
def test_max_pool_with_indices_and_back(order: int) -> None:
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}
    model, feeds = single("MaxPool", [IMAGE], 12, results=2, storage_order=order, **attributes)
    graph = read_onnx(model)
    got, wanted = list(run(graph, feeds).values()), onnx_runtime(model, feeds)
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], wanted[1])
    if order == 0:
        plain = {"kernel_shape": [3, 2], "strides": [2, 2]}
        small = np.asarray(got[1][:, :, :2, :2] % 30)
        back, inputs = single("MaxUnpool", [got[0][:, :, :2, :2], small], 11, **plain)
        check(back, inputs, peer="onnxruntime")


def test_boxes_that_are_known() -> None:
    scores = floats(1, 2, 12, low=0, high=1, seed=5)
    for operands in ([BOXES, scores, longs(4), np.float32([0.4]), np.float32([0.2])], [BOXES, scores, longs(9)]):
        model, feeds = single("NonMaxSuppression", operands, 11, known=range(len(operands)))
        graph = read_onnx(model)
        free, given = single("NonMaxSuppression", operands, 11)
        np.testing.assert_array_equal(run(graph, feeds)["y0"], onnx_runtime(free, given)[0])


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique_of_what_is_known(ordered: int, axis: int | None) -> None:
    x = np.float32([[3, 1, 3], [1, 1, 1], [3, 1, 3]])
    attributes = {} if axis is None else {"axis": axis}
    model, feeds = single("Unique", [x], 11, [0], 4, sorted=ordered, **attributes)
    free, given = single("Unique", [x], 11, (), 4, sorted=ordered, **attributes)
    got = list(run(read_onnx(model), feeds).values())
    for a, b in zip(got, onnx_runtime(free, given), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_determinants(size: int) -> None:
    model, feeds = single("Det", [floats(3, size, size)], 22)
    check(model, feeds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_counts_of_n_grams(mode: str) -> None:
    attributes = {
        "mode": mode, "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1, "ngram_counts": [0, 3],
        "ngram_indexes": [1, 0, 2, 4, 3], "pool_int64s": [2, 3, 5, 2, 3, 5, 2], "weights": [0.5, 2.0, 1.0, 3.0, 1.5],
    }  # fmt: skip
    x = np.asarray([[2, 3, 5, 2, 2], [5, 2, 3, 3, 9]], np.int64)
    model, feeds = single("TfIdfVectorizer", [x], 9, **attributes)
    check(model, feeds, peer="onnxruntime")


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("length", [None, 6, 16])
@pytest.mark.parametrize("inverse", [0, 1])
def test_fourier_transforms(parts: int, length: int | None, inverse: int) -> None:
    operands: list[Any] = [floats(2, 9, parts), *([] if length is None else [np.int64(length)])]
    known = list(range(1, len(operands)))
    model, feeds = single("DFT", operands, 20, known, inverse=inverse)
    if inverse and parts == 1:
        x = operands[0][..., 0]
        wanted = np.fft.ifft(x, length, 1)
        got = run(read_onnx(model), feeds)["y0"]
        np.testing.assert_allclose(got, np.stack([wanted.real, wanted.imag], -1), atol=1e-6)
        return
    check(model, feeds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [False, True])
def test_short_time_fourier_transform(onesided: int, windowed: bool) -> None:
    window = np.hanning(8).astype(np.float32) if windowed else None
    operands: list[Any] = [floats(2, 40, 1), np.int64(3), window, np.int64(8)]
    model, feeds = single("STFT", operands, 17, [1, 3], onesided=onesided)
    check(model, feeds, rtol=1e-4, atol=1e-4)


def test_wide_quantization_is_exact() -> None:
    """Ties go to the even integer, results saturate, and the zero point is added after rounding."""
    x = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9, 3.49])
    model, feeds = single("QuantizeLinear", [x, np.float32(1), np.int8(3)], 19)
    got = run(read_onnx(model), feeds)["y0"]
    assert got.tolist() == [3, 5, 5, 3, 1, 127, -128, 6]


@pytest.mark.parametrize("zero", [None, "rows"])
def test_products_of_integers(zero: str | None) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (3, 5)).astype(np.uint8), rng.integers(-128, 128, (5, 4)).astype(np.int8)
    more = [] if zero is None else [np.uint8([1, 200, 9]), np.int8([-3, 4, 0, 1])]
    model, feeds = single("MatMulInteger", [a, b, *more], 10)
    got = run(read_onnx(model), feeds)["y0"]
    left = a.astype(np.int64) - (0 if zero is None else more[0][:, None].astype(np.int64))
    right = b.astype(np.int64) - (0 if zero is None else more[1].astype(np.int64))
    np.testing.assert_array_equal(got, left @ right)


def test_quantized_convolution_per_channel() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (1, 3, 6, 6)).astype(np.uint8)
    w = rng.integers(-64, 64, (4, 3, 3, 3)).astype(np.int8)  # with more, ONNX Runtime's sums saturate on x86-64 without VNNI
    scales = floats(4, low=0.001, high=0.01)
    bias = rng.integers(-500, 500, 4).astype(np.int32)
    x_scale, y_scale = np.asarray(0.02, np.float32), np.asarray(0.05, np.float32)
    zeros = np.asarray(128, np.uint8), np.zeros(4, np.int8), np.asarray(100, np.uint8)
    operands = [x, x_scale, zeros[0], w, scales, zeros[1], y_scale, zeros[2], bias]
    model, feeds = single("QLinearConv", operands, 10, [3, 4, 5], pads=[1, 1, 1, 1], strides=[2, 2])
    check(model, feeds, atol=1, peer="onnxruntime")
