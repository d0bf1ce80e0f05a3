"""Small engines made by hand: kernels.c, a plan and some weights, without the compiler of Strop."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from strop.engine.dim_table import DimTable
from strop.engine.dims import Instruction
from strop.engine.format import Section, SectionKind, write_engine
from strop.engine.plan import Arg, Jump, Plan, Space, Step, Symbol, Tensor, encode_plan
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.shape import Sym
from strop.runtime import sources
from strop.runtime.library import runtime_name

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"
MACHINE = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
OTHER_MACHINE = "aarch64" if MACHINE == "x86_64" else "x86_64"

ROWS, COLUMNS = 16, 64
N = ROWS * COLUMNS
SHAPE = (ROWS, COLUMNS)
BYTES = 4 * N
ADD, SCALE, TOTAL, ROTATE, WHO, SQUARE, NOTHING, TWICE, KEEP = range(9)
N_KERNELS = 9

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the runtime is for Linux")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="strop-test-")


def compile_native(
    files: Sequence[Path], name: str, *flags: str, language: str = "cc", machine: str = MACHINE
) -> Path:
    """Compile C or C++ with all warnings as errors; the output is a file of a folder kept for the process."""
    output = Path(_folder().name) / name
    command = [sys.executable, "-m", "ziglang", language, "-target", f"{machine}-linux-gnu.2.17"]
    command += ["-Wall", "-Wextra", "-Wconversion", "-Werror", f"-I{sources.INCLUDE_DIR}", *flags]
    done = subprocess.run(
        [*command, *map(str, files), "-o", str(output)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return output


@cache
def runtime_path(machine: str = MACHINE) -> Path:
    """The runtime, compiled."""
    flags = (*sources.COMPILE_FLAGS, *sources.LINK_FLAGS)
    return compile_native(sources.source_files(), f"runtime-{machine}.so", *flags, machine=machine)


@cache
def kernels(isa: str = "portable", *flags: str) -> bytes:
    """kernels.c, compiled; `isa` is what it calls itself."""
    name = f"kernels-{isa}{'-'.join(flags).replace('=', '')}.so"
    command = ["-std=c11", "-O2", "-fPIC", "-shared", "-nostdlib", f'-DISA="{isa}"', *flags]
    return compile_native([HERE / "kernels.c"], name, *command).read_bytes()


def tensor(name: str) -> Tensor:
    """An f32 tensor of SHAPE."""
    return Tensor(name, dt.f32, SHAPE)


def arena(slot: int) -> Arg:
    """Tensor number `slot` of the arena."""
    return Arg(Space.ARENA, slot * BYTES, BYTES)


def input_(index: int, size: int = BYTES) -> Arg:
    return Arg(Space.INPUT, 0, size, index)


def output(index: int, size: int = BYTES) -> Arg:
    return Arg(Space.OUTPUT, 0, size, index)


WEIGHTS = np.linspace(0.5, 2.0, ROWS, dtype=np.float32)
_W = Arg(Space.WEIGHTS, 64, 4 * ROWS)


def arithmetic_plan() -> Plan:
    """sum = (a + b) * w per row; total = the sum of that."""
    return Plan(
        inputs=(tensor("a"), tensor("b")),
        outputs=(tensor("sum"), Tensor("total", dt.f64, ())),
        steps=(
            Step("add", ADD, (input_(0), input_(1), arena(0)), N, 16),
            Step("scale", SCALE, (arena(0), _W, output(0)), ROWS),
            Step("total", TOTAL, (output(0), output(1, 8)), 1),
        ),
        arena_bytes=BYTES,
        scratch_bytes=4 * COLUMNS,
        n_kernels=N_KERNELS,
    )


def arithmetic(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What arithmetic_plan() computes."""
    scaled = (a + b) * WEIGHTS[:, None]
    return scaled, np.add.reduce(scaled.astype(np.float64), axis=None)


def rotation_plan(grains: Sequence[int]) -> Plan:
    """y = x rotated by one and increased by one, once per grain; a grain of N is one thread's step."""
    steps = []
    source = input_(0)
    for i, grain in enumerate(grains):
        target = output(0) if i == len(grains) - 1 else arena(i % 2)
        steps.append(Step(f"rotate{i}", ROTATE, (source, target), N, grain))
        source = target
    return Plan((tensor("x"),), (tensor("y"),), tuple(steps), 2 * BYTES, 0, N_KERNELS)


def who_plan(tasks: int, grain: int = 1) -> Plan:
    """The thread and the number of threads of every task; i64 [tasks, 2]."""
    pairs = Tensor("pairs", dt.i64, (tasks, 2))
    step = Step("who", WHO, (output(0, 16 * tasks),), tasks, grain)
    return Plan((), (pairs,), (step,), 0, 0, N_KERNELS)


def square_plan(flush: bool) -> Plan:
    """y = x * x with denormals kept or flushed."""
    steps = (Step("square", SQUARE, (input_(0), output(0)), N),)
    return Plan((tensor("x"),), (tensor("y"),), steps, 0, 0, N_KERNELS, flush)


#: Rows of both inputs, and columns in fours.
R, C = Sym("rows", 1, 2, 8), Sym("quads", 1, 4, 16)


def dynamic_plan() -> Plan:
    """For a [rows, columns] and b [rows]: quadruple = 4 a; last = twice the last row of a; same = 2 b."""
    table = DimTable()
    number = table.number
    columns = sh.mul(C, 4)
    a_shape, b_shape = tuple(map(number, (R, columns))), (number(R),)
    a_bytes, row_bytes = sh.mul(sh.mul(R, columns), 4), sh.mul(columns, 4)
    whole, row = number(a_bytes), number(row_bytes)
    last = number(sh.sub(a_bytes, row_bytes))
    dims = (table.index(columns),)
    steps = (
        Step("first", TWICE, (Arg(Space.INPUT, 0, whole, 0), Arg(Space.ARENA, 64, whole)), number(R), dims=dims),
        Step("second", TWICE, (Arg(Space.ARENA, 64, whole), Arg(Space.OUTPUT, 0, whole, 0)), number(R), dims=dims),
        Step("last", TWICE, (Arg(Space.INPUT, last, row, 0), Arg(Space.OUTPUT, 0, row, 1)), 1, dims=dims),
        Step("same", TWICE, (Arg(Space.INPUT, 0, number(sh.mul(R, 4)), 1), Arg(Space.OUTPUT, 0, number(sh.mul(R, 4)), 2)),
             number(R), dims=(table.index(1),)),
    )  # fmt: skip
    symbols = tuple(Symbol(s.name, s.min, s.opt, s.max) for s in table.symbols)
    return Plan(
        (Tensor("a", dt.f32, a_shape), Tensor("b", dt.f32, b_shape)),
        (Tensor("quadruple", dt.f32, a_shape), Tensor("last", dt.f32, a_shape[1:]), Tensor("same", dt.f32, b_shape)),
        steps, 64 + 4 * 8 * 64, 0, N_KERNELS, symbols=symbols, dims=tuple(table.instructions),
    )  # fmt: skip


def computed_plan(most: int = 8) -> Plan:
    """For x [rows]: double = twice its elements above 0, at most ``most``; some = twice those of these that are above 0, all of them."""
    table = DimTable()
    kept, again = Sym("kept", 0, 2, most), Sym("again", 0, 1, most)
    number = table.number
    rows = number(R)
    whole, first, second = (number(sh.mul(s, 4)) for s in (R, kept, again))
    one, all_rows, all_kept = table.index(1), table.index(R), table.index(kept)
    room = 4 * 8
    steps = (
        Step("keep", KEEP, (Arg(Space.INPUT, 0, whole), Arg(Space.ARENA, 64, room), Arg(Space.ARENA, 0, 8)), 1, dims=(all_rows,)),
        Step("double", TWICE, (Arg(Space.ARENA, 64, first), Arg(Space.OUTPUT, 0, first)), number(kept), dims=(one,)),
        Step("again", KEEP, (Arg(Space.OUTPUT, 0, first), Arg(Space.ARENA, 128, room), Arg(Space.ARENA, 8, 8)), 1, dims=(all_kept,)),
        Step("last", TWICE, (Arg(Space.ARENA, 128, second), Arg(Space.OUTPUT, 0, second, 1)), number(again), dims=(one,)),
    )
    setters = {"kept": (0, 2), "again": (2, 2)}
    symbols = tuple(Symbol(s.name, s.min, s.opt, s.max, setters.get(s.name)) for s in table.symbols)
    return Plan(
        (Tensor("x", dt.f32, (rows,)),),
        (Tensor("double", dt.f32, (number(kept),)), Tensor("some", dt.f32, (number(again),))),
        steps, 64 * 3, 0, N_KERNELS, symbols=symbols, dims=tuple(table.instructions),
    )  # fmt: skip


def jump_plan() -> Plan:
    """For x [4]: y = 2 x unless no element of x is above 0; then y stays as it is. Then z = 2 x."""
    count = Arg(Space.ARENA, 0, 8)
    steps = (
        Step("keep", KEEP, (Arg(Space.INPUT, 0, 16), Arg(Space.ARENA, 64, 16), count), 1, dims=(0,)),
        Step("y", TWICE, (Arg(Space.INPUT, 0, 16), Arg(Space.OUTPUT, 0, 16)), 4, dims=(1,)),
        Step("z", TWICE, (Arg(Space.INPUT, 0, 16), Arg(Space.OUTPUT, 0, 16, 1)), 4, dims=(1,)),
    )
    table = (Instruction("const", value=4), Instruction("const", value=1))
    x = Tensor("x", dt.f32, (4,))
    outputs = (Tensor("y", dt.f32, (4,)), Tensor("z", dt.f32, (4,)))
    return Plan((x,), outputs, steps, 128, 0, N_KERNELS, dims=table, jumps=(Jump(0, 2, False, 2),))


def sections(
    plan: Plan | None = None,
    *,
    weights: np.ndarray | bytes | None = None,
    code: Mapping[str, bytes] | None = None,
    runtimes: Mapping[str, bytes] | None = None,
    manifest: bytes = b'{"name": "synthetic"}',
) -> list[Section]:
    """The sections of an engine; the arithmetic one with this machine's code by default."""
    if weights is None:
        weights = np.concatenate([np.zeros(16, np.float32), WEIGHTS])
    size = len(weights) if isinstance(weights, bytes) else weights.nbytes
    code = {MACHINE: kernels()} if code is None else code
    runtimes = {runtime_name(): runtime_path().read_bytes()} if runtimes is None else runtimes
    result = [
        Section(SectionKind.MANIFEST, "manifest", [manifest]),
        Section(SectionKind.GRAPH, "graph", ["graph (été)".encode()]),
        Section(SectionKind.PLAN, "plan", [encode_plan(plan or arithmetic_plan(), size)]),
        Section(SectionKind.WEIGHTS, "weights", [weights]),
    ]
    result += [Section(SectionKind.KERNELS, name, [data]) for name, data in code.items()]
    result += [Section(SectionKind.RUNTIME, name, [data]) for name, data in runtimes.items()]
    return result


def write(path: Path, plan: Plan | None = None, **parts: object) -> Path:
    """Write an engine made by sections(); returns the path."""
    write_engine(path, sections(plan, **parts))  # type: ignore[arg-type]
    return path


def run_script(
    script: str, *arguments: object, timeout: float = 60, path: str | None = None
) -> str:
    """Run Python code in a process of its own; returns what it printed, fails when it fails."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(SRC), str(SRC.parent)]))
    if path is not None:
        environment["PATH"] = path
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
