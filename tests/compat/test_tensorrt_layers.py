"""Layers of versions 8 to 11 by TensorRT's calls: loops, conditionals, sizes that data decides, attention; what is refused, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import strop.compat.tensorrt as trt
from strop.compat.memory import array_at
from strop.errors import UnsupportedError

LOGGER = trt.Logger(trt.Logger.ERROR)
Array = np.ndarray[Any, Any]


class Allocator(trt.IOutputAllocator):
    """Keeps what it is given."""

    def __init__(self) -> None:
        trt.IOutputAllocator.__init__(self)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.memory: dict[str, Array] = {}

    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        self.memory[tensor_name] = np.zeros(size, np.uint8)
        return int(self.memory[tensor_name].ctypes.data)

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        self.shapes[tensor_name] = tuple(shape)


def network() -> Any:
    return trt.Builder(LOGGER).create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))


def engine_of(net: Any) -> Any:
    config = net.builder.create_builder_config()
    config.builder_optimization_level = 0
    return trt.Runtime(LOGGER).deserialize_cuda_engine(net.builder.build_serialized_network(net, config))


def run(net: Any, *inputs: Array) -> list[Array]:
    engine = engine_of(net)
    context, allocator = engine.create_execution_context(), Allocator()
    names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
    for name, array in zip(names, inputs):
        context.set_tensor_address(name, array.ctypes.data)
    for name in names[len(inputs) :]:
        context.set_output_allocator(name, allocator)
    assert context.execute_async_v3(0)
    return [
        array_at(allocator.memory[n].ctypes.data, np.dtype(trt.nptype(engine.get_tensor_dtype(n))), allocator.shapes[n]).copy() for n in names[len(inputs) :]
    ]


def constant(net: Any, array: Any) -> Any:
    array = np.asarray(array)
    return net.add_constant(array.shape, array).get_output(0)


def test_a_loop_with_every_kind_of_layer() -> None:
    net = network()
    x = net.add_input("x", trt.float32, (4, 3))
    loop = net.add_loop()
    loop.name = "sums"
    limit = loop.add_trip_limit(constant(net, np.int32(4)), trt.TripLimit.COUNT)
    state = loop.add_recurrence(constant(net, np.zeros(3, np.float32)))
    slices = loop.add_iterator(x, axis=0, reverse=True)
    total = net.add_elementwise(state.get_output(0), slices.get_output(0), trt.ElementWiseOperation.SUM).get_output(0)
    state.set_input(1, total)
    last = loop.add_loop_output(state.get_output(0), trt.LoopOutput.LAST_VALUE)
    whole = loop.add_loop_output(total, trt.LoopOutput.CONCATENATE, 1)
    whole.set_input(1, constant(net, np.int32(4)))
    assert limit.kind == trt.TripLimit.COUNT and limit.loop is loop and slices.reverse and whole.axis == 1 and whole.kind == trt.LoopOutput.CONCATENATE
    assert [layer.type for layer in (limit, state, slices, last)] == [trt.LayerType.TRIP_LIMIT, trt.LayerType.RECURRENCE, trt.LayerType.ITERATOR, trt.LayerType.LOOP_OUTPUT]
    assert whole.get_output(0).shape == (3, 4) and state.get_output(0).shape == (3,)
    net.mark_output(last.get_output(0))
    net.mark_output(whole.get_output(0))
    given = np.arange(12, dtype=np.float32).reshape(4, 3)
    sums = np.cumsum(given[::-1], 0)
    found = run(net, given)
    np.testing.assert_array_equal(found[0], sums[-1])
    np.testing.assert_array_equal(found[1], sums.T)


@pytest.mark.parametrize("flag", [True, False])
def test_a_conditional(flag: bool) -> None:
    net = network()
    x, f = net.add_input("x", trt.float32, (3,)), net.add_input("f", trt.bool, ())
    made = net.add_if_conditional()
    made.name = "sign"
    condition = made.set_condition(f)
    inner = made.add_input(x)
    yes, no = (net.add_unary(inner.get_output(0), op).get_output(0) for op in (trt.UnaryOperation.NEG, trt.UnaryOperation.ABS))
    out = made.add_output(yes, no)
    assert condition.conditional is made and out.type == trt.LayerType.CONDITIONAL_OUTPUT and condition.type == trt.LayerType.CONDITION
    net.mark_output(out.get_output(0))
    given = np.array([1, -2, 3], np.float32)
    (found,) = run(net, given, np.asarray(flag))
    np.testing.assert_array_equal(found, -given if flag else np.abs(given))


def test_sizes_that_data_decides() -> None:
    net = network()
    x, boxes, scores = (net.add_input(n, trt.float32, s) for n, s in (("x", (3, 4)), ("boxes", (1, 3, 4)), ("scores", (1, 3, 1))))
    places = net.add_non_zero(x)
    nms = net.add_nms(boxes, scores, constant(net, np.int32(2)))
    nms.set_input(3, constant(net, np.float32(0.5)))
    nms.bounding_box_format = trt.BoundingBoxFormat.CORNER_PAIRS
    for tensor in (places.get_output(0), nms.get_output(0), nms.get_output(1)):
        net.mark_output(tensor)
    given = np.eye(3, 4, dtype=np.float32)
    spread = np.array([[[0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6]]], np.float32)
    found = run(net, given, spread, np.array([[[0.9], [0.8], [0.7]]], np.float32))
    np.testing.assert_array_equal(found[0], np.array(np.nonzero(given)))
    assert found[1].tolist() == [[0, 0, 0], [0, 0, 2]] and found[2].item() == 2


def test_an_output_of_unknown_size_at_an_address() -> None:
    net = network()
    net.mark_output(net.add_non_zero(net.add_input("x", trt.float32, (5,))).get_output(0))
    engine = engine_of(net)
    name = engine.get_tensor_name(1)
    assert engine.get_tensor_shape(name) == (1, -1)
    context = engine.create_execution_context()
    assert context.get_max_output_size(name) == 20
    for given in (np.array([0, 1, 0, 2, 0], np.float32), np.zeros(5, np.float32), np.ones(5, np.float32)):
        out = np.full(5, -1, np.int32)
        assert context.execute_v2([given.ctypes.data, out.ctypes.data])
        count = np.count_nonzero(given)
        assert context.get_tensor_shape(name) == (1, count)
        np.testing.assert_array_equal(out[:count], np.flatnonzero(given))


def test_attention_with_a_cache() -> None:
    rng = np.random.default_rng(0)
    net = network()
    shapes = {"q": (1, 4, 2, 8), "k": (1, 2, 5, 8), "v": (1, 2, 5, 8), "new": (1, 2, 2, 8), "cos": (1, 2, 4), "sin": (1, 2, 4)}
    t = {n: net.add_input(n, trt.float32, s) for n, s in shapes.items()}
    at = constant(net, np.array([3], np.int32))
    turned = net.add_rotary_embedding(t["q"], t["cos"], t["sin"], False, 0)
    cached = net.add_kv_cache_update(t["k"], t["new"], at, trt.KVCacheMode.LINEAR)
    attention = net.add_attention(turned.get_output(0), cached.get_output(0), t["v"], trt.AttentionNormalizationOp.SOFTMAX, False)
    attention.mask = constant(net, np.array([[[[True, True, True, True, False]]]]))
    assert attention.norm_op == trt.AttentionNormalizationOp.SOFTMAX and not attention.causal and attention.mask.dtype == trt.bool
    net.mark_output(attention.get_output(0))
    other = net.add_attention_v2(t["q"], t["k"], t["v"], trt.AttentionNormalizationOp.SOFTMAX, trt.CausalMaskKind.LOWER_RIGHT)
    assert other.causal_kind == trt.CausalMaskKind.LOWER_RIGHT and other.get_output(0).shape == (1, 4, 2, 8)
    angle = rng.standard_normal((1, 2, 4)).astype(np.float32)
    given = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} | {"cos": np.cos(angle), "sin": np.sin(angle)}
    (found,) = run(net, *given.values())
    z = (given["q"][..., :4] + 1j * given["q"][..., 4:]) * np.exp(1j * angle[:, None])
    q, k = np.concatenate([z.real, z.imag], -1), given["k"].copy()
    k[:, :, 3:] = given["new"]
    scores = np.einsum("bhsd,bhtd->bhst", q, np.repeat(k, 2, 1))[..., :4]
    power = np.exp(scores - scores.max(-1, keepdims=True))
    wanted = np.einsum("bhst,bhtd->bhsd", power / power.sum(-1, keepdims=True), np.repeat(given["v"], 2, 1)[:, :, :4])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_assertions_and_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    net = network()
    x = net.add_input("x", trt.float32, (3,))
    net.mark_output(net.add_identity(x).get_output(0))
    equal = net.add_elementwise(net.add_shape(x).get_output(0), constant(net, np.array([4])), trt.ElementWiseOperation.EQUAL)
    assertion = net.add_assertion(equal.get_output(0), "four of them")
    assert assertion.message == "four of them" and assertion.type == trt.LayerType.ASSERTION
    assert net.builder.build_serialized_network(net, net.builder.create_builder_config()) is None
    assert "an assertion does not hold: four of them" in capsys.readouterr().err
    for name, reason in (("add_moe", "experts that data chooses"), ("add_dist_collective", "one machine"), ("add_dynamic_quantize", "FP4 or FP8")):
        with pytest.raises(UnsupportedError, match=reason):
            getattr(net, name)
    assert net.add_fill((3,), trt.FillOperation.RANDOM_UNIFORM) is None and "random numbers" in capsys.readouterr().err
    with pytest.raises(AttributeError):
        _ = net.nothing
