"""How many times a GPU's images per second are those of the processor beside it.

The processor has all its cores and the best of several batches, with every runtime that is there: Strop where a C compiler is, ONNX Runtime and PyTorch where
they are installed. Two kinds of ratios are made: the one of advertisements, 16-bit floats on the GPU by 32-bit floats on the processor, and like by like, the
same width on both sides. PyTorch computes torchvision's net of the name, with random weights. The GPU's results are compared with those of the processor first.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.batch import with_batch
from bench.gpu_measure import LIMITS, images, relative, repeated, timed
from bench.nets import Net
from strop.engine.build import build
from strop.errors import OptionError, StropError
from strop.runtime.gpu_driver import device
from strop.runtime.gpu_session import GpuContext

#: Samples per inference on the processor.
BATCHES = (1, 4, 16, 64)
#: Widths that are compared, by their names on the GPU and on the processor.
WIDTHS = {"32-bit": ("fp32", "fp32"), "16-bit": ("fp16", "bf16")}
#: Seconds of one measurement, and how many there are.
_SPAN, _TIMES = 1.0, 3


@dataclass(frozen=True)
class Rate:
    """Images per second of a runtime."""

    runtime: str
    width: str
    batch: int
    images: float


def rate(call: Callable[[], object], batch: int) -> float:
    """Images per second: the median of several spans."""
    call()
    found = []
    for _ in range(_TIMES):
        begin, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - begin < _SPAN:
            call()
            count += 1
        found.append(count * batch / (time.perf_counter() - begin))
    return statistics.median(found)


def _strop(path: Path, x: Any, precision: str, cores: int, level: int) -> Callable[[], object]:
    engine = build(path, threads=cores, precision=precision, level=level)
    return lambda: engine(x)


def _onnxruntime(path: Path, x: Any, precision: str, cores: int, level: int) -> Callable[[], object]:
    import onnxruntime

    if precision != "fp32":
        raise OptionError("ONNX Runtime computes in fp32 on processors", where="onnxruntime", got=precision)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda: session.run(None, {given.name: x})


def _torch(path: Path, x: Any, precision: str, cores: int, level: int) -> Callable[[], object]:
    import torch
    import torchvision

    torch.set_num_threads(cores)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    module = getattr(torchvision.models, path.stem.split(".")[0])(weights=None).eval().to(kind).to(memory_format=torch.channels_last)
    given = torch.from_numpy(x).to(kind).contiguous(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return module(given)

    return run


RUNTIMES = {"strop": _strop, "onnxruntime": _onnxruntime, "torch": _torch}


def processor(net: Net, cores: int, level: int, folder: Path) -> Iterator[Rate]:
    """What every runtime reaches on the processor, width by width and batch by batch; those that cannot say why."""
    for width, (_, precision) in WIDTHS.items():
        for name, runtime in RUNTIMES.items():
            for batch in BATCHES:
                path = with_batch(net, batch, folder)
                try:
                    call = runtime(path, repeated(images(net), batch), precision, cores, level)
                except (StropError, ImportError, AttributeError) as error:
                    print(f"{name}, {width}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
                    break
                found = Rate(name, width, batch, rate(call, batch))
                print(f"{name}, {width}, batch {batch}: {found.images:.1f} images/s", flush=True)
                yield found


def gpu(net: Net, precision: str, batch: int, target: str, level: int, budget: float | None, folder: Path) -> dict[str, Any]:
    """Images per second, latency and the result of the first two images."""
    engine = build(with_batch(net, batch, folder), target=target, precision=precision, level=level, budget=budget)
    context = engine.context()
    assert isinstance(context, GpuContext)
    result = context(repeated(images(net), batch))
    row: dict[str, Any] = {**timed(context), "result": np.asarray(result)[:2]}
    row["images"] = batch / row["ms"] * 1e3
    context.close()
    return row


def _wanted(net: Net, folder: Path) -> Any:
    """The two images' results by a processor: ONNX Runtime's, or Strop's where that is not installed."""
    x = images(net)
    path = with_batch(net, 2, folder)
    try:
        import onnxruntime
    except ImportError:
        return next(iter(build(path, level=0).run({net.inputs[0][0]: x}).values()))
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {net.inputs[0][0]: x})[0]


def measure(net: Net, batch: int, cores: int, target: str, level: int, budget: float | None) -> dict[str, Any]:
    """All figures.

    Args:
        batch: samples per inference on the GPU.
        cores: threads of the processor's runtimes.
        target: the GPU's.

    Raises:
        OptionError: the GPU's results are wrong.
    """
    with tempfile.TemporaryDirectory(prefix="strop-deck-") as text:
        folder = Path(text)
        wanted = _wanted(net, folder)
        sides = {width: gpu(net, names[0], batch, target, level, budget, folder) for width, names in WIDTHS.items()}
        for width, row in sides.items():
            row["error"] = relative(row.pop("result"), wanted)
            if not row["error"] <= LIMITS[WIDTHS[width][0]]:
                raise OptionError("the GPU's results are wrong", where=f"{net.name}, {width}", got=row["error"], expected=LIMITS[WIDTHS[width][0]])
            print(f"{device().name}, {width}, batch {batch}: {row['images']:.0f} images/s, p99 {row['p99_ms']:.2f} ms", flush=True)
        rates = list(processor(net, cores, level, folder))
    return {"net": net.name, "batch": batch, "cores": cores, "sides": sides, "processor": [asdict(rate) for rate in rates], "ratios": ratios(sides, rates)}


def ratios(sides: Mapping[str, Mapping[str, Any]], rates: Sequence[Rate]) -> dict[str, float]:
    """The GPU's images per second by those of the processor's best runtime and batch."""
    best = {width: max((r.images for r in rates if r.width == width), default=None) for width in WIDTHS}
    found = {f"{width} by {width}": sides[width]["images"] / images for width, images in best.items() if images is not None}
    wide = best["32-bit"]
    return found if wide is None else {"16-bit by 32-bit": sides["16-bit"]["images"] / wide, **found}


def lines(found: Mapping[str, Any]) -> list[str]:
    """What was found, in words."""
    said = [f"{found['net']}, the GPU at batch {found['batch']} against {found['cores']} cores at the best batch:", ""]
    for width, row in found["sides"].items():
        said.append(f"- GPU, {width}: {row['images']:.0f} images/s, p99 {row['p99_ms']:.2f} ms, error {row['error']:.1e}")
    for width in WIDTHS:
        rates = [Rate(**rate) for rate in found["processor"] if rate["width"] == width]
        for name in dict.fromkeys(rate.runtime for rate in rates):
            best = max((rate for rate in rates if rate.runtime == name), key=lambda rate: rate.images)
            said.append(f"- processor, {width}, {name}: {best.images:.1f} images/s at batch {best.batch}")
    return [*said, "", *(f"{name}: {ratio:.1f} times." for name, ratio in found["ratios"].items())]
