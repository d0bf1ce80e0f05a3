"""PyTorch's side of ``bench/translation.py``, in a process of its own: the translator of ``examples/translation/twin.py``.

    python -m bench.translation_torch TASK.json WORDS.npz

Prints a JSON object per measurement. On the processor it is eager f32 on as many threads as the task says; on the GPU encoder and all steps are captured in one
CUDA graph per batch, with cuDNN's LSTMs. The words of every batch are kept under ``cpu.BATCH`` and ``gpu.BATCH``, their scores under ``cpu.BATCH.scores`` ...
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.translation import sources
from examples.translation.model import Sizes, random_weights
from examples.translation.search import sentences
from examples.translation.twin import Translator

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
#: Measurements of a time, of which the median counts.
ROUNDS = 7


def captured(model: Any, given: tuple[Any, Any], steps: int, beam: int) -> tuple[Callable[[], None], Any]:
    """(a call that launches the graph of a translation, its results)."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            model(*given, steps, beam, straight=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        results = model(*given, steps, beam, straight=True)
    return graph.replay, results


def sentences_of(task: dict[str, Any], sizes: Sizes, batch: int, device: str) -> tuple[Any, Any]:
    """The words of a batch and its lengths."""
    x = torch.from_numpy(sources(sizes, batch, task["length"])).long()
    return x.to(device), torch.full((batch,), task["length"], device=device)


def seconds_on_gpu(call: Callable[[], None]) -> float:
    """Seconds of a call on the device, by events around several in a row."""
    times = []
    for _ in range(ROUNDS + 1):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(3):
            call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 3e3)
    return float(median(times[1:]))


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of a call on the processor."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(median(times[1:]))


def main(task_file: str, words_file: str) -> None:
    """Does a task."""
    with open(task_file, encoding="utf-8") as file:
        task = json.load(file)
    sizes = Sizes(**task["sizes"])
    weights = random_weights(sizes)
    steps, beam = task["steps"], task["beam"]
    torch.set_num_threads(task["threads"])
    kept: dict[str, Any] = {}

    def keep(name: str, results: Any) -> None:
        words, parents, scores = (t.cpu().numpy() for t in results)
        first = [found[0] for found in sentences(words, parents)]
        kept[name] = np.array([row + [-1] * (steps - len(row)) for row in first], np.int64)
        kept[f"{name}.scores"] = scores[:, 0]

    print(json.dumps({"version": torch.__version__}), flush=True)
    with torch.no_grad():
        model = Translator(weights, sizes)
        for batch in task["batches"]:
            x, lengths = sentences_of(task, sizes, batch, "cpu")
            keep(f"cpu.{batch}", model(x, lengths, steps, beam, straight=True))
            if batch in task["cpu_batches"]:
                found = seconds(lambda x=x, lengths=lengths: model(x, lengths, steps, beam, straight=True))
                print(json.dumps({"device": "cpu", "batch": batch, "seconds": found}), flush=True)
        if task["gpu"]:
            model = model.to("cuda", DTYPES[task["precision"]])
            for batch in task["batches"]:
                call, results = captured(model, sentences_of(task, sizes, batch, "cuda"), steps, beam)
                found = seconds_on_gpu(call)
                keep(f"gpu.{batch}", results)
                print(json.dumps({"device": "gpu", "batch": batch, "seconds": found}), flush=True)
    np.savez(words_file, **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
