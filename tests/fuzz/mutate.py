"""Mutations of bytes, texts, protobuf messages and engine files; each is decided by a random generator."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto

from strop.engine.checksum import hash64
from strop.engine.format import EngineFile, SectionKind

INTEGERS = (0, 1, -1, 2, 3, 7, 255, 1 << 15, (1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "../../etc/passwd", "/etc/passwd", "x" * 5000, "\0", "a\nb", "%s", "é", "ai.onnx.ml", "com.microsoft", "Loop", "If", "Scan", "NOTSET", "linear")
_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64, FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64,
}  # fmt: skip


def mutated_bytes(data: bytes, rng: Random) -> bytes:
    """Flipped, cut, copied, inserted or overwritten bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del out[at : at + rng.choice((1, 4, 16, 1 << 20))]
        elif kind == 3:
            start = rng.randrange(len(out) + 1)
            out[at:at] = out[start : start + rng.choice((1, 8, 64, 512))]
        elif kind == 4:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 9)))
        else:
            out[at : at + 8] = struct.pack("<q", rng.choice(INTEGERS))
    return bytes(out)


def spliced(a: bytes, b: bytes, rng: Random) -> bytes:
    """The head of one file and the tail of another."""
    return a[: rng.randrange(len(a) + 1)] + b[rng.randrange(len(b) + 1) :]


# ---- protobuf


def mutated_model(data: bytes, rng: Random) -> bytes:
    """A serialized ModelProto in which one to three fields are other than they were."""
    model = ModelProto()
    model.ParseFromString(data)
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            kind = rng.randrange(12)
            change = (_recursion, _rewired, _external)[kind] if kind < 3 else _field
            change(model, rng)
    except DecodeError:  # too deeply nested to be copied
        pass
    return model.SerializeToString()


def mutated_message(message: Message, rng: Random) -> bytes:
    """Any message, serialized, with one to three fields other than they were."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _field(message, rng)
    return message.SerializeToString()


def _messages(message: Message, found: list[Message]) -> list[Message]:
    if len(found) < 2000:
        found.append(message)
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                for inner in value if isinstance(value, Sequence) or hasattr(value, "add") else (value,):
                    _messages(inner, found)
    return found


def _field(model: Message, rng: Random) -> None:
    message = rng.choice(_messages(model, []))
    fields = [f for f in message.DESCRIPTOR.fields if f.type != FieldDescriptor.TYPE_MESSAGE]
    present = [f for f, _ in message.ListFields()]
    if not fields and not present:
        return
    field = rng.choice(present if present and rng.random() < 0.8 else fields or present)
    value = getattr(message, field.name)
    if hasattr(value, "extend"):
        _repeated(value, field, rng, model)
    elif field.type == FieldDescriptor.TYPE_MESSAGE or rng.random() < 0.15:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(field, value, rng, model))


def _repeated(value: Any, field: Any, rng: Random, model: Message) -> None:
    kind = rng.randrange(5)
    at = rng.randrange(len(value)) if len(value) else 0
    if kind == 0 and len(value):
        del value[at]
    elif kind == 1 and len(value):
        value.extend([value[at]] * rng.choice((1, 1, 40)))
    elif kind == 2 and len(value) > 1:
        items = list(value)
        rng.shuffle(items)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            items = [type(i).FromString(i.SerializeToString()) for i in items]
        del value[:]
        value.extend(items)
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        if len(value) and kind == 3:
            value[at] = _scalar(field, value[at], rng, model)
        else:
            value.append(_scalar(field, None, rng, model))
    else:
        value.add()


def _scalar(field: Any, value: Any, rng: Random, model: Message) -> Any:
    if field.cpp_type in _LIMITS:
        number = rng.choice((*INTEGERS, *range(-2, 24))) if value is None or rng.random() < 0.7 else value + rng.choice((-1, 1, 2))
        bits = _LIMITS[field.cpp_type]
        if "UINT" in field.type_name if hasattr(field, "type_name") else field.cpp_type in (3, 4):
            return number % (1 << bits)
        return (number + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return not value
    if field.type == FieldDescriptor.TYPE_BYTES:
        return mutated_bytes(value or b"", rng)
    return rng.choice((*TEXTS, *_names(model)))


def _names(model: Message) -> list[str]:
    if not isinstance(model, ModelProto):
        return [v for m in _messages(model, []) for f, v in m.ListFields() if isinstance(v, str)][:400]
    found = [n for node in model.graph.node for n in (*node.input, *node.output, node.op_type)]
    return (found + [i.name for i in model.graph.initializer])[:200]


def _recursion(model: ModelProto, rng: Random) -> None:
    """A graph inside itself, a function that calls itself, or an attribute nested deeply."""
    kind = rng.randrange(3)
    if not model.graph.node:
        return
    node = model.graph.node[rng.randrange(len(model.graph.node))]
    if kind == 0:
        whole = type(model.graph).FromString(model.graph.SerializeToString())
        body = node.attribute.add(name=rng.choice(("body", "then_branch", "else_branch")), type=5)
        body.g.CopyFrom(whole)
        node.op_type = rng.choice(("Loop", "If", "Scan"))
    elif kind == 1:
        function = model.functions.add(name="self", domain="here")
        function.input.extend(node.input)
        function.output.extend(node.output)
        inner = function.node.add(op_type="self", domain="here")
        inner.input.extend(node.input)
        inner.output.extend(node.output)
        function.opset_import.add(domain="here", version=1)
        model.opset_import.add(domain="here", version=1)
        node.op_type, node.domain = "self", "here"
    else:
        attribute = node.attribute.add(name="then_branch", type=5)
        for _ in range(rng.choice((3, 30, 90))):
            inner = attribute.g.node.add(op_type="If", input=["c"], output=["y"])
            attribute = inner.attribute.add(name="then_branch", type=5)
        node.op_type = "If"


def _rewired(model: ModelProto, rng: Random) -> None:
    """An operand or result has another name: cycles, missing and doubled values."""
    names = _names(model)
    if not model.graph.node or not names:
        return
    node = model.graph.node[rng.randrange(len(model.graph.node))]
    side = node.input if rng.random() < 0.6 else node.output
    if len(side):
        side[rng.randrange(len(side))] = rng.choice((*names, "nowhere", ""))


def _external(model: ModelProto, rng: Random) -> None:
    """A weight lies in another file."""
    tensors = list(model.graph.initializer)
    if not tensors:
        return
    tensor = rng.choice(tensors)
    tensor.data_location = 1
    tensor.ClearField("raw_data")
    for key, value in (
        ("location", rng.choice(("../../etc/passwd", "/etc/passwd", "/dev/zero", "weights.bin", ".", "", "a\0b", "x" * 9000))),
        ("offset", str(rng.choice(INTEGERS))),
        ("length", str(rng.choice(INTEGERS))),
    ):
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=value)


# ---- engines

_HEAD, _ROW = 64, 96


def mutated_engine(data: bytes, rng: Random) -> bytes:
    """An engine file in which the plan, manifest, graph, weights or section table is other than it was, under right checksums; code is kept."""
    file = EngineFile(data)
    out = bytearray(data)
    chosen = rng.choice(("plan", "plan", "plan", "manifest", "graph", "table", "head", "raw"))
    if chosen == "raw":
        return mutated_bytes(data, rng)
    if chosen == "table":
        at = _HEAD + _ROW * rng.randrange(len(file.sections)) + rng.choice((0, 4, 8, 16, 24, 32, 33, 40, 95))
        out[at : at + 8] = struct.pack("<Q", rng.choice((*range(8), *INTEGERS)) % (1 << 64))
    elif chosen == "head":
        at = rng.choice((0, 8, 12, 16, 32, 40))
        out[at : at + 4] = struct.pack("<I", rng.choice((*range(8), *INTEGERS)) % (1 << 32))
    else:
        kind = {"plan": SectionKind.PLAN, "manifest": SectionKind.MANIFEST, "graph": SectionKind.GRAPH}[chosen]
        index, entry = next((i, e) for i, e in enumerate(file.sections) if e.kind == kind)
        before = data[entry.offset : entry.offset + entry.size]
        if chosen == "plan":
            after = _plan(before, rng)
        elif chosen == "manifest":
            after = mutated_json(before, rng)
        else:
            after = mutated_text(before.decode(), rng).encode("utf-8", "surrogatepass")
        after = after[: entry.padded_size]
        out[entry.offset : entry.offset + entry.padded_size] = after + bytes(entry.padded_size - len(after))
        row = _HEAD + _ROW * index
        struct.pack_into("<Q", out, row + 16, len(after))
        struct.pack_into("<Q", out, row + 24, hash64(np.frombuffer(out, np.uint8)[entry.offset : entry.offset + entry.padded_size]))
    head = file.sections[0].offset
    struct.pack_into("<Q", out, 24, 0)
    struct.pack_into("<Q", out, 24, hash64(bytes(out[:head])))
    return bytes(out)


def _plan(before: bytes, rng: Random) -> bytes:
    """Words of 4 or 8 bytes with other numbers; or bytes gone or added."""
    out = bytearray(before)
    if rng.random() < 0.1:
        return mutated_bytes(before, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.5:
            at = rng.randrange(len(out) // 8) * 8
            (old,) = struct.unpack_from("<q", out, at)
            new = rng.choice((*INTEGERS, *range(-9, 9), old + 1, old - 1, old * 2, old + 64, -old))
            out[at : at + 8] = struct.pack("<Q", new % (1 << 64))
        else:
            at = rng.randrange(len(out) // 4) * 4
            (old,) = struct.unpack_from("<I", out, at)
            new = rng.choice((*INTEGERS, *range(9), old + 1, old - 1, old * 2))
            out[at : at + 4] = struct.pack("<I", new % (1 << 32))
    return bytes(out)


def mutated_json(before: bytes, rng: Random) -> bytes:
    """JSON in which a member is gone or of another kind; or no JSON any more."""
    if rng.random() < 0.3:
        return mutated_bytes(before, rng)
    if rng.random() < 0.05:
        return b"[" * 3000 + b"]" * 3000
    whole = json.loads(before)
    places: list[tuple[Any, Any]] = []
    stack = [whole]
    while stack:
        item = stack.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        places += [(item, k) for k in keys]
        stack += [item[k] for k in keys]
    for _ in range(rng.choice((1, 2, 3))):
        item, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(item, dict):
            item.pop(key, None)
        else:
            try:
                item[key] = rng.choice((None, True, -1, 1 << 70, 1.5, float("nan"), "", "x", [], {}, [[]], {"a": 1}))
            except IndexError:
                continue
    return json.dumps(whole).encode()


def mutated_text(before: str, rng: Random) -> str:
    """Lines gone, doubled or swapped, words and numbers exchanged, characters changed."""
    lines = before.split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        kind = rng.randrange(7)
        if kind == 0:
            del lines[at]
            lines = lines or [""]
        elif kind == 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 2:
            lines[at] = _token(lines[at], rng, before)
        elif kind == 3:
            lines[at] = _token(_token(lines[at], rng, before), rng, before)
        elif kind == 4 and lines[at]:
            place = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + rng.choice('()[]{}=,:%#"@\\ \0é9-.e') + lines[at][place + rng.randrange(2) :]
        elif kind == 5:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
        else:
            lines[at] = lines[at].replace("[", "[" * rng.choice((2, 50, 2000)), 1)
    return "\n".join(lines)


def _token(line: str, rng: Random, whole: str) -> str:
    """A word of the line is a number or a word from elsewhere."""
    import re

    words = list(re.finditer(r"[A-Za-z_0-9.]+|-?\d+", line))
    if not words:
        return line
    word = rng.choice(words)
    others = re.findall(r"[A-Za-z_0-9.]+", whole)
    new = str(rng.choice(INTEGERS)) if rng.random() < 0.5 else rng.choice(others) if others else ""
    return line[: word.start()] + new + line[word.end() :]
