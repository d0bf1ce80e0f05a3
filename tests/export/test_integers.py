"""TFLite files in fewer bits keep to TensorFlow Lite's rules."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import OptionError
from strop.export import integers
from strop.export.integers import Integers
from strop.frontend.tflite.grid import Grid
from strop.frontend.tflite.records import OutGraph, OutOperator, OutTensor
from strop.ir import dtype as dt
from strop.quantize.table import Table, of

RNG = np.random.default_rng(0)
TABLE = of({"x": (-1.0, 1.0), "y": (0.0, 6.0), "z": (-3.0, 2.0)})


def tensor(name: str, *shape: int) -> OutTensor:
    return OutTensor(name, dt.f32, shape, value=name)


def const(*shape: int) -> OutTensor:
    return OutTensor("c", dt.f32, shape, data=RNG.standard_normal(shape).astype(np.float32))


def quantized(graph: OutGraph, kind: dt.DType = dt.i8, table: Table = TABLE) -> Integers:
    found = Integers(graph, table, kind)
    found.run()
    return found


def chain(*operators: OutOperator) -> OutGraph:
    return OutGraph("net", {"x": operators[0].operands[0]}, {"y": operators[-1].outputs[0]}, list(operators))


def dense(bias: bool = True) -> OutGraph:
    x, y, w, b = tensor("x", 1, 8), tensor("y", 1, 4), const(4, 8), const(4)
    return chain(OutOperator("FULLY_CONNECTED", [x, w, b] if bias else [x, w], [y], "FullyConnectedOptions"))


def test_a_product_has_symmetric_weights_and_a_bias_in_units_of_both_scales() -> None:
    graph = dense()
    real = graph.operators[0].inputs[2]
    assert real is not None and real.data is not None
    quantized(graph)
    assert [o.code for o in graph.operators] == ["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"]
    x, w, b = graph.operators[1].operands
    assert (x.dtype, w.dtype, b.dtype) == (dt.i8, dt.i8, dt.i32)
    assert x.grid and w.grid and b.grid and w.data is not None and b.data is not None
    assert not w.grid.zero.any() and w.data.min() >= -127
    np.testing.assert_allclose(b.grid.scale, x.grid.scale * w.grid.scale, rtol=1e-6)
    np.testing.assert_allclose(b.data * b.grid.scale, real.data, atol=float(b.grid.scale.max()))


def test_sixteen_bits_lie_around_zero_and_have_wide_biases() -> None:
    graph = dense()
    quantized(graph, dt.i16)
    x, w, b = graph.operators[1].operands
    assert (x.dtype, w.dtype, b.dtype) == (dt.i16, dt.i8, dt.i64)
    assert x.grid and x.grid.zero[0] == 0 and x.grid.scale[0] == pytest.approx(1 / 32767)


def test_channels_have_scales_of_their_own_where_a_bit_is_saved() -> None:
    even = RNG.uniform(-1, 1, (16, 64)).astype(np.float32)
    spread = even.copy()
    spread[0] *= 100
    assert integers.weights_of(even, 0, whole=True)[1].scale.size == 1
    assert integers.weights_of(spread, 0, whole=True)[1].scale.size == 16
    assert integers.weights_of(even, 0)[1].scale.size == 16


def test_what_moves_elements_keeps_their_grid() -> None:
    x, y, z = tensor("x", 1, 4), tensor("y", 1, 4), tensor("z", 1, 8)
    relu = OutOperator("RELU", [x], [y])
    graph = chain(relu, OutOperator("CONCATENATION", [x, y], [z], "ConcatenationOptions", {"Axis": 1}))
    quantized(graph)
    grids = [t.grid for o in graph.operators if o.code == "CONCATENATION" for t in (*o.operands, *o.outputs)]
    assert all(g is not None and g.same(grids[0]) for g in grids)
    assert grids[0] is not None and grids[0].scale[0] == pytest.approx(9 / 255, rel=1e-3)  # from -3 to 6


def test_softmax_has_a_fixed_grid_and_is_requantized_for_its_readers() -> None:
    x, y, z = tensor("x", 1, 4), tensor("y", 1, 4), tensor("z", 1, 8)
    graph = chain(OutOperator("SOFTMAX", [x], [y], "SoftmaxOptions"), OutOperator("CONCATENATION", [x, y], [z], "ConcatenationOptions"))
    quantized(graph)
    assert y.grid is not None and (float(y.grid.scale[0]), int(y.grid.zero[0])) == (1 / 256, -128)
    assert [o.code for o in graph.operators] == ["QUANTIZE", "SOFTMAX", "QUANTIZE", "CONCATENATION", "DEQUANTIZE"]


def test_operators_without_integer_kernels_stay_in_floats_by_name() -> None:
    x, y, z = tensor("x", 1, 4), tensor("y", 1, 4), tensor("z", 1, 4)
    graph = chain(OutOperator("RELU", [x], [y], layer="node relu"), OutOperator("SIN", [y], [z], layer="node sin"))
    found = quantized(graph)
    assert found.floats == ["SIN (node sin)"]
    assert [o.code for o in graph.operators] == ["QUANTIZE", "RELU", "DEQUANTIZE", "SIN"]


@pytest.mark.parametrize(("inputs", "zero"), [(dt.i8, 0), (dt.u8, 128)])
def test_ends_may_be_integers(inputs: dt.DType, zero: int) -> None:
    graph = dense()
    found = quantized(graph)
    found.ends(inputs, inputs)
    given, made = graph.inputs["x"], graph.outputs["y"]
    assert given.dtype is made.dtype is inputs and given.grid and abs(int(given.grid.zero[0]) - zero) <= 1
    assert [o.code for o in graph.operators] == (["FULLY_CONNECTED"] if inputs is dt.i8 else ["QUANTIZE", "FULLY_CONNECTED", "QUANTIZE"])


def test_an_input_of_float_operators_cannot_be_integers() -> None:
    graph = chain(OutOperator("SIN", [tensor("x", 2)], [tensor("y", 2)]))
    with pytest.raises(OptionError, match="read by float operators"):
        quantized(graph).ends(dt.i8, dt.f32)


def test_a_missing_range_is_named() -> None:
    with pytest.raises(OptionError, match="no range") as error:
        quantized(dense(), table=of({"x": (0.0, 1.0)}))
    assert error.value.where == "y"


def test_half_precision_saturates_and_counts() -> None:
    graph = dense()
    weights = graph.operators[0].inputs[1]
    assert weights is not None and weights.data is not None
    weights.data[0, 0] = 1e6
    assert integers.half(graph) == 1
    assert [o.code for o in graph.operators] == ["DEQUANTIZE", "FULLY_CONNECTED"]
    stored = graph.operators[0].operands[0]
    assert stored.dtype is dt.f16 and stored.data is not None and np.isfinite(stored.data).all()


def test_dynamic_files_leave_small_weights_alone() -> None:
    small, large = dense(), dense()
    wide = const(64, 32)
    large.operators[0].inputs[1] = wide
    for graph in (small, large):
        integers.dynamic(graph)
    assert [g.operators[0].operands[1].dtype for g in (small, large)] == [dt.f32, dt.i8]
    assert large.operators[0].operands[2].dtype is dt.f32


def test_integers_that_are_moved_get_their_grid() -> None:
    x, y = OutTensor("x", dt.i8, (2,)), OutTensor("y", dt.i8, (2, 1), grid=Grid(np.ones(1, np.float32), np.zeros(1, np.int64), 0))
    integers.spread(chain(OutOperator("RESHAPE", [x], [y], "ReshapeOptions")))
    assert x.grid is y.grid
