"""The parts of an engine that a GPU and the processor beside it share: which steps run together on the GPU, and what crosses.

The processor walks the engine; a part is one call out of it. Its section is JSON, checked against the plan. Processes without a compiler
import this file: numpy and the standard library are all it needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from strop.engine.format import in_range
from strop.engine.plan import Arg, Plan, Space
from strop.errors import EngineFileError

#: Names of the sections that hold the processor's side, an engine file of its own, and the parts.
ENGINE, PARTS = "engine", "parts"
#: Under this name the processor's side calls parts.
CALL = "strop::gpu_part"


@dataclass(frozen=True)
class Part:
    """Consecutive steps that the GPU does in one go.

    Attributes:
        first: number of the first step.
        end: number behind the last step.
        brought: places in the GPU's arena or outputs that are copied there first, in the order of the call's operands.
        fetched: likewise places that are copied to the processor's memory behind it, in the order of the call's results.
    """

    first: int
    end: int
    brought: tuple[Arg, ...]
    fetched: tuple[Arg, ...]


@dataclass(frozen=True)
class Shared:
    """How the two machines share an engine.

    Attributes:
        parts: in the order of the steps.
        inputs: numbers of the inputs that the processor reads.
        outputs: numbers of the outputs that are the processor's to give.
    """

    parts: tuple[Part, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def encode_parts(shared: Shared) -> bytes:
    """The bytes of the section."""
    return json.dumps(asdict(shared), separators=(",", ":")).encode()


def decode_parts(data: bytes, plan: Plan) -> Shared:
    """The inverse of encode_parts.

    Args:
        data: of the section.
        plan: of the same file, of which the parts are steps.

    Raises:
        EngineFileError: malformed, or a number leaves its range.
    """
    try:
        found = json.loads(data)
        parts = tuple(_part(row, plan) for row in found["parts"])
        for part, after in pairwise(parts):
            in_range(after.first, part.end, len(plan.steps))
        inputs = tuple(in_range(n, 0, len(plan.inputs) - 1) for n in found["inputs"])
        outputs = tuple(in_range(n, 0, len(plan.outputs) - 1) for n in found["outputs"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineFileError(
            "the parts that run on the GPU are malformed", where="host section", got=error, hint="build the engine again"
        ) from error
    return Shared(parts, inputs, outputs)


def _part(row: Any, plan: Plan) -> Part:
    first = in_range(row["first"], 0, len(plan.steps) - 1)
    end = in_range(row["end"], first + 1, len(plan.steps))
    return Part(first, end, _places(row["brought"], plan), _places(row["fetched"], plan))


def _places(rows: Sequence[Any], plan: Plan) -> tuple[Arg, ...]:
    found = []
    for row in rows:
        space = Space(row["space"])
        if space not in (Space.ARENA, Space.OUTPUT):
            raise ValueError(f"a place in {space.name.lower()}")
        index = in_range(row["index"], 0, 0 if space == Space.ARENA else len(plan.outputs) - 1)
        room = plan.arena_bytes if space == Space.ARENA else plan.outputs[index].n_bytes
        offset = in_range(row["offset"], 0, room)
        found.append(Arg(space, offset, in_range(row["size"], 0, room - offset), index))
    return tuple(found)
