"""What TensorRT's API costs: the same nets by ``strop.compat.tensorrt`` and by ``strop.build``, measured in turns.

    python bench/tensorrt.py [MODEL.onnx ...] [--level 3] [--seconds 2] [--json FILE]

The presentation's LeNet by layer calls, the packaged LeNet by OnnxParser, and models that are given by OnnxParser. Outputs of both engines must be
equal bit for bit, on the same input; then blocks of calls take turns: ``execute_async_v3`` on addresses, and a context's bound call of
``strop.build``'s engine on the same arrays. A ratio is the quotient of medians over all blocks: 1 means that nothing is lost.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import strop.compat.tensorrt as trt
from bench.results import write_text
from strop.demo_data import lenet_path, lenet_weights
from strop.engine.build import build
from strop.engine.describe import describe
from strop.engine.engine import Engine

LOGGER = trt.Logger(trt.Logger.WARNING)
_BLOCK_SECONDS = 0.02


@dataclass(frozen=True)
class Pair:
    """Medians for one net, in microseconds per call.

    Attributes:
        net: its name.
        steps: of TensorRT's engine and of ``strop.build``'s.
        tensorrt, own: times.
    """

    net: str
    steps: tuple[int, int]
    tensorrt: float
    own: float

    @property
    def ratio(self) -> float:
        """How many times as long TensorRT's API takes."""
        return self.tensorrt / self.own


def lenet_by_layers(builder: Any) -> Any:
    """The presentation's network, with an explicit batch."""
    network, w = builder.create_network(1), lenet_weights()
    x = network.add_input("input", trt.float32, (1, 1, 28, 28))
    for name, maps in (("conv1", 20), ("conv2", 50)):
        conv = network.add_convolution(x, maps, (5, 5), w[f"{name}.weight"], w[f"{name}.bias"])
        x = network.add_pooling(conv.get_output(0), trt.PoolingType.MAX, (2, 2)).get_output(0)
    x = network.add_fully_connected(x, 500, w["fc1.weight"], w["fc1.bias"]).get_output(0)
    x = network.add_activation(x, trt.ActivationType.RELU).get_output(0)
    x = network.add_fully_connected(x, 10, w["fc2.weight"], w["fc2.bias"]).get_output(0)
    flat = network.add_shuffle(x)
    flat.reshape_dims = (1, 10)
    network.mark_output(flat.get_output(0))
    return network


def parsed(builder: Any, path: Path) -> Any:
    """A model by OnnxParser."""
    network = builder.create_network(1)
    if not trt.OnnxParser(network, LOGGER).parse_from_file(str(path)):
        raise SystemExit(f"{path} cannot be parsed")
    return network


def compared(name: str, network: Any, path: Path, level: int, seconds: float) -> Pair:
    """Both engines of a net, whose outputs are equal, in turns."""
    builder = network.builder
    config = builder.create_builder_config()
    config.builder_optimization_level = level
    theirs = trt.Runtime(LOGGER).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    own = build(path, level=level)
    inputs = list(own.random_inputs().values())
    there, ours = _their_call(theirs, inputs), _own_call(own, inputs)
    for a, b in zip(there[1], ours[1], strict=True):
        if a.shape != b.shape or not np.array_equal(a, b, equal_nan=True):
            raise SystemExit(f"{name}: outputs differ by {np.abs(a - b.reshape(a.shape)).max()}")
    times = _in_turns((there[0], ours[0]), seconds)
    return Pair(name, (len(describe(theirs.own).steps), len(describe(own).steps)), *times)


def _their_call(engine: Any, inputs: Sequence[np.ndarray[Any, Any]]) -> tuple[Callable[[], Any], list[np.ndarray[Any, Any]]]:
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
    outputs = [np.empty(tuple(engine.get_tensor_shape(n)), trt.nptype(engine.get_tensor_dtype(n))) for n in names[len(inputs) :]]
    for tensor, array in zip(names, (*inputs, *outputs), strict=True):
        context.set_tensor_address(tensor, array.ctypes.data)
    if not context.execute_async_v3(0):
        raise SystemExit("TensorRT's engine does not run")
    return lambda: context.execute_async_v3(0), outputs


def _own_call(engine: Engine, inputs: Sequence[np.ndarray[Any, Any]]) -> tuple[Callable[[], Any], list[np.ndarray[Any, Any]]]:
    context = engine.context()
    out = context.new_outputs()
    call = context.bind(dict(zip((t.name for t in engine.inputs), inputs, strict=True)), out)
    call()
    return call, list(out.values())


def _in_turns(calls: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """Median microseconds per call over blocks that take turns."""
    start = time.perf_counter()
    for call in calls:
        call()
    once = (time.perf_counter() - start) / len(calls)
    size = max(1, int(_BLOCK_SECONDS / max(once, 1e-7)))
    found: list[list[float]] = [[] for _ in calls]
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(found[0]) < 5:
        for call, blocks in zip(calls, found, strict=True):
            start = time.perf_counter()
            for _ in range(size):
                call()
            blocks.append((time.perf_counter() - start) / size * 1e6)
    return [median(blocks) for blocks in found]


def main(arguments: Sequence[str] | None = None) -> list[Pair]:
    """Runs the command line; the pairs that it prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="ONNX models with fixed shapes")
    parser.add_argument("--level", type=int, default=3, help="effort of choosing kernels, for both")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each net")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    builder = trt.Builder(LOGGER)
    nets = [("LeNet by layers", lenet_by_layers(builder), Path(lenet_path()))]
    nets += [(path.stem, parsed(builder, path), path) for path in (Path(lenet_path()), *options.models)]
    pairs = [compared(name, network, path, options.level, options.seconds) for name, network, path in nets]
    print(f"{'net':<24} {'steps':>9} {'TensorRT us':>12} {'strop us':>12} {'ratio':>7}")
    for pair in pairs:
        print(f"{pair.net:<24} {pair.steps[0]:>4} {pair.steps[1]:>4} {pair.tensorrt:12.2f} {pair.own:12.2f} {pair.ratio:7.3f}")
    if options.json:
        write_text(options.json, json.dumps([{**asdict(pair), "ratio": pair.ratio} for pair in pairs], indent=1))
    return pairs


if __name__ == "__main__":
    main()
