"""Does a network still fail? What ``strop debug`` asks again and again: a model's meaning, an engine run in a process of its own, and
whether the two agree."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto

from strop.engine.build import Shapes, build
from strop.engine.diff import compare
from strop.engine.engine import Array, Engine, random_arrays
from strop.engine.values import Run, of_graph, of_onnxruntime
from strop.errors import InputError, StropError
from strop.frontend.table import read
from strop.ir import shape as sh
from strop.ir.graph import Graph
from strop.target.base import Target

#: Seconds that one inference may take in ``strop debug``.
PATIENCE = 120.0


@dataclass(frozen=True)
class Failure:
    """What is wrong with a network.

    Attributes:
        kind: ``error CLASS``, ``crash`` or ``differs``; two failures of one kind are taken for the same one.
        text: for people.
    """

    kind: str
    text: str


def of_error(error: BaseException) -> Failure:
    """The failure of an exception; the kind is its class and first line, without what is in quotes."""
    what = error.what if isinstance(error, StropError) else str(error).split("\n")[0]
    return Failure(f"error {type(error).__name__}: {what.split(chr(39))[0]}", str(error))


@dataclass(frozen=True)
class Conditions:
    """How a model is tried.

    Attributes:
        against: ``oracle`` or ``onnxruntime``, what it is compared with.
        level: of the build.
        target: None for this machine.
        threads: of build and run.
        tolerance: as for ``diff``.
        shapes: as for ``build``.
        seed: of random inputs.
    """

    against: str = "oracle"
    level: int = 0
    target: str | Target = "host"
    threads: int = 1
    tolerance: float | None = None
    shapes: Shapes | None = None
    seed: int = 0


def feed_of(graph: Graph, given: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Arrays for all inputs of a graph, at the optimum of its symbols; those given, else random.

    Raises:
        InputError: a size is free and nothing says what it is.
    """
    for value in graph.inputs:
        if value.name not in given and any(s.max == sh.Sym("").max for s in sh.symbols(value.shape)):
            raise InputError("the size of an input is free", where=value.name, got=value.type, hint="pass --shape, or the array with --input")
    known = {s.name: s.opt for v in graph.inputs for s in sh.symbols(v.shape)}
    wanted = [(v.name, v.dtype, v.type.at(known).static_shape) for v in graph.inputs if v.name not in given]
    return {**random_arrays(wanted, seed), **{v.name: given[v.name] for v in graph.inputs if v.name in given}}


def departure(got: Mapping[str, Array], wanted: Mapping[str, Array], tolerance: float | None) -> str:
    """What departs among outputs, in words; empty when nothing does."""
    first = compare(Run("got", outputs=dict(got)), Run("wanted", outputs=dict(wanted)), tolerance).first
    return "" if first is None else f"{first.value}: {first.departs}"


def run_apart(engine: Engine, inputs: Mapping[str, Array], threads: int = 1, seconds: float = PATIENCE) -> dict[str, Array] | Failure:
    """The outputs of an engine that runs in a child process, or how that failed."""

    def work() -> dict[str, Array]:
        return {n: a.copy() for n, a in engine.context(threads=threads).run(inputs).items()}

    found: dict[str, Array] | Failure = apart(work, seconds)
    return found


def apart(work: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What a function returns in a child process; a Failure when it raises, crashes or takes too long."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(False)
    child = fork.Process(target=_child, args=(there, work), daemon=True)
    child.start()
    there.close()
    try:
        if not here.poll(seconds):
            return Failure("crash", f"no answer within {seconds:.0f} s")
        return here.recv()
    except EOFError:
        child.join()
        return Failure("crash", f"the process ended with {child.exitcode}")
    finally:
        child.kill()
        child.join()
        here.close()


def _child(there: Any, work: Callable[[], Any]) -> None:
    try:
        there.send(work())
    except BaseException as error:
        there.send(of_error(error))
    there.close()


def attempt(model: Path | ModelProto, inputs: Mapping[str, Array], conditions: Conditions) -> Failure | None:
    """Builds a model, runs it in a child process and compares; None when all is well."""
    try:
        graph = read(model, conditions.shapes)
        feed = feed_of(graph, inputs, conditions.seed)
        engine = build(graph, target=conditions.target, threads=conditions.threads, level=conditions.level)
        got = run_apart(engine, feed, conditions.threads)
        if isinstance(got, Failure):
            return got
        text = departure(got, meaning(model, graph, feed, conditions).outputs, conditions.tolerance)
    except Exception as error:
        return of_error(error)
    return Failure("differs", text) if text else None


def meaning(model: Path | ModelProto, graph: Graph, feed: Mapping[str, Array], conditions: Conditions) -> Run:
    """What the model must compute."""
    if conditions.against == "onnxruntime":
        return of_onnxruntime(model, graph, feed, "onnxruntime")
    return of_graph(graph, feed, "oracle")
