"""What precision flags of TensorRT's builder do, and that a refit keeps it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import strop.compat.tensorrt as trt
from strop.target import detect

LOGGER = trt.Logger(trt.Logger.WARNING)
RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((8, 4, 3, 3)).astype(np.float32)
X = RNG.standard_normal((1, 4, 12, 12)).astype(np.float32)


def network() -> tuple[Any, Any]:
    net = trt.Builder(LOGGER).create_network(1)
    x = net.add_input("x", trt.float32, X.shape)
    conv = net.add_convolution_nd(x, 8, (3, 3), KERNEL)
    conv.name = "conv"
    net.mark_output(conv.get_output(0))
    return net, conv


def built(net: Any, *flags: Any) -> Any:
    config = net.builder.create_builder_config()
    config.builder_optimization_level = 0
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in flags:
        config.set_flag(flag)
    return trt.Runtime(LOGGER).deserialize_cuda_engine(net.builder.build_serialized_network(net, config))


def run(engine: Any) -> np.ndarray[Any, Any]:
    out = np.zeros((1, 8, 10, 10), np.float32)
    assert engine.create_execution_context().execute_v2([X.ctypes.data, out.ctypes.data])
    return out


def kernels(engine: Any) -> str:
    found = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    return " ".join(layer["TacticName"] for layer in found["Layers"])


def close(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Within what 8 bits of operands and weights cost."""
    return float(np.abs(a - b).max()) < 0.03 * float(np.abs(b).max())


def test_int8_from_ranges_survives_a_refit() -> None:
    net, _ = network()
    wanted = run(built(net))
    net.get_input(0).set_dynamic_range(-4, 4)
    engine = built(net, trt.BuilderFlag.INT8, trt.BuilderFlag.REFIT)
    assert "int8" in kernels(engine) and close(run(engine), wanted) and np.any(run(engine) != wanted)
    refitter = trt.Refitter(engine, LOGGER)
    assert refitter.set_weights("conv", trt.WeightsRole.KERNEL, -KERNEL) and refitter.refit_cuda_engine()
    assert "int8" in kernels(engine) and close(run(engine), -wanted)


def test_a_layer_may_stay_in_fp32() -> None:
    net, conv = network()
    net.get_input(0).set_dynamic_range(-4, 4)
    conv.precision = trt.float32
    assert "int8" not in kernels(built(net, trt.BuilderFlag.INT8))


def test_int8_without_ranges_takes_random_inputs_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    net, _ = network()
    wanted = run(built(net))
    engine = built(net, trt.BuilderFlag.INT8)
    assert "INT8 without a calibrator" in capsys.readouterr().err
    assert "int8" in kernels(engine) and close(run(engine), wanted)


def test_fp16_is_allowed_and_not_forced() -> None:
    net, _ = network()
    assert net.builder.platform_has_fast_int8 and not net.builder.platform_has_fast_fp16
    np.testing.assert_array_equal(run(built(net, trt.BuilderFlag.FP16)), run(built(net)))


@pytest.mark.skipif("avx512bf16" not in detect.host().extras, reason="the processor has no dot products of bf16")
def test_bf16_is_used_where_it_is_faster_and_not_for_layers_that_ask_for_fp32() -> None:
    net = trt.Builder(LOGGER).create_network(1)
    x = net.add_input("x", trt.float32, (1, 64, 28, 28))
    for k in range(2):
        conv = net.add_convolution_nd(x, 64, (1, 1), np.eye(64, dtype=np.float32))
        conv.name = f"conv{k}"
        x = conv.get_output(0)
    net.mark_output(x)
    assert kernels(built(net, trt.BuilderFlag.BF16)).count("bf16") == 2
    conv.precision = trt.float32
    assert kernels(built(net, trt.BuilderFlag.BF16)).count("bf16") == 1


def test_a_network_that_quantizes_itself_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    net = trt.Builder(LOGGER).create_network(1)
    x = net.add_input("x", trt.float32, (1, 4))
    scale = net.add_constant((), np.float32(0.5)).get_output(0)
    whole = net.add_quantize(x, scale)
    net.mark_output(net.add_dequantize(whole.get_output(0), scale).get_output(0))
    engine = built(net, trt.BuilderFlag.INT8)
    given, out = np.array([[0.6, -0.2, 100, 0.25]], np.float32), np.zeros((1, 4), np.float32)
    assert engine.create_execution_context().execute_v2([given.ctypes.data, out.ctypes.data])
    np.testing.assert_array_equal(out, [[0.5, 0, 63.5, 0]])
    assert not capsys.readouterr().err


def test_timing_caches_hold_the_records_of_the_machine() -> None:
    net, _ = network()
    config = net.builder.create_builder_config()
    config.builder_optimization_level = 1
    cache = config.create_timing_cache(b"")
    assert config.set_timing_cache(cache, False) and config.get_timing_cache() is cache
    assert net.builder.build_serialized_network(net, config) is not None
    data = bytes(cache.serialize())
    assert b"conv" in data and data.startswith(b"# strop records")
    other = config.create_timing_cache(data)
    assert bytes(other.serialize()) == data and other.reset() and bytes(other.serialize()) != data
    assert other.combine(cache, False) and bytes(other.serialize()) == data
    assert config.create_timing_cache(b"nonsense") is None
