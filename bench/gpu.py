"""Nets on an NVIDIA GPU against PyTorch: eager, eager in a CUDA graph, and compiled; correctness first.

    python -m bench.gpu --models DIR [--nets a,b] [--batches 1,64] [--precision fp16] [--level 3] [--peers eager,graph,compile,compile-max]
                        [--references FILE.npz] [--max-error 0.0095] [--deck resnet50 [--deck-batch 39]] [--json FILE] [--table FILE] [--profile]

Every net is built for the GPU of this machine, run on two random images over and over as one batch, and compared with the oracle (the graph
interpreter, which computes in float64 and stores f32), or with results that it gave before (--references). Then the device's time of a run is
measured with events around many runs in a row, the latency of single runs with the host's clock, and the energy with NVML's counter. PyTorch runs
torchvision's net of the same name in the same precision, channels-last, inputs on the device: eager, captured in a CUDA graph, and by torch.compile with
``reduce-overhead`` (compile) and with ``max-autotune`` (compile-max, minutes a net). With --max-error weights of fp16 are kept exact in as many
layers as it takes on other random images (minutes for ill-conditioned nets). A net that fails is reported and does not stop the others.

With --deck one net is compared with the processor beside the GPU as well: see ``bench/deck.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import deck
from bench.batch import with_batch
from bench.gpu_measure import LIMITS, SCALE, Energy, images, per_run, relative, repeated, timed
from bench.nets import Net, find
from bench.results import write_text
from strop.engine.build import build, portable
from strop.engine.engine import Engine
from strop.engine.precision import Request, reduce_precision
from strop.errors import StropError
from strop.ir.interp import run as interpret
from strop.runtime.gpu_driver import device
from strop.runtime.gpu_session import GpuContext
from strop.target.detect import parse
from strop.trace import Trace

#: Random images by which layers are chosen whose weights stay exact.
_CHOOSING = 3
def reference(net: Net, x: np.ndarray) -> np.ndarray:
    """The oracle's results, image by image."""
    graph = portable(net.path, None, Trace())
    rows = [next(iter(interpret(graph, {net.inputs[0][0]: x[k : k + 1]}).values())) for k in range(len(x))]
    return np.concatenate(rows)


def exact(net: Net, max_error: float) -> dict[str, str]:
    """Layers of the net that need more than fp16 so that the error on random images is below ``max_error``, as ``layer_precision``."""
    (name, shape), *_ = net.inputs
    given = np.random.default_rng(11).standard_normal((_CHOOSING, *shape[1:])).astype(np.float32) * SCALE
    request = Request("fp16", calibration=[{name: given[k : k + 1]} for k in range(_CHOOSING)], max_drop=max_error, metric="error")
    found = reduce_precision(portable(net.path, None, Trace()), request, build, build, parse("cuda:sm_90"), 0, None, Trace()).facts["precision"]
    lifted = {name: precision for precision, names in found["layers"].items() if precision != "fp16" for name in names}
    return {**lifted, **found["others"]}


def ours(
    net: Net, path: Path, batch: int, options: Any, x: np.ndarray, wanted: np.ndarray, energy: Energy, layers: dict[str, str] | None = None
) -> dict[str, Any]:
    """Builds, checks and times."""
    begin = time.monotonic()
    engine = build(path, target=options.target, level=options.level, budget=options.budget, precision=options.precision, layer_precision=layers)
    built = time.monotonic() - begin
    context = engine.context()
    assert isinstance(context, GpuContext)
    given = repeated(x, batch)
    result = context(given)
    assert isinstance(result, np.ndarray)
    error = relative(result, repeated(wanted, batch))
    row: dict[str, Any] = {"build_s": built, "error": error, "right": bool(error <= LIMITS[options.precision]), "steps": len(engine.manifest["steps"])}
    row.update(timed(context))
    row["joules"] = energy.joules(lambda n: context.time(repeats=n), row["ms"] / 1e3)
    row.update(notes=engine.manifest.get("notes", []), exact=len(layers or {}))
    if options.profile:
        row["profile"] = profile(engine, context)
    context.close()
    return row


def profile(engine: Engine, context: GpuContext) -> list[list[Any]]:
    """Per step: name, kernel, result, operations, bytes, estimated and measured microseconds."""
    rows = []
    for step, record in zip(context.profile(runs=2), engine.manifest["steps"], strict=True):
        estimated = record["estimated_ns"] / 1e3
        rows.append([step.name, record["kernel"], record["outputs"][0], record["flops"], record["bytes"], estimated, step.nanoseconds / 1e3])
    return rows


def peers(net: Net, batch: int, options: Any, energy: Energy) -> dict[str, Any]:
    """Milliseconds, and joules, of PyTorch's ways to run a net."""
    import torch
    import torchvision

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[options.precision]
    more = {"aux_logits": False, "init_weights": False} if net.name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    module = getattr(torchvision.models, net.name)(weights=None, **more).eval().cuda().to(dtype).to(memory_format=torch.channels_last)
    x = torch.from_numpy(repeated(images(net), batch)).cuda().to(dtype).contiguous(memory_format=torch.channels_last)
    found: dict[str, Any] = {}
    for way in options.peers:
        begin = time.monotonic()
        try:
            with torch.inference_mode():
                call = _way(torch, module, x, way)
                seconds, _ = per_run(lambda n, call=call: _torch_time(torch, call, n))  # type: ignore[misc]
                joules = energy.joules(lambda n, call=call: _torch_time(torch, call, n), seconds)  # type: ignore[misc]
            found[way] = {"ms": seconds * 1e3, "joules": joules, "prepare_s": time.monotonic() - begin}
        except Exception as error:  # the peer's failure is a result
            found[way] = {"error": f"{type(error).__name__}: {error}"[:500]}
    del module, x
    torch.cuda.empty_cache()
    return found


def _way(torch: Any, module: Any, x: Any, way: str) -> Callable[[], Any]:
    if way == "eager":
        return lambda: module(x)
    if way.startswith("compile"):
        torch._dynamo.reset()
        compiled = torch.compile(module, mode="max-autotune" if way == "compile-max" else "reduce-overhead", dynamic=False)
        for _ in range(3):
            compiled(x)
        return lambda: compiled(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(x)
    return graph.replay  # type: ignore[no-any-return]


def _torch_time(torch: Any, call: Callable[[], Any], count: int) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for _ in range(count):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    ways = results["peers"]
    head = ["net", "batch", "error", "ms", "p99 ms", "images/s", "images/J", *(f"{w} ms" for w in ways), "best peer / ours"]
    lines = [f"{results['gpu']}, {results['precision']}:", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    ratios: dict[int, list[float]] = {}
    for row in results["rows"]:
        mine = row["ours"]
        if "failed" in mine:
            lines.append(f"| {row['net']} | {row['batch']} | {mine['failed'].splitlines()[0]} |" + " |" * (len(head) - 3))
            continue
        theirs = [row["peers"].get(w, {}).get("ms") for w in ways]
        known = [t for t in theirs if t is not None]
        ratio = min(known) / mine["ms"] if known else None
        if ratio is not None and mine["right"]:
            ratios.setdefault(row["batch"], []).append(ratio)
        cells = [row["net"], row["batch"], f"{mine['error']:.1e}{'' if mine['right'] else ' WRONG'}", f"{mine['ms']:.3f}", f"{mine['p99_ms']:.3f}",
                 f"{row['batch'] / mine['ms'] * 1e3:.0f}", "-" if not mine["joules"] else f"{row['batch'] / mine['joules']:.1f}",
                 *("-" if t is None else f"{t:.3f}" for t in theirs), "-" if ratio is None else f"{ratio:.2f}"]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for batch, found in sorted(ratios.items()):
        lines += ["", f"Geometric mean over {len(found)} nets at batch {batch}: {statistics.geometric_mean(found):.2f} times the best peer."]
    if "deck" in results:
        lines += ["", *deck.lines(results["deck"])]
    return "\n".join(lines) + "\n"


def measure(options: Any) -> dict[str, Any]:
    """All nets and batches."""
    gpu = device()
    options.target = options.target or f"cuda:sm_{gpu.capability}"
    results: dict[str, Any] = {"gpu": gpu.name, "precision": options.precision, "level": options.level, "peers": options.peers, "rows": []}
    known = dict(np.load(options.references)) if options.references else {}
    energy = Energy()
    with tempfile.TemporaryDirectory() as folder:
        for net in find(Path(options.models), options.nets):
            x, layers = images(net), None
            if options.max_error is not None and options.precision == "fp16":
                layers = exact(net, options.max_error)
            for batch in options.batches:
                row: dict[str, Any] = {"net": net.name, "batch": batch, "peers": {}}
                try:
                    wanted = known[net.name] if net.name in known else known.setdefault(net.name, reference(net, x))
                    row["ours"] = ours(net, with_batch(net, batch, Path(folder)), batch, options, x, wanted, energy, layers)
                except (StropError, AssertionError, ValueError, RuntimeError) as error:
                    row["ours"] = {"failed": f"{type(error).__name__}: {error}"}
                if options.peers:
                    row["peers"] = peers(net, batch, options, energy)
                results["rows"].append(row)
                print(json.dumps({k: v if k != "ours" else {n: m for n, m in v.items() if n != "profile"} for k, v in row.items()}), flush=True)
                _keep(options, results)
    if options.deck:
        (net,) = find(Path(options.models), [options.deck])
        results["deck"] = deck.measure(net, options.deck_batch, options.cores, options.target, options.level, options.budget)
        _keep(options, results)
    return results


def _keep(options: Any, results: dict[str, Any]) -> None:
    if options.json:
        write_text(Path(options.json), json.dumps(results, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: [w for w in text.split(",") if w]  # noqa: E731
    parser.add_argument("--models", required=True)
    parser.add_argument("--nets", type=words, default=[])
    parser.add_argument("--batches", type=lambda text: [int(w) for w in text.split(",")], default=[1, 64])
    parser.add_argument("--precision", choices=sorted(LIMITS), default="fp16")
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--target", default="")
    parser.add_argument("--peers", type=words, default=["eager", "graph", "compile", "compile-max"])
    parser.add_argument("--references")
    parser.add_argument("--max-error", type=float)
    parser.add_argument("--deck", metavar="NET", help="compare this net's images per second with those of the processor, too")
    parser.add_argument("--deck-batch", type=int, default=39, help="samples per inference on the GPU in that comparison")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="of the processor")
    parser.add_argument("--json")
    parser.add_argument("--table")
    parser.add_argument("--profile", action="store_true", help="time every step, too")
    options = parser.parse_args(arguments)
    text = table(measure(options))
    print(text)
    if options.table:
        write_text(Path(options.table), text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
