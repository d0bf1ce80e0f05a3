"""A TFLite file that is being written, as records that know each other: tensors, operators, subgraphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from strop.frontend.tflite.grid import Grid
from strop.ir.dtype import DType
from strop.ir.op import Array


@dataclass(eq=False)
class OutTensor:
    """A tensor.

    Attributes:
        name: as in the file.
        dtype: of its elements.
        shape: some size where ``free`` has an axis.
        free: axes whose size only a run knows.
        data: of a constant.
        grid: how its integers stand for real numbers, if they do.
        value: the graph's value that it is, for its range; empty for what was made on the way.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    free: tuple[int, ...] = ()
    data: Array | None = None
    grid: Grid | None = None
    value: str = ""


@dataclass(eq=False)
class OutOperator:
    """An operator.

    Attributes:
        code: its name in ``BuiltinOperator``.
        inputs: operands; None for one left out.
        outputs: results.
        options: name of its options' table, empty where it has none.
        fields: options by their names in the schema; a subgraph stands for its number.
        layer: names of the model's nodes, for messages.
    """

    code: str
    inputs: list[OutTensor | None]
    outputs: list[OutTensor]
    options: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    layer: str = ""

    @property
    def operands(self) -> list[OutTensor]:
        """The operands that are present."""
        return [t for t in self.inputs if t is not None]


@dataclass
class OutGraph:
    """A subgraph, and the names that its signature has.

    Attributes:
        name: of the graph.
        inputs, outputs: by the signature's names.
        operators: in order.
    """

    name: str
    inputs: dict[str, OutTensor]
    outputs: dict[str, OutTensor]
    operators: list[OutOperator] = field(default_factory=list)

    def tensors(self) -> list[OutTensor]:
        """Inputs, then what the operators read and make, then outputs; each once."""
        found = dict.fromkeys(self.inputs.values())
        for operator in self.operators:
            found.update(dict.fromkeys((*operator.operands, *operator.outputs)))
        found.update(dict.fromkeys(self.outputs.values()))
        return list(found)

    def graphs(self) -> list[OutGraph]:
        """This one, then those that its operators refer to, and theirs."""
        inner = [value for operator in self.operators for value in operator.fields.values() if isinstance(value, OutGraph)]
        return [self, *(found for graph in inner for found in graph.graphs())]

    @property
    def constant_bytes(self) -> int:
        """Bytes of the constants, those of equal ones once."""
        return sum(map(len, {t.data.tobytes() for graph in self.graphs() for t in graph.tensors() if t.data is not None}))

    def makers(self) -> Mapping[OutTensor, OutOperator]:
        """The operator of every computed tensor."""
        return {tensor: operator for operator in self.operators for tensor in operator.outputs}

    def readers(self) -> Mapping[OutTensor, list[OutOperator]]:
        """The operators that read a tensor."""
        found: dict[OutTensor, list[OutOperator]] = {}
        for operator in self.operators:
            for tensor in dict.fromkeys(operator.operands):
                found.setdefault(tensor, []).append(operator)
        return found
