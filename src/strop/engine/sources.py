"""The model's own nodes, as they were before anything was optimized: what a build records of them, and how it is read back.

A record is ``[name, op type, result, flops, bytes of results, operands]``: ``result`` is the text of its first result's type and
``operands`` a list of ``[producer, bytes]``, the number of the record that makes the operand, or -1 for an input of the network
and -2 for a constant. A node that is computed while the model is read leaves only its name and op type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strop.engine.engine import Engine
from strop.errors import EngineFileError
from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.text import show_type
from strop.lower.pipeline import typical_flops

#: Producers that are no nodes.
INPUT, CONSTANT = -1, -2


@dataclass(frozen=True)
class Source:
    """A node of the model.

    Attributes:
        name: as steps name it.
        op: its type in the model's own words.
        result: dtype and shape of its first result; empty when it is computed while the model is read.
        flops: operations by themselves; a multiply-add counts 2.
        written: bytes of its results.
        operands: (record number of the producer, ``INPUT`` or ``CONSTANT``; bytes) of each.
    """

    name: str
    op: str
    result: str = ""
    flops: int = 0
    written: int = 0
    operands: tuple[tuple[int, int], ...] = ()


def sources_of(graph: Graph) -> list[Any]:
    """Records of the nodes that an imported graph was read from, in their order; those of a graph that no frontend read are its own
    nodes. Sizes that are free count at their optimum."""
    ops = dict(graph.origins)
    owner: dict[int, str] = {}
    for node in graph.nodes:
        known = next((s for s in node.source if s in ops), node.source[0] if node.source else node.name)
        owner[id(node)] = known
        ops.setdefault(known, node.op.label)
    index = {name: k for k, name in enumerate(ops)}
    parts: dict[str, list[Node]] = {name: [] for name in ops}
    for node in graph.nodes:
        parts[owner[id(node)]].append(node)
    return [_record(name, op, parts[name], owner, index) for name, op in ops.items()]


def _record(name: str, op: str, nodes: list[Node], owner: dict[int, str], index: dict[str, int]) -> list[Any]:
    if not nodes:
        return [name, op, "", 0, 0, []]
    inside = set(map(id, nodes))
    operands: dict[str, list[int]] = {}
    for value in (v for node in nodes for v in node.operands):
        if value.producer is not None and id(value.producer) in inside:
            continue
        place = INPUT if value.const is None else CONSTANT
        if value.producer is not None:
            place = index[owner[id(value.producer)]]
        operands[value.name] = [place, _bytes(value)]
    left = [v for node in nodes for v in node.outputs if not v.uses or any(id(user) not in inside for user, _ in v.uses)]
    results = left or nodes[-1].outputs
    flops = sum(map(typical_flops, nodes))
    return [name, op, show_type(results[0].type), flops, sum(map(_bytes, results)), list(operands.values())]


def _bytes(value: Value) -> int:
    known = {s.name: s.opt for s in sh.symbols(value.shape)}
    return int(value.type.at(known).nbytes)


def read_sources(engine: Engine) -> tuple[Source, ...]:
    """The records of an engine; those of an engine without any are the names that its steps have.

    Raises:
        EngineFileError: they are not what they should be.
    """
    records = engine.manifest.get("sources")
    if records is None:
        steps = engine.manifest.get("steps")
        named = [r.get("source") for r in steps if isinstance(r, dict)] if isinstance(steps, list) else []
        names = dict.fromkeys(str(n) for names in named if isinstance(names, list) for n in names)
        return tuple(Source(name, "") for name in names)
    if not isinstance(records, list):
        raise _bad(engine, records)
    found = tuple(_source(engine, record, len(records)) for record in records)
    if len({s.name for s in found}) != len(found):
        raise _bad(engine, "two sources of one name")
    return found


def _source(engine: Engine, record: Any, count: int) -> Source:
    kinds = (str, str, str, int, int, list)
    if not isinstance(record, list) or len(record) != 6 or not all(isinstance(v, k) for v, k in zip(record, kinds)):
        raise _bad(engine, record)
    name, op, result, flops, written, operands = record
    if not all(isinstance(o, list) and len(o) == 2 and all(type(n) is int for n in o) and CONSTANT <= o[0] < count for o in operands):
        raise _bad(engine, record)
    return Source(name, op, result, max(0, flops), max(0, written), tuple((p, max(0, b)) for p, b in operands))


def _bad(engine: Engine, got: object) -> EngineFileError:
    return EngineFileError(
        "the manifest of the engine is malformed", where=str(engine.path), got=f"sources: {got!r:.80}",
        expected="records of the model's nodes", hint="build the engine again",
    )  # fmt: skip
