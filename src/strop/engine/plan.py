"""The plan section of an engine file: what the runtime does, step by step.

Header, inputs, outputs, steps, args, symbols, dims, step dims, jumps, strings; fixed-size little-endian
records, nothing between or after. The offsets that steps give into arena, weights, inputs and
outputs are bytes. A dim, an offset, a size or a number of tasks that depends on the shape is below
zero and names an entry of the table of dims, see ``dims.py``.
``runtime/src/strop_format.h`` is the C twin of the records, ``runtime/src/plan.c`` of the checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from strop.engine import computed
from strop.engine.checksum import Buffer, as_bytes
from strop.engine.dims import (
    DIM,
    MAX_DIMS,
    MAX_STEP_DIMS,
    MAX_SYM,
    MAX_SYMS,
    OPS,
    STEP_DIM,
    SYM,
    Instruction,
    evaluate,
    input_dim,
)
from strop.engine.format import PLAN_ABI
from strop.errors import EngineFileError
from strop.ir.dtype import BY_CODE, DType

MAX_RANK = 8
MAX_TENSORS = 1 << 16
MAX_STEPS = 1 << 20
MAX_ARGS = 1 << 24
MAX_STRING_BYTES = 1 << 28
MAX_BYTES = 1 << 44
MAX_SCRATCH_BYTES = MAX_BYTES // 256
MAX_TASKS = 1 << 40
FLUSH_DENORMALS = 1
#: The kernel of a step whose code is found by name in the process that runs it, see ``custom_section.py``.
KERNEL_BY_NAME = 0xFFFFFFFF

_Records: TypeAlias = NDArray[np.void]

_HEADER = np.dtype(
    [
        (name, "<u4")
        for name in (
            "abi", "n_inputs", "n_outputs", "n_steps", "n_args", "n_syms", "n_string_bytes", "flags",
            "n_dims", "n_step_dims", "n_jumps", "zero",
        )
    ]
    + [(name, "<u8") for name in ("arena_bytes", "scratch_bytes", "n_kernels")]
)  # fmt: skip
_TENSOR = np.dtype(
    [
        ("name", "<u4"),
        ("dtype", "<u4"),
        ("rank", "<u4"),
        ("flags", "<u4"),
        ("dims", "<i8", (MAX_RANK,)),
        ("bytes", "<u8"),
    ]
)
_STEP = np.dtype(
    [
        ("kernel", "<u4"),
        ("first_arg", "<u4"),
        ("n_args", "<u4"),
        ("name", "<u4"),
        ("n_tasks", "<i8"),
        ("grain", "<i8"),
        ("first_dim", "<u4"),
        ("n_dims", "<u4"),
    ]
)
_ARG = np.dtype([("space", "<u4"), ("index", "<u4"), ("offset", "<i8"), ("size", "<i8")])


_JUMP = np.dtype([("step", "<u4"), ("arg", "<u4"), ("when", "<u4"), ("target", "<u4")])


class Space(IntEnum):
    """Where an operand lies."""

    ARENA = 0
    WEIGHTS = 1
    INPUT = 2
    OUTPUT = 3


@dataclass(frozen=True)
class Arg:
    """An operand: `size` bytes that a kernel may touch at byte `offset` of a space. Both may depend on
    the shape.

    `index` is the number of the input or output, 0 for arena and weights.
    """

    space: Space
    offset: int
    size: int
    index: int = 0


@dataclass(frozen=True)
class Step:
    """A kernel call.

    Attributes:
        name: for people: the layer it computes.
        kernel: its number in the kernels library, or KERNEL_BY_NAME.
        args: the operands, in the kernel's order.
        n_tasks: independent pieces of work, dealt to the threads; may depend on the shape.
        grain: tasks are dealt in multiples of it.
        dims: entries of the table of dims that the kernel is handed, in its order.
    """

    name: str
    kernel: int
    args: tuple[Arg, ...]
    n_tasks: int
    grain: int = 1
    dims: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """An input or output: row-major, contiguous. Dims below zero depend on the shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Its size; 0 when it depends on the shape."""
        return 0 if self.is_dynamic else prod(self.shape) * self.dtype.size

    @property
    def is_dynamic(self) -> bool:
        """Whether the shape is not always the same."""
        return any(dim < 0 for dim in self.shape)


@dataclass(frozen=True)
class Symbol:
    """A number from `min` to `max`; contexts start with `opt`. The shapes of the inputs tell it or, where there is a `setter`,
    the step of this number writes it, an i64, to the operand of that number."""

    name: str
    min: int
    opt: int
    max: int
    setter: tuple[int, int] | None = None


@dataclass(frozen=True)
class Jump:
    """After a step: go on with step ``target``, the number of steps for the end, where the bool that it has written to operand ``arg`` is
    ``when``."""

    step: int
    arg: int
    when: bool
    target: int


@dataclass(frozen=True)
class Plan:
    """Everything the runtime needs to know besides weights and code.

    Attributes:
        inputs: in the order in which they are bound.
        outputs: likewise.
        steps: in the order in which they run.
        arena_bytes: memory for intermediate values, one per context.
        scratch_bytes: memory for a kernel's own use, one per thread.
        n_kernels: how many the kernels library has.
        flush_denormals: run with denormal floats read and written as zero.
        symbols: what the inputs' shapes are free in.
        dims: the table of dims.
        jumps: by ascending step, at most one per step.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    scratch_bytes: int
    n_kernels: int
    flush_denormals: bool = False
    symbols: tuple[Symbol, ...] = ()
    dims: tuple[Instruction, ...] = ()
    jumps: tuple[Jump, ...] = ()


def encode_plan(plan: Plan, weights_bytes: int) -> bytes:
    """The bytes of a plan section.

    Args:
        plan: what to write.
        weights_bytes: size of the weights section its args point into.

    Raises:
        EngineFileError: a number of the plan is out of its range.
    """
    strings = _Strings()
    tensors = [_tensor_row(t, strings) for t in plan.inputs + plan.outputs]
    steps: list[tuple[int, ...]] = []
    args: list[tuple[int, ...]] = []
    step_dims: list[tuple[int]] = []
    for step in plan.steps:
        name = strings.add(step.name)
        first = len(step_dims) if step.dims else 0
        row = (step.kernel, len(args), len(step.args), name, step.n_tasks, step.grain, first, len(step.dims))
        steps.append(row)
        step_dims += [(dim,) for dim in step.dims]
        args += [(a.space, a.index, a.offset, a.size) for a in step.args]
    symbols = [(strings.add(s.name), _set_by(s, steps), s.min, s.opt, s.max) for s in plan.symbols]
    dims = [(OPS.index(d.op), d.a, d.b, 0, d.value) for d in plan.dims]
    jumps = [(j.step, steps[j.step][1] + j.arg, int(j.when), j.target) for j in plan.jumps]
    header = (
        PLAN_ABI,
        len(plan.inputs),
        len(plan.outputs),
        len(steps),
        len(args),
        len(symbols),
        strings.size,
        FLUSH_DENORMALS if plan.flush_denormals else 0,
        len(dims),
        len(step_dims),
        len(jumps),
        0,
        plan.arena_bytes,
        plan.scratch_bytes,
        plan.n_kernels,
    )
    parts = (
        (_HEADER, [header]), (_TENSOR, tensors), (_STEP, steps), (_ARG, args),
        (SYM, symbols), (DIM, dims), (STEP_DIM, step_dims), (_JUMP, jumps),
    )  # fmt: skip
    try:
        data = b"".join(np.array(rows, dtype).tobytes() for dtype, rows in parts)
    except OverflowError as error:
        raise _error(str(error), "numbers that fit their fields") from error
    data += strings.bytes()
    decode_plan(data, weights_bytes)
    return data


def _set_by(symbol: Symbol, steps: Sequence[tuple[int, ...]]) -> int:
    """1 + the number of the arg that holds a computed symbol, 0 for one that shapes tell."""
    return 0 if symbol.setter is None else 1 + steps[symbol.setter[0]][1] + symbol.setter[1]


def _tensor_row(tensor: Tensor, strings: _Strings) -> tuple[object, ...]:
    rank = len(tensor.shape)
    if rank > MAX_RANK:
        raise _error(f"tensor '{tensor.name}' of rank {rank}", f"up to {MAX_RANK}")
    dims = tensor.shape + (0,) * (MAX_RANK - rank)
    return strings.add(tensor.name), tensor.dtype.code, rank, 0, dims, tensor.n_bytes


class _Strings:
    """The string table: each text once, NUL-terminated."""

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, text: str) -> int:
        if text not in self._offsets:
            encoded = text.encode("utf-8")
            if b"\0" in encoded:
                raise _error(f"the name {text!r}", "a name without NUL")
            self._offsets[text] = self.size
            self._parts.append(encoded + b"\0")
            self.size += len(encoded) + 1
        return self._offsets[text]

    def bytes(self) -> bytes:
        return b"".join(self._parts)


def decode_plan(data: Buffer, weights_bytes: int) -> Plan:
    """Read a plan section; the inverse of encode_plan.

    Raises:
        EngineFileError: malformed, or an index or offset leaves what it points into.
    """
    view = as_bytes(data).data
    if len(view) < _HEADER.itemsize:
        raise _error(f"{len(view)} bytes", f"a header of {_HEADER.itemsize} bytes")
    header = {name: int(np.frombuffer(view, _HEADER, 1)[0][name]) for name in _HEADER.names or ()}
    tensors, steps, args, syms, dims, step_dims, jumps, strings = _split(view, header)
    if strings and strings[-1] != 0:
        raise _error("names that do not end", "a NUL at the end of the string table")
    symbols, table = _decode_dims(syms, dims, strings, steps)
    try:
        numbers = [evaluate(table, [getattr(s, end) for s in symbols]) for end in ("min", "opt", "max")] if table else []
    except ArithmeticError as error:
        raise _error(f"dims that cannot be computed: {error}", "64-bit numbers, and divisors above 0") from error
    decoded = [_decode_tensor(row, strings, len(table)) for row in tensors]
    n_inputs = header["n_inputs"]
    inputs, outputs = tuple(decoded[:n_inputs]), tuple(decoded[n_inputs:])
    for role, group in (("input", inputs), ("output", outputs)):
        if len({tensor.name for tensor in group}) != len(group):
            raise _error(f"two {role}s of one name", f"distinct {role} names")
    _check_free(inputs, symbols, table)
    stages = computed.stages(symbols, table)
    decoded_args = [_decode_arg(index, row, len(table)) for index, row in enumerate(args.tolist())]
    handed = [int(row["dim"]) for row in step_dims]
    if any(dim >= len(table) for dim in handed):
        raise _error(f"a step with dim {max(handed)}", f"below {len(table)}")
    decoded_steps = tuple(
        _decode_step(index, row, header, decoded_args, strings, handed)
        for index, row in enumerate(steps.tolist())
    )
    problem = computed.too_early(decoded_steps, symbols, stages)
    if problem is not None:
        raise _error(problem, "a size after the step that finds it")
    for end, known in zip(("min", "opt", "max"), numbers or [[]]):
        highest = computed.highest(symbols, table, end)
        _check_bounds(inputs, outputs, decoded_steps, decoded_args, header, weights_bytes, known, highest)
    return Plan(
        inputs,
        outputs,
        decoded_steps,
        header["arena_bytes"],
        header["scratch_bytes"],
        header["n_kernels"],
        bool(header["flags"] & FLUSH_DENORMALS),
        symbols,
        table,
        _decode_jumps(jumps, steps, decoded_args),
    )


def _decode_jumps(rows: _Records, steps: _Records, args: list[Arg]) -> tuple[Jump, ...]:
    found: list[Jump] = []
    for number, (step, arg, when, target) in enumerate(rows.tolist()):
        if step >= len(steps) or target > len(steps) or when > 1 or (found and step <= found[-1].step):
            raise _error(f"jump {number} after step {step} to {target} when {when}", "ascending steps that are there")
        first, count = int(steps[step]["first_arg"]), int(steps[step]["n_args"])
        if not first <= arg < first + count or args[arg].space != Space.ARENA or args[arg].size < 1:
            raise _error(f"jump {number} by arg {arg}", "an arg of its step in the arena")
        found.append(Jump(step, arg - first, bool(when), target))
    return tuple(found)


def _split(
    view: memoryview, header: dict[str, int]
) -> tuple[_Records, _Records, _Records, _Records, _Records, _Records, _Records, bytes]:
    """Tensors, steps, args, symbols, dims, step dims, jumps and strings of a plan whose header is checked here."""
    if header["abi"] != PLAN_ABI:
        raise _error(f"version {header['abi']}", f"version {PLAN_ABI}")
    if header["zero"]:
        raise _error(f"{header['zero']} in a field that is kept free", "0")
    if header["flags"] & ~FLUSH_DENORMALS:
        raise _error(f"flags {header['flags']:#x}", f"flags up to {FLUSH_DENORMALS:#x}")
    for name, limit in (
        ("n_inputs", MAX_TENSORS),
        ("n_outputs", MAX_TENSORS),
        ("n_steps", MAX_STEPS),
        ("n_args", MAX_ARGS),
        ("n_syms", MAX_SYMS),
        ("n_dims", MAX_DIMS),
        ("n_step_dims", MAX_STEP_DIMS),
        ("n_jumps", MAX_STEPS),
        ("n_string_bytes", MAX_STRING_BYTES),
        ("arena_bytes", MAX_BYTES),
        ("scratch_bytes", MAX_SCRATCH_BYTES),
    ):
        if header[name] > limit:
            raise _error(f"{name} = {header[name]}", f"at most {limit}")
    counts = (
        (_TENSOR, header["n_inputs"] + header["n_outputs"]),
        (_STEP, header["n_steps"]),
        (_ARG, header["n_args"]),
        (SYM, header["n_syms"]),
        (DIM, header["n_dims"]),
        (STEP_DIM, header["n_step_dims"]),
        (_JUMP, header["n_jumps"]),
    )
    size = _HEADER.itemsize + sum(dtype.itemsize * n for dtype, n in counts)
    if len(view) != size + header["n_string_bytes"]:
        raise _error(f"{len(view)} bytes", f"{size + header['n_string_bytes']} bytes")
    offset = _HEADER.itemsize
    records = []
    for dtype, n in counts:
        # frombuffer of nothing is refused at the very end of a buffer.
        records.append(np.frombuffer(view, dtype, n, offset) if n else np.empty(0, dtype))
        offset += dtype.itemsize * n
    tensors, steps, args, syms, dims, step_dims, jumps = records
    return tensors, steps, args, syms, dims, step_dims, jumps, bytes(view[offset:])


def _setter(arg: int, steps: _Records) -> tuple[int, int] | None:
    """Step and operand of an arg, numbered from 1; None for 0, and an error for one that no step has."""
    if arg == 0:
        return None
    for index, row in enumerate(steps):
        if row["first_arg"] < arg <= int(row["first_arg"]) + int(row["n_args"]):
            return index, arg - 1 - int(row["first_arg"])
    raise _error(f"a size in arg {arg - 1}", "an arg of a step")


def _decode_dims(
    syms: _Records, dims: _Records, strings: bytes, steps: _Records
) -> tuple[tuple[Symbol, ...], tuple[Instruction, ...]]:
    symbols = tuple(
        Symbol(_string(strings, int(r["name"])), int(r["min"]), int(r["opt"]), int(r["max"]), _setter(int(r["set_by"]), steps))
        for r in syms
    )
    for symbol in symbols:
        least = 1 if symbol.setter is None else 0
        if not least <= symbol.min <= symbol.opt <= symbol.max <= MAX_SYM:
            raise _error(f"symbol '{symbol.name}' of {symbol.min}..{symbol.max}({symbol.opt})", f"ordered numbers from {least} to {MAX_SYM}")
    if len({symbol.name for symbol in symbols}) != len(symbols):
        raise _error("two symbols of one name", "distinct names")
    table: list[Instruction] = []
    for index, (op, a, b, zero, value) in enumerate(dims.tolist()):
        if op >= len(OPS) or zero != 0:
            raise _error(f"dim {index} of kind {op}", f"below {len(OPS)}")
        entry = Instruction(OPS[op], a, b, value)
        problem = entry.problem(index, len(symbols))
        if problem is not None:
            raise _error(f"dim {index}: {problem}", "operands that come before it")
        table.append(entry)
    return symbols, tuple(table)


def _check_free(inputs: Sequence[Tensor], symbols: Sequence[Symbol], table: Sequence[Instruction]) -> None:
    """Every symbol can be told from the inputs' shapes."""
    told = set()
    for tensor in inputs:
        for number in (dim for dim in tensor.shape if dim < 0):
            found = input_dim(number, table)
            if found is None:
                raise _error(f"input '{tensor.name}' with a computed dim", "symbols, or multiples of them")
            told.add(found[0])
            if symbols[found[0]].setter is not None:
                raise _error(f"input '{tensor.name}' with a dim that a step finds", "symbols that its shape tells")
    free = sum(symbol.setter is None for symbol in symbols)
    if len(told) != free:
        raise _error(f"{free - len(told)} symbols that no input has", "symbols of the inputs' shapes")


def _check_bounds(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], steps: Sequence[Step], args: Sequence[Arg],
    header: dict[str, int], weights_bytes: int, known: Sequence[int], highest: Sequence[int],
) -> None:  # fmt: skip
    """No operand leaves its space where the table has these numbers, and computed sizes are at most ``highest``."""

    def at(number: int) -> int:
        return number if number >= 0 else known[-1 - number]

    limits: dict[int, list[int]] = {Space.ARENA: [header["arena_bytes"]], Space.WEIGHTS: [weights_bytes]}
    for space, tensors in ((Space.INPUT, inputs), (Space.OUTPUT, outputs)):
        limits[space] = []
        for tensor in tensors:
            dims = [at(dim) for dim in tensor.shape]
            if min(dims, default=0) < 0 or tensor.dtype.size * prod(max(d, 1) for d in dims) > MAX_BYTES:
                raise _error(f"tensor '{tensor.name}' with dims {dims}", "a shape that fits memory")
            room = [dim if dim >= 0 else highest[-1 - dim] for dim in tensor.shape]
            limits[space].append(prod(room) * tensor.dtype.size)
    for number, arg in enumerate(args):
        space_limits = limits[arg.space]
        if arg.index >= len(space_limits):
            raise _error(f"arg {number} in space {int(arg.space)}, index {arg.index}", "a space that is there")
        offset, size = at(arg.offset), at(arg.size)
        if min(offset, size) < 0 or offset + size > space_limits[arg.index]:
            raise _error(
                f"arg {number}: {size} bytes at {offset} of {arg.space.name.lower()} {arg.index}",
                f"within its {space_limits[arg.index]} bytes",
            )
    for index, step in enumerate(steps):
        if not 0 <= at(step.n_tasks) <= MAX_TASKS:
            raise _error(f"step {index} '{step.name}': {at(step.n_tasks)} tasks", f"0 to {MAX_TASKS}")


def _decode_tensor(row: np.void, strings: bytes, n_dims: int) -> Tensor:
    name = _string(strings, int(row["name"]))
    dtype = BY_CODE.get(int(row["dtype"]))
    rank = int(row["rank"])
    dims = [int(dim) for dim in row["dims"]]
    if dtype is None:
        raise _error(f"tensor '{name}' of dtype number {row['dtype']}", f"one of {sorted(BY_CODE)}")
    if rank > MAX_RANK or row["flags"] != 0:
        raise _error(f"tensor '{name}' of rank {rank}", f"at most {MAX_RANK}, and no flags")
    if min(dims) < -n_dims or any(dims[rank:]) or dtype.size * prod(max(d, 1) for d in dims) > MAX_BYTES:
        raise _error(f"tensor '{name}' with dims {dims}", "numbers, or dims that are there")
    tensor = Tensor(name, dtype, tuple(dims[:rank]))
    if tensor.n_bytes != row["bytes"]:
        raise _error(f"tensor '{name}' of {row['bytes']} bytes", f"{tensor.n_bytes} bytes")
    return tensor


def _decode_arg(number: int, row: tuple[int, ...], n_dims: int) -> Arg:
    space, index, offset, size = row
    if space not in list(Space):
        raise _error(f"arg {number} in space {space}, index {index}", "a space that is there")
    if min(offset, size) < -n_dims:
        raise _error(f"arg {number}: {size} bytes at {offset}", "numbers, or dims that are there")
    return Arg(Space(space), offset, size, index)


def _decode_step(
    number: int, row: tuple[int, ...], header: dict[str, int], args: list[Arg], strings: bytes, handed: list[int]
) -> Step:
    kernel, first_arg, n_args, name, n_tasks, grain, first_dim, n_dims = row
    text = _string(strings, name)
    if kernel >= header["n_kernels"] and kernel != KERNEL_BY_NAME:
        raise _error(f"step {number} '{text}': kernel {kernel}", f"below {header['n_kernels']}")
    if first_arg + n_args > len(args):
        raise _error(f"step {number} '{text}': {n_args} args at {first_arg}", f"up to {len(args)}")
    if not -header["n_dims"] <= n_tasks <= MAX_TASKS or not 1 <= grain <= MAX_TASKS:
        raise _error(
            f"step {number} '{text}': {n_tasks} tasks, grain {grain}",
            f"tasks from 0, grain from 1, to {MAX_TASKS}",
        )
    if first_dim + n_dims > len(handed):
        raise _error(f"step {number} '{text}': {n_dims} dims at {first_dim}", f"up to {len(handed)}")
    dims = tuple(handed[first_dim : first_dim + n_dims])
    return Step(text, kernel, tuple(args[first_arg : first_arg + n_args]), n_tasks, grain, dims)


def _string(strings: bytes, offset: int) -> str:
    if offset >= len(strings):
        raise _error(f"a name at {offset}", f"within the {len(strings)} bytes of names")
    try:
        return strings[offset : strings.index(b"\0", offset)].decode("utf-8")
    except UnicodeDecodeError as error:
        raise _error(f"a name at {offset}: {error}", "UTF-8") from error


def _error(got: str, expected: str) -> EngineFileError:
    return EngineFileError(
        "the plan of the engine is malformed",
        where="plan section",
        got=got,
        expected=expected,
        hint="build the engine again",
    )
