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

from strop.engine.format import CUSTOM_ABI
from strop.engine.plan import MAX_RANK

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
