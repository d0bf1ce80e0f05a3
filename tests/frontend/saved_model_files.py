"""SavedModels, graphs and bundles put together by hand, for tests that break them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from strop.frontend.saved_model import messages
from strop.frontend.saved_model.checksum import masked

FLOAT, INT, STRING, BOOL = 1, 3, 7, 10


def message(name: str) -> Any:
    """An empty message."""
    return messages.parse(name, b"", "")


def node(graph: Any, name: str, op: str, *inputs: str, **attributes: Any) -> Any:
    """Adds a node; attributes are fields of an Attr by name, as ``dtype=("type", 1)``."""
    made = graph.add(name=name, op=op, input=inputs)
    for key, (field, value) in attributes.items():
        entry = made.attr.add(key=key)
        if field == "shape":
            for size in value:
                entry.value.shape.dim.add(size=size)
            entry.value.shape.SetInParent()
        elif field == "tensor":
            entry.value.tensor.CopyFrom(value)
        elif field == "func":
            entry.value.func.name = value
        elif field == "list":
            entry.value.list.i.extend(value)
            entry.value.list.SetInParent()
        else:
            setattr(entry.value, field, value)
    return made


def tensor(array: Any) -> Any:
    """A TensorProto of f32, i32 or strings."""
    found = message("Tensor")
    array = np.asarray(array)
    kind = {"f": FLOAT, "i": INT, "S": STRING, "b": BOOL}[array.dtype.kind]
    found.dtype = kind
    for size in array.shape:
        found.tensor_shape.dim.add(size=size)
    if kind == STRING:
        found.string_val.extend(array.reshape(-1).tolist())
    else:
        found.tensor_content = array.astype({FLOAT: np.float32, INT: np.int32, BOOL: np.bool_}[kind]).tobytes()
    return found


def varint(value: int) -> bytes:
    """A number of 7 bits a byte."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A block of a table with one restart; keys share what they can."""
    out, before = b"", b""
    for key, value in entries:
        shared = next((k for k, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def table(entries: Sequence[tuple[bytes, bytes]], packed: Callable[[bytes], bytes] | None = None) -> bytes:
    """A table of one block; ``packed`` compresses it, as Snappy would."""
    out = b""
    handles = []
    for content in (block(entries), None):
        body = content if content is not None else block([(b"\xff", handles[0])])
        kind = b"\0"
        if packed is not None and content is not None:
            body, kind = packed(body), b"\1"
        handles.append(varint(len(out)) + varint(len(body)))
        out += body + kind + masked(body + kind).to_bytes(4, "little")
    footer = (varint(0) + varint(0) + handles[1]).ljust(40, b"\0")
    return out + footer + (0xDB4775248B80FB57).to_bytes(8, "little")


def literal(data: bytes) -> bytes:
    """Snappy that packs nothing."""
    out = varint(len(data))
    for at in range(0, len(data), 60):
        part = data[at : at + 60]
        out += bytes([(len(part) - 1) << 2]) + part
    return out


class Saved:
    """y = x + v in a function that a signature calls; v is restored from a bundle. Tests change parts before ``write``."""

    def __init__(self) -> None:
        self.model = message("SavedModel")
        self.meta = self.model.meta_graphs.add()
        self.meta.info.tags.append("serve")
        self.graph = self.meta.graph_def
        nodes = self.graph.node
        node(nodes, "x", "Placeholder", dtype=("type", FLOAT), shape=("shape", [-1, 2]))
        node(nodes, "v", "VarHandleOp", dtype=("type", FLOAT), shape=("shape", [2]))
        node(nodes, "call", "StatefulPartitionedCall", "x", "v", f=("func", "add"))
        node(nodes, "names", "Const", value=("tensor", tensor([b"v"])))
        node(nodes, "slices", "Const", value=("tensor", tensor([b""])))
        node(nodes, "restore", "RestoreV2", "prefix", "names", "slices")
        node(nodes, "assign", "AssignVariableOp", "v", "restore")
        node(nodes, "all", "NoOp", "^assign")
        self.meta.saver_def.restore_op_name = "all"
        function = self.graph.library.function.add()
        function.signature.name = "add"
        function.signature.input_arg.add(name="a", type=FLOAT)
        function.signature.input_arg.add(name="r", type=20)
        function.signature.output_arg.add(name="y", type=FLOAT)
        node(function.node_def, "read", "ReadVariableOp", "r")
        node(function.node_def, "sum", "AddV2", "a", "read:value:0")
        function.ret.add(key="y", value="sum:z:0")
        self.function = function
        entry = self.meta.signature_def.add(key="serving_default")
        self.signature = entry.value
        for group, key, name in ((self.signature.inputs, "x", "x:0"), (self.signature.outputs, "y", "call:0")):
            info = group.add(key=key).value
            info.name, info.dtype = name, FLOAT
            info.tensor_shape.dim.add(size=-1)
            info.tensor_shape.dim.add(size=2)
        self.header = message("BundleHeader")
        self.header.num_shards = 1
        self.data = np.array([1.5, -2.0], np.float32).tobytes()
        self.entry = message("BundleEntry")
        self.entry.dtype, self.entry.size, self.entry.crc32c = FLOAT, len(self.data), masked(self.data)
        self.entry.shape.dim.add(size=2)
        self.packed: Callable[[bytes], bytes] | None = None

    def index(self) -> bytes:
        """``variables.index``."""
        return table([(b"", self.header.SerializeToString()), (b"v", self.entry.SerializeToString())], self.packed)

    def write(self, folder: Path) -> Path:
        """Writes the SavedModel; its folder."""
        (folder / "variables").mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_bytes(self.model.SerializeToString())
        (folder / "variables" / "variables.index").write_bytes(self.index())
        (folder / "variables" / "variables.data-00000-of-00001").write_bytes(self.data)
        return folder
