"""The plan section of an engine file: what the runtime does, step by step.

Header, inputs, outputs, steps, args, strings; fixed-size little-endian records, nothing between
or after. The offsets that steps give into arena, weights, inputs and outputs are bytes.
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

from strop.engine.checksum import Buffer, as_bytes
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

_Records: TypeAlias = NDArray[np.void]

_HEADER = np.dtype(
    [
        (name, "<u4")
        for name in (
            "abi", "n_inputs", "n_outputs", "n_steps", "n_args", "n_syms", "n_string_bytes", "flags"
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
        ("flags", "<u8"),
    ]
)
_ARG = np.dtype([("space", "<u4"), ("index", "<u4"), ("offset", "<u8"), ("size", "<u8")])


class Space(IntEnum):
    """Where an operand lies."""

    ARENA = 0
    WEIGHTS = 1
    INPUT = 2
    OUTPUT = 3


@dataclass(frozen=True)
class Arg:
    """An operand: `size` bytes that a kernel may touch at byte `offset` of a space.

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
        kernel: its number in the kernels library.
        args: the operands, in the kernel's order.
        n_tasks: independent pieces of work, dealt to the threads.
        grain: tasks are dealt in multiples of it.
    """

    name: str
    kernel: int
    args: tuple[Arg, ...]
    n_tasks: int
    grain: int = 1


@dataclass(frozen=True)
class Tensor:
    """An input or output: row-major, contiguous."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return prod(self.shape) * self.dtype.size


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
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    scratch_bytes: int
    n_kernels: int
    flush_denormals: bool = False


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
    for step in plan.steps:
        name = strings.add(step.name)
        row = (step.kernel, len(args), len(step.args), name, step.n_tasks, step.grain, 0)
        steps.append(row)
        args += [(a.space, a.index, a.offset, a.size) for a in step.args]
    header = (
        PLAN_ABI,
        len(plan.inputs),
        len(plan.outputs),
        len(steps),
        len(args),
        0,
        strings.size,
        FLUSH_DENORMALS if plan.flush_denormals else 0,
        plan.arena_bytes,
        plan.scratch_bytes,
        plan.n_kernels,
    )
    parts = ((_HEADER, [header]), (_TENSOR, tensors), (_STEP, steps), (_ARG, args))
    try:
        data = b"".join(np.array(rows, dtype).tobytes() for dtype, rows in parts)
    except OverflowError as error:
        raise _error(str(error), "numbers that fit their fields") from error
    data += strings.bytes()
    decode_plan(data, weights_bytes)
    return data


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
    tensors, steps, args, strings = _split(view, header)
    if strings and strings[-1] != 0:
        raise _error("names that do not end", "a NUL at the end of the string table")
    decoded = [_decode_tensor(row, strings) for row in tensors]
    n_inputs = header["n_inputs"]
    inputs, outputs = tuple(decoded[:n_inputs]), tuple(decoded[n_inputs:])
    for role, group in (("input", inputs), ("output", outputs)):
        if len({tensor.name for tensor in group}) != len(group):
            raise _error(f"two {role}s of one name", f"distinct {role} names")
    limits: dict[int, Sequence[int]] = {
        Space.ARENA: [header["arena_bytes"]],
        Space.WEIGHTS: [weights_bytes],
        Space.INPUT: [tensor.n_bytes for tensor in inputs],
        Space.OUTPUT: [tensor.n_bytes for tensor in outputs],
    }
    decoded_args = [_decode_arg(index, row, limits) for index, row in enumerate(args.tolist())]
    decoded_steps = tuple(
        _decode_step(index, row, header, decoded_args, strings)
        for index, row in enumerate(steps.tolist())
    )
    return Plan(
        inputs,
        outputs,
        decoded_steps,
        header["arena_bytes"],
        header["scratch_bytes"],
        header["n_kernels"],
        bool(header["flags"] & FLUSH_DENORMALS),
    )


def _split(view: memoryview, header: dict[str, int]) -> tuple[_Records, _Records, _Records, bytes]:
    """Tensors, steps, args and strings of a plan whose header is checked here."""
    if header["abi"] != PLAN_ABI:
        raise _error(f"version {header['abi']}", f"version {PLAN_ABI}")
    if header["n_syms"] != 0:
        raise _error(f"n_syms = {header['n_syms']}", "0: constant shapes only")
    if header["flags"] & ~FLUSH_DENORMALS:
        raise _error(f"flags {header['flags']:#x}", f"flags up to {FLUSH_DENORMALS:#x}")
    for name, limit in (
        ("n_inputs", MAX_TENSORS),
        ("n_outputs", MAX_TENSORS),
        ("n_steps", MAX_STEPS),
        ("n_args", MAX_ARGS),
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
    return records[0], records[1], records[2], bytes(view[offset:])


def _decode_tensor(row: np.void, strings: bytes) -> Tensor:
    name = _string(strings, int(row["name"]))
    dtype = BY_CODE.get(int(row["dtype"]))
    rank = int(row["rank"])
    dims = [int(dim) for dim in row["dims"]]
    if dtype is None:
        raise _error(f"tensor '{name}' of dtype number {row['dtype']}", f"one of {sorted(BY_CODE)}")
    if rank > MAX_RANK or row["flags"] != 0:
        raise _error(f"tensor '{name}' of rank {rank}", f"at most {MAX_RANK}, and no flags")
    if min(dims) < 0 or any(dims[rank:]) or dtype.size * prod(max(d, 1) for d in dims) > MAX_BYTES:
        raise _error(f"tensor '{name}' with dims {dims}", "a shape of constants")
    tensor = Tensor(name, dtype, tuple(dims[:rank]))
    if tensor.n_bytes != row["bytes"]:
        raise _error(f"tensor '{name}' of {row['bytes']} bytes", f"{tensor.n_bytes} bytes")
    return tensor


def _decode_arg(number: int, row: tuple[int, ...], limits: dict[int, Sequence[int]]) -> Arg:
    space, index, offset, size = row
    if space not in limits or index >= len(limits[space]):
        raise _error(f"arg {number} in space {space}, index {index}", "a space that is there")
    if offset + size > limits[space][index]:
        raise _error(
            f"arg {number}: {size} bytes at {offset} of {Space(space).name.lower()} {index}",
            f"within its {limits[space][index]} bytes",
        )
    return Arg(Space(space), offset, size, index)


def _decode_step(
    number: int, row: tuple[int, ...], header: dict[str, int], args: list[Arg], strings: bytes
) -> Step:
    kernel, first_arg, n_args, name, n_tasks, grain, flags = row
    text = _string(strings, name)
    if kernel >= header["n_kernels"]:
        raise _error(f"step {number} '{text}': kernel {kernel}", f"below {header['n_kernels']}")
    if first_arg + n_args > len(args):
        raise _error(f"step {number} '{text}': {n_args} args at {first_arg}", f"up to {len(args)}")
    if not 0 <= n_tasks <= MAX_TASKS or not 1 <= grain <= MAX_TASKS or flags != 0:
        raise _error(
            f"step {number} '{text}': {n_tasks} tasks, grain {grain}, flags {flags}",
            f"tasks from 0, grain from 1, to {MAX_TASKS}; no flags",
        )
    return Step(text, kernel, tuple(args[first_arg : first_arg + n_args]), n_tasks, grain)


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
