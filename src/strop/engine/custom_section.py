"""The custom section of an engine file: the steps whose code is found by name in the process that runs them.

Header, step records in the order of the plan's steps, tensors, strings. ``runtime/src/strop_format.h`` is the C twin of the records,
``runtime/src/custom.c`` of the checks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

from strop.engine.checksum import Buffer, as_bytes
from strop.engine.dims import evaluate
from strop.engine.format import CUSTOM_ABI
from strop.engine.plan import KERNEL_BY_NAME, MAX_ARGS, MAX_RANK, MAX_STRING_BYTES, Plan
from strop.errors import EngineFileError
from strop.ir.dtype import BY_CODE

_HEADER = np.dtype([(name, "<u4") for name in ("abi", "n_steps", "n_tensors", "n_string_bytes")])
_STEP = np.dtype(
    [
        (name, "<u4")
        for name in ("step", "kind", "name", "attributes", "origin", "n_outputs", "n_inputs", "first_tensor")
    ]
)
_TENSOR = np.dtype(
    [(name, "<u4") for name in ("dtype", "rank", "is_absent", "zero")]
    + [("dims", "<i8", (MAX_RANK,)), ("strides", "<i8", (MAX_RANK,))]
)


class CustomKind(IntEnum):
    """What is registered under the name."""

    CALLBACK = 1  # called once per run, on the calling thread, with views of its tensors
    KERNEL = 2  # called like a kernel of the engine


@dataclass(frozen=True)
class CustomTensor:
    """A result or operand of a callback. Dims and strides, in elements, are numbers as in the plan."""

    code: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class CustomStep:
    """A step whose code is found by name.

    Attributes:
        step: its number.
        kind: of the code.
        name: ``domain::type``.
        attributes: by name.
        origin: for people: where the code was when the engine was built.
        outputs: of a callback.
        inputs: of a callback; None for one left out.
    """

    step: int
    kind: CustomKind
    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    outputs: tuple[CustomTensor, ...] = ()
    inputs: tuple[CustomTensor | None, ...] = ()


def encode_custom(steps: Sequence[CustomStep]) -> bytes:
    """The bytes of the section; the runtime checks them against the plan."""
    strings = bytearray()
    offsets: dict[str, int] = {}

    def add(text: str) -> int:
        if text not in offsets:
            offsets[text] = len(strings)
            strings.extend(text.encode() + b"\0")
        return offsets[text]

    rows: list[tuple[int, ...]] = []
    tensors: list[tuple[Any, ...]] = []
    for step in steps:
        attributes = json.dumps(step.attributes, sort_keys=True, separators=(",", ":"))
        rows.append(
            (step.step, step.kind, add(step.name), add(attributes), add(step.origin), len(step.outputs), len(step.inputs), len(tensors))
        )
        tensors += [_tensor(t) for t in (*step.outputs, *step.inputs)]
    header = np.array([(CUSTOM_ABI, len(rows), len(tensors), len(strings))], _HEADER)
    return b"".join((header.tobytes(), np.array(rows, _STEP).tobytes(), np.array(tensors, _TENSOR).tobytes(), bytes(strings)))


def _tensor(tensor: CustomTensor | None) -> tuple[Any, ...]:
    none = (0,) * MAX_RANK
    if tensor is None:
        return (1, 0, 1, 0, none, none)
    rank = len(tensor.shape)
    pad = (0,) * (MAX_RANK - rank)
    return (tensor.code, rank, 0, 0, tensor.shape + pad, tensor.strides + pad)


def decode_custom(data: Buffer | None, plan: Plan) -> tuple[CustomStep, ...]:
    """Reads the section; the inverse of encode_custom.

    Args:
        data: its bytes; None when the file has none.
        plan: of the same file.

    Raises:
        EngineFileError: malformed, or it does not fit the plan.
    """
    expected = [index for index, step in enumerate(plan.steps) if step.kernel == KERNEL_BY_NAME]
    if data is None:
        if expected:
            raise _error(f"{len(expected)} steps without code", "a section that names it")
        return ()
    view = as_bytes(data).data
    if len(view) < _HEADER.itemsize:
        raise _error(f"{len(view)} bytes", f"a header of {_HEADER.itemsize} bytes")
    abi, n_steps, n_tensors, n_string_bytes = map(int, np.frombuffer(view, _HEADER, 1)[0])
    if abi != CUSTOM_ABI:
        raise _error(f"version {abi}", f"version {CUSTOM_ABI}")
    if n_steps != len(expected) or n_tensors > MAX_ARGS or n_string_bytes > MAX_STRING_BYTES:
        raise _error(f"{n_steps} steps, {n_tensors} tensors, {n_string_bytes} bytes of names", f"{len(expected)} steps")
    at_tensors = _HEADER.itemsize + n_steps * _STEP.itemsize
    at_strings = at_tensors + n_tensors * _TENSOR.itemsize
    if len(view) != at_strings + n_string_bytes:
        raise _error(f"{len(view)} bytes", f"{at_strings + n_string_bytes} bytes")
    strings = bytes(view[at_strings:])
    if not strings or strings[-1] != 0:
        raise _error("names that do not end", "a NUL at the end of the string table")
    rows = np.frombuffer(view[:at_tensors], _STEP, n_steps, _HEADER.itemsize) if n_steps else np.empty(0, _STEP)
    records = np.frombuffer(view[:at_strings], _TENSOR, n_tensors, at_tensors) if n_tensors else np.empty(0, _TENSOR)
    tensors = [_decode_tensor(index, row, len(plan.dims)) for index, row in enumerate(records)]
    steps = tuple(_decode_step(row, step, plan, tensors, strings) for row, step in zip(rows.tolist(), expected, strict=True))
    for end in ("min", "opt", "max"):
        known = evaluate(plan.dims, [getattr(s, end) for s in plan.symbols]) if plan.dims else []
        for step in steps:
            _check_reach(step, plan, known)
    return steps


def _decode_tensor(index: int, row: np.void, n_dims: int) -> CustomTensor | None:
    code, rank, is_absent, zero = (int(row[name]) for name in ("dtype", "rank", "is_absent", "zero"))
    dims, strides = ([int(n) for n in row[name]] for name in ("dims", "strides"))
    if code not in BY_CODE or rank > MAX_RANK or is_absent > 1 or zero != 0:
        raise _error(f"tensor {index} of dtype number {code}, rank {rank}", "a tensor")
    if min(*dims, *strides) < -n_dims or any(dims[rank:]) or any(strides[rank:]):
        raise _error(f"tensor {index} with dims {dims} and strides {strides}", "numbers, or dims that are there")
    return None if is_absent else CustomTensor(code, tuple(dims[:rank]), tuple(strides[:rank]))


def _decode_step(
    row: tuple[int, ...], expected: int, plan: Plan, tensors: Sequence[CustomTensor | None], strings: bytes
) -> CustomStep:
    step, kind, *texts, n_outputs, n_inputs, first = row
    if step != expected:
        raise _error(f"step {step}", f"step {expected}")
    if kind not in list(CustomKind):
        raise _error(f"step {step} of kind {kind}", "a callback or a kernel")
    if max(texts) >= len(strings):
        raise _error(f"step {step} with a name at {max(texts)}", f"within the {len(strings)} bytes of names")
    if first + n_outputs + n_inputs > len(tensors):
        raise _error(f"step {step}: {n_outputs + n_inputs} tensors at {first}", f"up to {len(tensors)}")
    found = tensors[first : first + n_outputs + n_inputs]
    present = sum(t is not None for t in found)
    if (present != len(plan.steps[step].args)) if kind == CustomKind.CALLBACK else bool(found):
        raise _error(f"step {step} with {present} tensors", "as many as it has operands")
    try:
        name, attributes, origin = (strings[at : strings.index(b"\0", at)].decode() for at in texts)
        values = json.loads(attributes)
    except (ValueError, RecursionError) as error:
        raise _error(f"a text of step {step}: {error}", "UTF-8, and JSON") from error
    outputs = tuple(t for t in found[:n_outputs] if t is not None)
    return CustomStep(step, CustomKind(kind), name, values, origin, outputs, tuple(found[n_outputs:]))


def _check_reach(step: CustomStep, plan: Plan, known: Sequence[int]) -> None:
    """No view leaves its operand where the dims have these values."""

    def at(number: int) -> int:
        return number if number >= 0 else known[-1 - number]

    views = [t for t in (*step.outputs, *step.inputs) if t is not None]
    for view, arg in zip(views, plan.steps[step.step].args):
        dims, strides = [at(n) for n in view.shape], [at(n) for n in view.strides]
        size = (1 + sum((d - 1) * s for d, s in zip(dims, strides, strict=True))) * BY_CODE[view.code].size
        if min((*dims, *strides), default=0) < 0 or (0 not in dims and size > at(arg.size)):
            raise _error(f"step {step.step}: a view of dims {dims} and strides {strides}", f"within {at(arg.size)} bytes")


def _error(got: str, expected: str) -> EngineFileError:
    return EngineFileError(
        "the custom layers of the engine are malformed",
        where="custom section",
        got=got,
        expected=expected,
        hint="build the engine again",
    )
