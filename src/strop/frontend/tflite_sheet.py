"""What an engine keeps of the TFLite file that it was built from: tensors with their numbers, names and grids, operators, signatures.

The engine carries it as the attachment ``tflite``, and the first values of its variables as ``tflite.state``. A sheet is a text of lines of
words, so that programs in any language read it: names are percent-encoded, an empty one is ``%``. Imports nothing of the frontend, so
that engines are loaded without the packages that read models.

    tflite 1 SUBGRAPHS SUBGRAPH KEY
    tensor NUMBER TYPE PLACE NAME RANK size.. signature.. AXIS COUNT scale.. zero..
    input NUMBER..
    output NUMBER..
    op CODE INPUTS number.. OUTPUTS number..
    signature KEY SUBGRAPH INPUTS (NAME NUMBER).. OUTPUTS (NAME NUMBER)..
    variable INPUT OUTPUT BYTES
    end

``PLACE`` is ``-``, ``in:NAME`` or ``out:NAME`` with the name of the engine's input or output that holds the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from strop.errors import EngineFileError

SHEET, STATE = "tflite", "tflite.state"
VERSION = 1
#: Most words of a sheet that is read.
MAX_WORDS = 1 << 24


@dataclass(frozen=True)
class SheetTensor:
    """A tensor of the subgraph.

    Attributes:
        name, type: as the file has them; the type by its name in the schema.
        shape: at the sizes of inputs that are in force, where they are known.
        signature: the same with -1 for what the file leaves open.
        scales, zeros, axis: the grid of quantized numbers; empty where there is none.
        place: ``in:NAME`` or ``out:NAME`` of the engine, or "".
        sparsity: of a sparse constant, as the interpreter's details give it; not part of the text.
        const: a constant's elements as stored; not part of the text.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    scales: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    axis: int = 0
    place: str = ""
    sparsity: dict[str, Any] = field(default_factory=dict)
    const: Any = None


@dataclass(frozen=True)
class SheetOp:
    """An operator: its name in the schema, or a custom op's own, and the numbers of its tensors; -1 for one left out."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class SheetSignature:
    """A named entry: the number of its subgraph, and the tensors of its arguments and results."""

    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class SheetVariable:
    """Names of the engine's input and output that carry a variable from run to run, and its bytes."""

    input: str
    output: str
    size: int


@dataclass(frozen=True)
class Sheet:
    """A subgraph of a file.

    Attributes:
        subgraphs: how many the file has.
        subgraph: the number of this one.
        key: of the signature that was read; "" for the main subgraph.
    """

    tensors: tuple[SheetTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[SheetOp, ...] = ()
    signatures: dict[str, SheetSignature] = field(default_factory=dict)
    variables: tuple[SheetVariable, ...] = ()
    subgraphs: int = 1
    subgraph: int = 0
    key: str = ""

    def text(self) -> str:
        """The sheet as an engine carries it."""
        lines: list[list[Any]] = [["tflite", VERSION, self.subgraphs, self.subgraph, _word(self.key)]]
        for number, t in enumerate(self.tensors):
            kind, _, holder = t.place.partition(":")
            place = f"{kind}:{_word(holder)}" if t.place else "-"
            grid = (t.axis, len(t.scales), *(repr(s) for s in t.scales), *t.zeros)
            lines.append(["tensor", number, t.type.replace(" ", "_"), place, _word(t.name), len(t.shape), *t.shape, *t.signature, *grid])
        lines += [["input", *self.inputs], ["output", *self.outputs]]
        for op in self.operators:
            lines.append(["op", _word(op.code), len(op.inputs), *op.inputs, len(op.outputs), *op.outputs])
        for key, s in self.signatures.items():
            sides = [[len(side), *(x for name, number in side.items() for x in (_word(name), number))] for side in (s.inputs, s.outputs)]
            lines.append(["signature", _word(key), s.subgraph, *sides[0], *sides[1]])
        lines += [["variable", _word(v.input), _word(v.output), v.size] for v in self.variables]
        return "".join(" ".join(map(str, line)) + "\n" for line in [*lines, ["end"]])


def _word(text: str) -> str:
    return quote(text, safe="/:;,.-_()[]{}=+*!?#$&@^|~") or "%"


def parse(text: str, where: str) -> Sheet:
    """The sheet of a text.

    Raises:
        EngineFileError: the text is not one.
    """
    try:
        return _parse([_Words(line.split()) for line in text.splitlines()])
    except (ValueError, IndexError, StopIteration) as error:
        raise EngineFileError("what the engine carries of a TFLite file cannot be read", where=where, got=f"{type(error).__name__}: {error}") from error


class _Words:
    """The words of a line, one after the other."""

    def __init__(self, words: Sequence[str]) -> None:
        if len(words) > MAX_WORDS:
            raise ValueError("too many words")
        self._left = iter(words)

    def text(self) -> str:
        return next(self._left)

    def name(self) -> str:
        word = next(self._left)
        return "" if word == "%" else unquote(word)

    def number(self) -> int:
        return int(next(self._left))

    def ints(self, count: int | None = None) -> tuple[int, ...]:
        return tuple(map(int, self._left if count is None else self._some(count)))

    def floats(self, count: int) -> tuple[float, ...]:
        return tuple(map(float, self._some(count)))

    def _some(self, count: int) -> Iterator[str]:
        if not 0 <= count <= MAX_WORDS:
            raise ValueError(f"a count of {count}")
        return iter([next(self._left) for _ in range(count)])

    def names(self) -> dict[str, int]:
        return {self.name(): self.number() for _ in range(self.number())}


def _parse(lines: Sequence[_Words]) -> Sheet:
    head = lines[0]
    if (head.text(), head.number()) != ("tflite", VERSION):
        raise ValueError("another version")
    subgraphs, subgraph, key = head.number(), head.number(), head.name()
    tensors: list[SheetTensor] = []
    ends: dict[str, tuple[int, ...]] = {}
    operators, variables, signatures = [], [], {}
    for words in lines[1:]:
        kind = words.text()
        if kind == "tensor":
            if words.number() != len(tensors):
                raise ValueError("tensors are out of order")
            tensors.append(_tensor(words))
        elif kind in ("input", "output"):
            ends[kind] = words.ints()
        elif kind == "op":
            operators.append(SheetOp(words.name(), words.ints(words.number()), words.ints(words.number())))
        elif kind == "signature":
            name = words.name()
            signatures[name] = SheetSignature(words.number(), words.names(), words.names())
        elif kind == "variable":
            variables.append(SheetVariable(words.name(), words.name(), words.number()))
        elif kind == "end":
            numbers = [*ends["input"], *ends["output"], *(n for op in operators for n in (*op.inputs, *op.outputs) if n >= 0)]
            if any(not 0 <= n < len(tensors) for n in numbers) or any(v.size < 0 for v in variables):
                raise ValueError("no such tensor")
            return Sheet(tuple(tensors), ends["input"], ends["output"], tuple(operators), signatures, tuple(variables), subgraphs, subgraph, key)
        else:
            raise ValueError(f"a line that begins with {kind}")
    raise ValueError("the end is missing")


def _tensor(words: _Words) -> SheetTensor:
    type, place, name, rank = words.text(), words.text(), words.name(), words.number()
    shape, signature, axis, count = words.ints(rank), words.ints(rank), words.number(), words.number()
    scales, zeros = words.floats(count), words.ints(count)
    kind, _, holder = place.partition(":")
    return SheetTensor(name, type, shape, signature, scales, zeros, axis, "" if place == "-" else f"{kind}:{'' if holder == '%' else unquote(holder)}")
