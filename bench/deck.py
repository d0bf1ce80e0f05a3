"""How many times a GPU's images per second are those of the processor beside it.

    python -m bench.deck --models DIR [--net resnet50] [--batch 39] [--cores N] [--level 3] [--json FILE]

The processor has all its cores and the best of several batches, with every runtime that is there: Strop where a C compiler is, ONNX Runtime and PyTorch where
they are installed. Two ratios are printed: the one of advertisements, 16-bit floats on the GPU by 32-bit floats on the processor, and like by like, the same
width on both sides. PyTorch computes torchvision's net of the name, with random weights. The GPU's results are compared with those of the processor first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.batch import with_batch
from bench.gpu import LIMITS, images, latency, per_run, relative, repeated
from bench.nets import Net, find
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


def processor(net: Net, options: Any, folder: Path) -> Iterator[Rate]:
    """What every runtime reaches on the processor, width by width and batch by batch; those that cannot say why."""
    for width, (_, precision) in WIDTHS.items():
        for name, runtime in RUNTIMES.items():
            for batch in BATCHES:
                path = with_batch(net, batch, folder)
                try:
                    call = runtime(path, repeated(images(net), batch), precision, options.cores, options.level)
                except (StropError, ImportError, AttributeError) as error:
                    print(f"{name}, {width}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
                    break
                found = Rate(name, width, batch, rate(call, batch))
                print(f"{name}, {width}, batch {batch}: {found.images:.1f} images/s", flush=True)
                yield found


def gpu(net: Net, precision: str, options: Any, folder: Path) -> dict[str, Any]:
    """Images per second, latency and the result of the first two images."""
    engine = build(with_batch(net, options.batch, folder), target=f"cuda:sm_{device().capability}", precision=precision, level=options.level, budget=options.budget)
    context = engine.context()
    assert isinstance(context, GpuContext)
    result = context(repeated(images(net), options.batch))
    seconds, _ = per_run(lambda n: context.time(repeats=n))
    row = {"ms": seconds * 1e3, "images": options.batch / seconds, "result": np.asarray(result)[:2], **latency(context)}
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


def measure(options: Any) -> dict[str, Any]:
    """All figures."""
    (net,) = find(Path(options.models), [options.net])
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        wanted = _wanted(net, folder)
        sides = {width: gpu(net, names[0], options, folder) for width, names in WIDTHS.items()}
        for width, row in sides.items():
            row["error"] = relative(row.pop("result"), wanted)
            if not row["error"] <= LIMITS[WIDTHS[width][0]]:
                raise OptionError("the GPU's results are wrong", where=f"{net.name}, {width}", got=row["error"], expected=LIMITS[WIDTHS[width][0]])
            print(f"{device().name}, {width}, batch {options.batch}: {row['images']:.0f} images/s, p99 {row['p99_ms']:.2f} ms", flush=True)
        rates = list(processor(net, options, folder))
    best = {width: max((r for r in rates if r.width == width), key=lambda r: r.images, default=None) for width in WIDTHS}
    wide = best["32-bit"]
    ratios = {f"{width} by {width}": sides[width]["images"] / found.images for width, found in best.items() if found is not None}
    if wide is not None:
        ratios = {"16-bit by 32-bit, as advertised": sides["16-bit"]["images"] / wide.images, **ratios}
    return {"gpu": device().name, "cores": options.cores, "net": net.name, "batch": options.batch, "sides": sides,
            "processor": [vars(r) for r in rates], "best": {w: None if r is None else vars(r) for w, r in best.items()}, "ratios": ratios}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True)
    parser.add_argument("--net", default="resnet50")
    parser.add_argument("--batch", type=int, default=39, help="samples per inference on the GPU")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="of the processor")
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--json")
    options = parser.parse_args(arguments)
    found = measure(options)
    for name, ratio in found["ratios"].items():
        print(f"{name}: {ratio:.1f} x")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
