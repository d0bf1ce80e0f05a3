"""One runtime in a process of its own, told what to do by lines of JSON. A script: nothing of Strop is imported here.

    python runner.py SCRIPT [--path FOLDER]

SCRIPT is a Python file with a function ``load(task)`` that takes a ``Task`` and returns an object with

- ``version``: text;
- ``notes``: list of texts, what a reader of the figures should know;
- ``calls``: name to function without arguments: the ways to run one inference. Each is tried, the fastest is measured;
- ``outputs()``: arrays of the inference that was run last, in the order of the model's outputs;
- ``profile(runs)``, optional: list of (step, least nanoseconds).

It raises ``LookupError`` for what the runtime cannot do, as against what fails.

Requests and replies are objects, one per line, on stdin and stdout; what libraries print goes to stderr.
A reply has ``ok``; without it ``error`` and ``kind``, which is ``cannot`` or ``failed``.

    {"do": "load", "model": FILE, "original": FILE, "threads": 1, "inputs": [[NAME, FILE.npy], ...], "cpus": [0] or null,
     "work": FOLDER, "precision": "fp32", "state": {INPUT: OUTPUT}} -> version, notes, call, calls (least ns by name), ns (least of the chosen one)
    {"do": "run", "warm": 1, "n": 5} -> ns (list), waited (share of the time in which a thread was ready but had no core)
    {"do": "output", "folder": FOLDER} -> files
    {"do": "memory"} -> peak, resident (bytes)
    {"do": "profile", "runs": 10} -> steps
    {"do": "quit"}
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Runs of a call that is tried end after this many, or after this many seconds and two runs.
TRIES, TRY_SECONDS = 10, 0.5


@dataclass(frozen=True)
class Task:
    """What to load.

    Attributes:
        model: the model file, or Strop's engine file.
        original: the model file before its batch was changed; other forms of the net lie beside it.
        threads: that an inference may use.
        inputs: arrays by name, in the model's order.
        work: folder for files made on the way.
        precision: that it may compute in: fp32, or one of what the table of peers says for the script.
        state: inputs that are variables, and for each the output that holds its next value.
    """

    model: Path
    original: Path
    threads: int
    inputs: dict[str, Any]
    work: Path
    precision: str = "fp32"
    state: dict[str, str] = field(default_factory=dict)


class Server:
    """Answers requests about one runtime."""

    def __init__(self, script: Path) -> None:
        self._script = script
        self._net: Any = None
        self._call: Callable[[], object] = _nothing

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply, also when the request fails."""
        try:
            return {"ok": True, **getattr(self, f"do_{request.pop('do')}")(**request)}
        except ModuleNotFoundError as error:
            return _failure("cannot", f"{error.name} is not installed in {sys.prefix}")
        except LookupError as error:
            return _failure("cannot", " ".join(map(str, error.args)))
        except Exception as error:  # whatever the runtime raises is its answer
            return _failure("failed", f"{type(error).__name__}: {error}")

    def do_load(
        self, model: str, original: str, threads: int, inputs: list[list[str]], cpus: list[int] | None, work: str,
        precision: str = "fp32", state: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Loads the model and finds the fastest way to call it."""
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
        spec = importlib.util.spec_from_file_location("peer", self._script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        arrays = {name: np.load(file, allow_pickle=False) for name, file in inputs}
        self._net = module.load(Task(Path(model), Path(original), threads, arrays, Path(work), precision, state or {}))
        tried = {name: _least(call) for name, call in self._net.calls.items()}
        best = min(tried, key=lambda name: tried[name])
        self._call = self._net.calls[best]
        gc.collect()
        gc.freeze()
        gc.disable()
        return {"version": self._net.version, "notes": self._net.notes, "call": best, "calls": tried, "ns": tried[best]}

    def do_run(self, n: int, warm: int = 1) -> dict[str, Any]:
        """Times ``n`` inferences after ``warm`` that are not timed."""
        clock, call = time.perf_counter_ns, self._call
        for _ in range(warm):
            call()
        times = [0] * n
        waited, started = _waited(), clock()
        for index in range(n):
            before = clock()
            call()
            times[index] = clock() - before
        spent = clock() - started
        return {"ns": times, "waited": max(0, _waited() - waited) / max(1, spent)}

    def do_output(self, folder: str) -> dict[str, Any]:
        """Runs once and writes every output."""
        self._call()
        files = []
        for index, array in enumerate(self._net.outputs()):
            files.append(str(Path(folder) / f"{index}.npy"))
            np.save(files[-1], np.asarray(array), allow_pickle=False)
        return {"files": files}

    def do_memory(self) -> dict[str, Any]:
        """Resident memory of the process now and at its peak; None where the system does not tell."""
        found: dict[str, int | None] = {"peak": None, "resident": None}
        with suppress(OSError, ValueError):
            for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
                key = {"VmHWM:": "peak", "VmRSS:": "resident"}.get(line.split(maxsplit=1)[0])
                if key:
                    found[key] = int(line.split()[1]) * 1024
        return found

    def do_profile(self, runs: int) -> dict[str, Any]:
        """The least time of every step."""
        if not hasattr(self._net, "profile"):
            raise LookupError("this runtime is not profiled")
        return {"steps": self._net.profile(runs)}


def _nothing() -> None:
    raise RuntimeError("no model is loaded")


def _failure(kind: str, text: str) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "error": text}


def _least(call: Callable[[], object]) -> int:
    """The least time of a few calls in nanoseconds; the first is not counted."""
    call()
    times: list[int] = []
    end = time.perf_counter() + TRY_SECONDS
    while len(times) < 2 or (len(times) < TRIES and time.perf_counter() < end):
        before = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - before)
    return min(times)


def _waited() -> int:
    """Nanoseconds that the threads of this process were ready but had no core (the second figure of schedstat); 0 where the
    system does not tell."""
    total = 0
    with suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with suppress(OSError, ValueError, IndexError):
                total += int(Path(f"/proc/self/task/{task}/schedstat").read_text(encoding="ascii").split()[1])
    return total


def main(arguments: list[str]) -> None:
    """Serves until stdin ends or a quit is asked for."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [p for p in sys.path if p != here]  # its files have the names of the packages they use
    script = Path(arguments[0])
    if "--path" in arguments:
        sys.path.insert(0, arguments[arguments.index("--path") + 1])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = Server(script)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            break
        replies.write(json.dumps(server.answer(request)) + "\n")
        replies.flush()
    # Thread pools of some runtimes do not end well; nothing is left to keep.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
