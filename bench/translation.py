"""Sentences per second of the translator of ``examples/translation`` on this machine's GPU and processor, against PyTorch.

    python -m bench.translation [--torch PYTHON] [--batches 1,64,256] [--cpu-batches 1] [--beam 4] [--length 25] [--steps 25] [--precision fp16]
                                [--level 0] [--cpu-level 1] [--no-gpu] [--no-cpu] [--json FILE] [--markdown FILE]

Random weights, sentences of ``length`` words, ``steps`` words out, all steps made. On GPUs a translation, encoder and search, is one CUDA graph on both
sides, sentences on the device; PyTorch's has cuDNN's LSTMs and runs in a process of its own (``bench/translation_torch.py``). On the processor both
compute in f32, PyTorch with all cores. ``same`` is the share of sentences whose best translation is, word by word, that of PyTorch in f32 on the processor:
in f32 it must be 0.99; in 16 bits words with nearly equal scores change places, and PyTorch's share stands beside it. ``score`` is the largest
relative difference of the scores of sentences that are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import host
from bench.report import Table, pipes, replace_section
from examples.translation.model import SCORE, Sizes, random_weights, translator
from examples.translation.search import sentences
from strop.errors import StropError

#: Least share of the same sentences and largest relative difference of their scores.
LIMITS = {"fp32": (0.99, 1e-4), "fp16": (0.0, 1e-2), "bf16": (0.0, 5e-2)}
#: Seconds that PyTorch may take.
TIMEOUT = 1800
#: Measurements of a time, of which the median counts.
ROUNDS = 7


def sources(sizes: Sizes, batch: int, length: int) -> NDArray[np.int32]:
    """Random sentences [batch, length]."""
    return np.random.default_rng(batch).integers(4, sizes.source, (batch, length)).astype(np.int32)


def peer(task: dict[str, Any], python: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What PyTorch measured, and its words.

    Raises:
        StropError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        told, words = Path(folder, "task.json"), Path(folder, "words.npz")
        told.write_text(json.dumps(task), encoding="utf-8")
        command = [python, "-m", "bench.translation_torch", str(told), str(words)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StropError("PyTorch's translator did not run", got=str(error), expected=f"{python} has PyTorch") from error
        if done.returncode:
            raise StropError("PyTorch's translator failed", got=done.stderr.strip()[-1500:])
        with np.load(words) as kept:
            return [json.loads(line) for line in done.stdout.splitlines()], {name: kept[name] for name in kept.files}


def ours(task: dict[str, Any], batch: int, gpu: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Builds, runs and times an engine: seconds of a batch, its words and scores."""
    import strop

    sizes = Sizes(**task["sizes"])
    net = translator(random_weights(sizes), sizes, batch=batch, length=task["length"], steps=task["steps"], beam=task["beam"], straight=gpu)
    given = {"source": sources(sizes, batch, task["length"]), "lengths": np.full(batch, task["length"], np.int32)}
    begin = time.monotonic()
    if gpu:
        from bench.gpu_measure import per_run
        from strop.runtime.gpu_driver import device

        scores = None if task["precision"] == "fp32" else {f"{SCORE}*": "fp32"}
        target = f"cuda:sm_{device().capability}"
        engine = strop.build(net, target=target, level=options.level, budget=options.budget, precision=task["precision"], layer_precision=scores)
        context: Any = engine.context()
        results = context.run(given)
        taken, _ = per_run(lambda n: context.time(repeats=n))
        if options.profile:
            write_profile(options.profile / f"translation{batch}.txt", engine, context)
    else:
        engine = strop.build(net, level=options.cpu_level, threads=task["threads"])
        results, times = engine.run(given), []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            engine.run(given)
            times.append(time.perf_counter() - start)
        taken = median(times)
    first = [found[0] for found in sentences(results["words"], results["parents"])]
    words = np.array([row + [-1] * (task["steps"] - len(row)) for row in first], np.int64)
    return {"seconds": taken, "total": time.monotonic() - begin, "words": words, "scores": results["scores"][:, 0], "steps": len(engine.manifest["steps"])}


def write_profile(path: Path, engine: Any, context: Any) -> None:
    """Steps of an engine with their kernels, estimated and measured microseconds."""
    lines = [
        f"{record['estimated_ns'] / 1e3:8.1f} {step.nanoseconds / 1e3:8.1f} {record['kernel']} {step.name} {record['outputs'][0]}"
        for step, record in zip(context.profile(runs=2), engine.manifest["steps"], strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def agreement(words: Any, scores: Any, known: dict[str, Any], batch: int) -> tuple[float, float]:
    """(share of sentences that are those of PyTorch on the processor, largest relative difference of their scores)."""
    same = (words == known[f"cpu.{batch}"]).all(axis=1)
    other = known[f"cpu.{batch}.scores"][same]
    return float(same.mean()), float(np.max(np.abs(scores[same] - other) / np.abs(other), initial=0.0))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All batches on all devices."""
    sizes = Sizes(options.vocabulary, options.vocabulary, options.hidden, options.hidden, 2)
    threads = options.threads or len(os.sched_getaffinity(0))
    cpu_batches = [] if options.no_cpu else options.cpu_batches
    task = {
        "sizes": asdict(sizes), "batches": sorted({*options.batches, *cpu_batches}), "cpu_batches": cpu_batches, "gpu": not options.no_gpu, "beam": options.beam,
        "length": options.length, "steps": options.steps, "precision": options.precision, "threads": threads,
    }  # fmt: skip
    told, known = peer(task, options.torch)
    theirs = {(t["device"], t["batch"]): t["seconds"] for t in told if "device" in t}
    results: dict[str, Any] = {"host": host.facts(), "torch": told[0]["version"], "task": task, "rows": []}
    wanted = [("cpu", b) for b in cpu_batches] + [("gpu", b) for b in options.batches if not options.no_gpu]
    for where, batch in wanted:
        row: dict[str, Any] = {"device": where, "batch": batch, "torch": theirs[where, batch]}
        row["torch_same"], _ = agreement(known[f"{where}.{batch}"], known[f"{where}.{batch}.scores"], known, batch)
        try:
            found = ours(task, batch, where == "gpu", options)
        except StropError as error:
            row["failed"] = str(error)
        else:
            row["same"], row["score"] = agreement(found.pop("words"), found.pop("scores"), known, batch)
            share, limit = LIMITS["fp32" if where == "cpu" else options.precision]
            row |= found | {"right": bool(row["same"] >= share and row["score"] <= limit)}
        results["rows"].append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return results


def table(results: dict[str, Any]) -> Table:
    """A row per device and batch."""
    rows = results["rows"]
    base = next((r["torch"] / r["batch"] for r in rows if r["device"] == "cpu" and r["batch"] == 1), None)
    found = []
    for row in rows:
        batch, cells = row["batch"], ["-"] * 6
        if "failed" not in row:
            rate = batch / row["seconds"]
            cells = [f"{row['seconds'] * 1e3:.2f}", f"{rate:.0f}", f"{row['torch'] / row['seconds']:.2f}", "-" if base is None else f"{rate * base:.0f}",
                     f"{row['same']:.2f}{'' if row['right'] else ' WRONG'}", f"{row['score']:.0e}"]  # fmt: skip
        ms, rate, ratio, deck, same, score = cells
        theirs = [f"{row['torch'] * 1e3:.2f}", f"{batch / row['torch']:.0f}"]
        found.append([row["device"].upper(), str(batch), ms, rate, *theirs, ratio, deck, same, f"{row['torch_same']:.2f}", score])
    head = ["device", "batch", "ms", "sentences/s", "PyTorch ms", "sentences/s", "ratio", "x CPU PyTorch at batch 1", "same", "PyTorch same", "score"]
    return Table(head, found, set(head[1:]))


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.translation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(w) for w in text.split(",") if w]  # noqa: E731
    add = parser.add_argument
    add("--torch", default=sys.executable, metavar="PYTHON", help="a Python that has PyTorch, by default this one")
    add("--batches", type=numbers, default=[1, 64, 256], help="of the GPU")
    add("--cpu-batches", type=numbers, default=[1])
    add("--beam", type=int, default=4)
    add("--length", type=int, default=25, help="words of a sentence")
    add("--steps", type=int, default=25, help="words of a translation")
    add("--vocabulary", type=int, default=32_000)
    add("--hidden", type=int, default=512)
    add("--precision", choices=sorted(LIMITS), default="fp16", help="on the GPU")
    add("--level", type=int, default=0, help="effort of the build for the GPU")
    add("--budget", type=float, help="seconds of measuring in it")
    add("--cpu-level", type=int, default=1)
    add("--threads", type=int, help="on the processor; by default all cores")
    add("--no-gpu", action="store_true")
    add("--no-cpu", action="store_true")
    add("--profile", type=Path, metavar="DIR", help="write the time of every step on the GPU")
    add("--json", type=Path, metavar="FILE")
    add("--markdown", type=Path, metavar="FILE", help="write the table between the markers 'translation' in a file")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; 1 when words or scores are wrong."""
    options = arguments(given)
    results = measure(options)
    shown = pipes(table(results))
    print(shown)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.markdown is not None:
        replace_section(options.markdown, "translation", f"{host.describe(results['host'])}; PyTorch {results['torch']}:\n\n{shown}")
    return 0 if all(row.get("right", True) for row in results["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
