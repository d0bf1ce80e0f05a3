"""Runs many random graphs through passes, lowering, code and runtime at once, and says where one departs from its meaning.

All graphs of a batch become one engine: each is optimized by a random subset of the passes and lowered alone, then their steps
follow each other in one plan, so that one compilation and one run serve all of them. Beside the kernel that a step uses, another one
that accepts its region runs on guarded buffers.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from strop.codegen import toolchain
from strop.codegen.c import Module
from strop.engine.arena import plan_memory
from strop.engine.assemble import Assembler
from strop.engine.engine import Engine
from strop.errors import StropError, ToolchainError, UnsupportedError, VerifyError
from strop.ir.graph import Graph
from strop.ir.op import Array
from strop.ir.verify import verify
from strop.kernels.base import Candidate, Emitted, Region
from strop.kernels.extent import SymbolicError, at, extent
from strop.kernels.oracle import difference as region_difference
from strop.kernels.oracle import expected, random_operands, slack
from strop.lower.pipeline import Lowered, Step, lower
from strop.optimize.base import Options
from strop.optimize.pipeline import PASSES
from strop.target.base import Target
from strop.target.detect import TARGETS, runs_here
from strop.trace import Trace
from tests.fuzz.generate import Case
from tests.fuzz.meaning import EFFECTS, Meaning, Undefined, difference, evaluate, meaning, moved
from tests.kernels.harness import run as run_kernel

HERE = [t for t in TARGETS.values() if runs_here(t)]
#: Seconds that a batch may run.
PATIENCE = 120
#: Roundings tried before a disagreement counts.
SURE = 24


@dataclass(frozen=True)
class Setup:
    """How a batch is built.

    Attributes:
        seed: decides the choices below and each region's kernel.
        target: name of the target.
        cores: threads that the work is split for.
        threads: of the context.
        off: numbers of passes left out.
        strict: the option ``strict_nans``.
        optimize: the compiler's level.
        kernel: name of a kernel that is tried with its whole space wherever it fits; all other regions are naive.
    """

    seed: int
    target: str
    cores: int = 1
    threads: int = 1
    off: frozenset[int] = frozenset()
    strict: bool = False
    optimize: str = "-O1"
    kernel: str = ""

    @staticmethod
    def random(seed: int) -> Setup:
        """The setup of a seed."""
        rng = Random(seed)
        off = [k for k in range(len(PASSES)) if rng.random() < 0.2] if rng.random() < 0.6 else []
        return Setup(
            seed, rng.choice(HERE).name, rng.randint(1, 3), rng.randint(1, 3), frozenset(off), rng.random() < 0.3,
            "-O3" if rng.random() < 0.25 else "-O1",
        )  # fmt: skip

    def machine(self) -> Target:
        """The target."""
        return TARGETS[self.target].with_cores(self.cores)


@dataclass(frozen=True)
class Finding:
    """A disagreement or failure.

    Attributes:
        kind: ``pass``, ``lower``, ``accepted`` (sizes that have no meaning), ``build``, ``engine``, ``crash`` or ``kernel NAME``.
        seed: of the case.
        text: what is wrong.
    """

    kind: str
    seed: int
    text: str


@dataclass
class Result:
    """What a batch gave: findings, how often each op and kernel was compared, and how many graphs were refused with a reason."""

    findings: list[Finding] = field(default_factory=list)
    ops: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass
class _Extra:
    """A kernel that is run alone: region of fixed sizes, code, number in the table, sizes that the code reads."""

    case: int
    region: Region
    label: str
    emitted: Emitted
    number: int
    sizes: list[int]


@dataclass
class _Part:
    case: Case
    lowered: Lowered
    graph: Graph
    places: list[dict[str, int]]
    meanings: list[Meaning]


class _OneUnit(Module):
    """A module that is compiled as one unit, at a level of its own."""

    level = "-O1"

    def units(self) -> list[str]:
        return [self._unit(self.functions), self._table()]

    def compile(self, done: Any = None) -> Path:
        return toolchain.link_shared(toolchain.compile_all(self.units(), self.target, done, extra=(self.level,)), self.target)


def examine(cases: Sequence[Case], setup: Setup, runs: bool = True) -> Result:
    """Builds and runs the cases together, see the module; without ``runs`` only passes and lowering are looked at."""
    result = Result()
    parts = [p for p in (_prepared(case, setup, result) for case in cases) if p is not None]
    if not runs:
        for part in parts:
            _emitted(part, setup, result)
    if not parts or not runs:
        return result
    try:
        engine, library, extras = _built(parts, setup)
    except Exception as error:
        if len(parts) == 1:
            _not_built(parts[0], error, result)
            return result
        return _split(cases, setup, result)
    answer = _in_child(engine, library, extras, parts, setup)
    if isinstance(answer, str):
        if len(parts) == 1:
            result.findings.append(Finding("crash", parts[0].case.seed, answer))
            return result
        return _split(cases, setup, result)
    _judge(parts, setup, answer, extras, result)
    return result


def _emitted(part: _Part, setup: Setup, result: Result) -> None:
    """Writes a case's code without compiling it."""
    try:
        _assembled([part], setup)
    except Exception as error:
        _not_built(part, error, result)
        return
    result.ops.update(part.case.labels)


def _not_built(part: _Part, error: Exception, result: Result) -> None:
    if isinstance(error, UnsupportedError) and part.case.symbols:
        result.refused[str(error).splitlines()[0]] += 1
        return
    kind = "compile" if isinstance(error, ToolchainError) else "build"
    result.findings.append(Finding(kind, part.case.seed, _told(error)))


def _split(cases: Sequence[Case], setup: Setup, so_far: Result) -> Result:
    """The cases in two halves, to find the one that breaks."""
    result = Result(refused=so_far.refused)
    half = max(1, len(cases) // 2)
    for some in (cases[:half], cases[half:]):
        if some:
            found = examine(some, setup)
            result.findings += found.findings
            result.ops += found.ops
            result.kernels += found.kernels
    return result


def _told(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


# ---- passes and lowering


def rewritten(graph: Graph, setup: Setup, off: frozenset[int]) -> Graph:
    """The graph after the passes that are on."""
    verify(graph, "imported")
    copy, trace, options = graph.clone(), Trace(), Options(strict_nans=setup.strict)
    for number, module in enumerate(PASSES):
        if number not in off:
            module.run(copy, trace, options)
            verify(copy, "imported")
    return copy


def _prepared(case: Case, setup: Setup, result: Result) -> _Part | None:
    try:
        places = [{s.name: s.opt for s in case.symbols}]
        if case.symbols:
            rng = Random(case.seed)
            places += [{s.name: s.min for s in case.symbols}, {s.name: s.max for s in case.symbols},
                       {s.name: rng.randint(s.min, s.max) for s in case.symbols}]  # fmt: skip
        meanings = [meaning(case.graph, case.at(p)) for p in places]
    except Undefined as error:
        return _refused(case, setup, result, places, error)
    except (StropError, IndexError, ValueError, ZeroDivisionError):
        return None  # the ops have no meaning for these operands at another size
    try:
        graph = rewritten(case.graph, setup, setup.off)
        _compare_passes(case, graph, places, meanings)
        try:
            verify(graph, "portable")
        except VerifyError:  # a pass that lowering counts on was off
            graph = rewritten(case.graph, setup, frozenset())
            _compare_passes(case, graph, places, meanings)
    except Exception as error:
        result.findings.append(Finding("pass", case.seed, _told(error)))
        return None
    _name_apart(graph, case.seed)
    try:
        lowered = lower(graph, setup.machine(), Trace())
        for step in lowered.steps:
            step.chosen = _choice(step, setup)
    except (UnsupportedError, SymbolicError) as error:
        if case.symbols:
            result.refused[str(error).splitlines()[0]] += 1
            return None
        result.findings.append(Finding("lower", case.seed, _told(error)))
        return None
    except Exception as error:
        result.findings.append(Finding("lower", case.seed, _told(error)))
        return None
    return _Part(case, lowered, graph, places, meanings)


def _refused(case: Case, setup: Setup, result: Result, places: list[dict[str, int]], why: Undefined) -> None:
    """A graph whose types do not hold at all sizes must be refused by name, unless what does not hold is left out."""
    try:
        graph = rewritten(case.graph, setup, frozenset())
        lower(graph, setup.machine(), Trace())
        for place in places:
            evaluate(graph, case.at(place))
    except UnsupportedError as error:
        result.refused[str(error).splitlines()[0]] += 1
    except Undefined:
        result.findings.append(Finding("accepted", case.seed, str(why)))
    except (IndexError, ValueError, ZeroDivisionError):
        pass
    except Exception as error:
        result.findings.append(Finding("lower", case.seed, _told(error)))


def _compare_passes(case: Case, graph: Graph, places: list[dict[str, int]], meanings: list[Meaning]) -> None:
    for place, meant in zip(places, meanings):
        feed = case.at(place)
        got = evaluate(graph, feed)
        if difference(got, meant) is not None:
            found = difference(got, meaning(case.graph, feed, SURE))
            assert found is None, f"the optimized graph differs at {place}: {found}"


def _name_apart(graph: Graph, seed: int) -> None:
    for value in graph.inputs:
        graph.rename(value, f"c{seed}.{value.name}")
    graph.output_names = [f"c{seed}.{name}" for name in graph.output_names]


def _choice(step: Step, setup: Setup) -> Candidate:
    """A kernel drawn from those that accept the region, then a point of its space; the same for equal regions."""
    rng = Random(f"{setup.seed} {step.region.digest()}")
    names = sorted({c.kernel.name for c in step.candidates})
    wanted = setup.kernel or rng.choice(names)
    if rng.random() < 0.15 and not setup.kernel:
        return step.candidates[0]
    some = [c for c in step.candidates if c.kernel.name == wanted] or [c for c in step.candidates if c.kernel.name == "naive"]
    return rng.choice(some or step.candidates)


# ---- one engine of all


def _built(parts: Sequence[_Part], setup: Setup) -> tuple[Engine, Path, list[_Extra]]:
    assembler, whole, extras = _assembled(parts, setup)
    engine = Engine.from_sections(assembler.sections(whole, {"level": 0, "notes": []}, Trace()))
    return engine, assembler.module.compile(), extras


def _assembled(parts: Sequence[_Part], setup: Setup) -> tuple[Assembler, Graph, list[_Extra]]:
    whole = Graph("fuzz")
    steps: list[Step] = []
    buffers: list[Any] = []
    for part in parts:
        moved = {p.buffer for s in part.lowered.steps for p in (*s.inputs, *s.outputs) if p is not None}
        moved |= set(part.lowered.outputs) | set(part.lowered.buffers)
        shift = {"input": len(whole.inputs), "output": len(whole.outputs), "arena": len(buffers)}
        for buffer in moved:
            buffer.index += shift[buffer.kind]
        steps += part.lowered.steps
        buffers += part.lowered.buffers
        whole.inputs += part.graph.inputs
        whole.outputs += part.graph.outputs
        whole.output_names += part.graph.output_names
    lowered = Lowered(setup.machine(), whole, steps, buffers)
    assembler = Assembler(lowered, plan_memory(lowered))
    module = _OneUnit(setup.machine())
    module.level = setup.optimize
    assembler.module = module
    assembler.emit()
    extras = [e for k, part in enumerate(parts) for step in part.lowered.steps for e in _extras(k, step, module, setup)]
    return assembler, whole, extras


def _extras(case: int, step: Step, module: Module, setup: Setup) -> list[_Extra]:
    rng = Random(f"{setup.seed} extra {step.region.digest()}")
    names = sorted({c.kernel.name for c in step.candidates})
    wanted = setup.kernel or rng.choice(names)
    some = [c for c in step.candidates if c.kernel.name == wanted]
    picked = some[:: max(1, len(some) // 12)] if setup.kernel else [rng.choice(some)]
    found = []
    for candidate in picked:
        emitted = candidate.emit(step.region, module.target)
        known = {s.name: rng.choice((s.min, s.opt, s.max, rng.randint(s.min, s.max))) for s in step.region.symbols}
        number = module.add(emitted, candidate.label, step.region.name)
        sizes = [at(extent(d), known) for d in emitted.dims]
        counted = replace(emitted, tasks=at(emitted.tasks, known))
        found.append(_Extra(case, step.region.at(known), candidate.label, counted, number, sizes))
    return found


# ---- running


def _in_child(engine: Engine, library: Path, extras: Sequence[_Extra], parts: Sequence[_Part], setup: Setup) -> Any:
    """(outputs per place, what is wrong per extra), or why there is no answer."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(False)
    child = fork.Process(target=_child, args=(there, engine, library, extras, parts, setup), daemon=True)
    child.start()
    there.close()
    try:
        if not here.poll(PATIENCE):
            return f"no answer within {PATIENCE} s"
        return here.recv()
    except EOFError:
        child.join()
        return f"the process ended with {child.exitcode}"
    finally:
        child.kill()
        child.join()
        here.close()


def _child(there: Any, engine: Engine, library: Path, extras: Sequence[_Extra], parts: Sequence[_Part], setup: Setup) -> None:
    try:
        there.send((_outputs(engine, parts, setup), [_alone(e, library, setup) for e in extras]))
    except BaseException as error:
        there.send(_told(error))
    there.close()


def _outputs(engine: Engine, parts: Sequence[_Part], setup: Setup) -> list[dict[str, Array]]:
    context = engine.context(threads=setup.threads)
    found = []
    for number in range(max(len(p.places) for p in parts)):
        feed = {}
        for part in parts:
            there = part.case.at(part.places[min(number, len(part.places) - 1)])
            feed.update({f"c{part.case.seed}.{n}": a for n, a in there.items()})
        found.append({n: a.copy() for n, a in context.run(feed).items()})
    return found


def _alone(extra: _Extra, library: Path, setup: Setup) -> str | None:
    region = extra.region
    rng = np.random.default_rng(setup.seed)
    arrays = random_operands(region, rng)
    try:
        with np.errstate(all="ignore"):
            wanted = expected(region, arrays)
    except (IndexError, ValueError, ZeroDivisionError):
        return ""  # random operands that the op does not take
    table = (ctypes.c_void_p * (extra.number + 1)).in_dll(ctypes.CDLL(str(library)), "strop_kernel_table")
    function = ctypes.cast(table[extra.number], _PROTOTYPE)
    try:
        got = run_kernel(function, extra.emitted, region, arrays, setup.cores, sizes=extra.sizes)
    except AssertionError as error:
        return str(error)
    if _region_differs(region, arrays, got, wanted, 0) is None:
        return None
    return _region_differs(region, arrays, got, wanted, SURE)


def _region_differs(region: Region, arrays: Sequence[Array | None], got: Sequence[Array], wanted: Sequence[Array], runs: int) -> str | None:
    """What is wrong with results, those elements left alone that ``runs`` roundings of the operands decide."""
    recurrent = slack(region, arrays, wanted)
    room = [np.zeros(w.shape) for w in wanted]
    rng = np.random.default_rng(runs)
    for _ in range(runs):
        operands = tuple(None if o is None else replace(o, const=None) for o in region.operands)
        given = [o.logical if o is not None and o.const is not None else a for o, a in zip(region.operands, arrays)]
        with np.errstate(all="ignore"):
            other = expected(replace(region, operands=operands), [None if a is None else moved(a, rng) for a in given])
            gaps = [np.nan_to_num(np.abs(a.astype(np.float64) - b.astype(np.float64)), nan=np.inf) for a, b in zip(other, wanted)]
        room = [np.maximum(r, EFFECTS * g) for r, g in zip(room, gaps)]
    for index, (g, w, r) in enumerate(zip(got, wanted, room, strict=True)):
        if not region.outs[index].dtype.is_float:
            g = np.where(r > 0, w, g)
        found = region_difference(region, index, g, w, r if recurrent is None else r + recurrent[index])
        if found:
            return found
    return None


_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def _judge(parts: Sequence[_Part], setup: Setup, answer: Any, extras: Sequence[_Extra], result: Result) -> None:
    outputs, alone = answer
    for part in parts:
        result.ops.update(part.case.labels)
        result.kernels.update(s.chosen.kernel.name for s in part.lowered.steps)
        for place, meant, arrays in zip(part.places, part.meanings, outputs):
            got = {n: arrays[f"c{part.case.seed}.{n}"] for n in meant.wanted}
            if difference(got, meant) is not None:
                found = difference(got, meaning(part.case.graph, part.case.at(place), SURE))
                if found is not None:
                    result.findings.append(Finding("engine", part.case.seed, f"at {place or 'fixed sizes'}: {found}"))
                    break
    for extra, found in zip(extras, alone, strict=True):
        name = extra.label.split("(")[0]
        if found:
            text = f"{extra.label} on {extra.region.signature()} ({setup.target}): {found}"
            result.findings.append(Finding(f"kernel {name}", parts[extra.case].case.seed, text))
        elif found is None:
            result.kernels[name] += 1
