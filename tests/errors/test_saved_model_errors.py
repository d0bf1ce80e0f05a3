"""SavedModels and frozen graphs that are damaged, inconsistent, hostile or not supported are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.errors import ModelError, OptionError, StropError, UnsupportedError
from strop.frontend.saved_model import checksum, importer, messages, sorted_table, tensors
from strop.frontend.table import judge, read
from strop.ir.interp import run
from tests.errors.command import run as command
from tests.frontend.saved_model_files import (
    FLOAT,
    INT,
    Saved,
    literal,
    message,
    node,
    table,
    tensor,
    varint,
)


def test_the_model_that_is_broken_below_is_whole(tmp_path: Path) -> None:
    """Plain and with a compressed index."""
    for packed in (None, literal):
        saved = Saved()
        saved.packed = packed
        graph = read(saved.write(tmp_path / str(packed is None)))
        assert [v.name for v in graph.inputs] == ["x"]
        np.testing.assert_array_equal(run(graph, {"x": np.zeros((3, 2), np.float32)})["y"], [[1.5, -2.0]] * 3)
        assert read(tmp_path / str(packed is None) / "saved_model.pb").inputs[0].name == "x"


def _set(path: str, value: Any) -> Callable[[Saved], None]:
    def change(saved: Saved) -> None:
        at: Any = saved
        *parts, last = path.split(".")
        for part in parts:
            at = at[int(part)] if part.isdigit() else getattr(at, part)
        setattr(at, last, value)

    return change


def _inputs(name: str, *inputs: str) -> Callable[[Saved], None]:
    def change(saved: Saved) -> None:
        for nodes in (saved.graph.node, saved.function.node_def):
            for found in nodes:
                if found.name == name:
                    del found.input[:]
                    found.input.extend(inputs)

    return change


def _op(name: str, op: str) -> Callable[[Saved], None]:
    def change(saved: Saved) -> None:
        for nodes in (saved.graph.node, saved.function.node_def):
            for found in nodes:
                if found.name == name:
                    found.op = op

    return change


def _drop(path: str) -> Callable[[Saved], None]:
    def change(saved: Saved) -> None:
        at: Any = saved
        for part in path.split("."):
            at = at[int(part)] if part.isdigit() else getattr(at, part)
        del at[:]

    return change


def _untagged(saved: Saved) -> None:
    del saved.meta.info.tags[:]
    saved.model.meta_graphs.add()


def _twice(saved: Saved) -> None:
    saved.graph.node.add(name="x", op="Const")


def _two_functions(saved: Saved) -> None:
    saved.graph.library.function.add().CopyFrom(saved.function)


def _recursion(saved: Saved) -> None:
    node(saved.function.node_def, "again", "StatefulPartitionedCall", "a", "r", f=("func", "add"))
    saved.function.ret[0].value = "again:output:0"


def _writes(saved: Saved) -> None:
    node(saved.function.node_def, "write", "ResourceScatterUpdate", "r", "a", "a")
    saved.function.control_ret.add(key="write", value="write")


def _retypes(saved: Saved) -> None:
    node(saved.function.node_def, "write", "AssignAddVariableOp", "r", "a")
    saved.function.control_ret.add(key="write", value="write")


def _writes_in_a_branch(saved: Saved) -> None:
    function = saved.graph.library.function.add()
    function.signature.name = "w"
    function.signature.input_arg.add(name="r", type=20)
    function.signature.output_arg.add(name="o", type=FLOAT)
    node(function.node_def, "o", "ReadVariableOp", "r")
    node(function.node_def, "write", "AssignAddVariableOp", "r", "o:value:0")
    function.ret.add(key="o", value="o:value:0")
    function.control_ret.add(key="write", value="write")
    nodes = saved.function.node_def
    node(nodes, "flag", "Const", value=("tensor", tensor(np.asarray(True))))
    node(nodes, "branch", "If", "flag:output:0", "r", then_branch=("func", "w"), else_branch=("func", "w"))
    saved.function.ret[0].value = "branch:output:0"


def _sliced(saved: Saved) -> None:
    saved.graph.node[4].attr[0].value.tensor.string_val[0] = b"4 0,2"


def _slices(saved: Saved) -> None:
    saved.entry.slices.add()


def _unsaved(saved: Saved) -> None:
    saved.meta.saver_def.restore_op_name = ""


def _unknown_key(saved: Saved) -> None:
    saved.graph.node[3].attr[0].value.tensor.string_val[0] = b"w"


def _free(saved: Saved) -> None:
    saved.signature.inputs[0].value.tensor_shape.unknown_rank = True


def _negative(saved: Saved) -> None:
    saved.entry.offset = -4


BROKEN: dict[str, tuple[Callable[[Saved], None], type[StropError], str]] = {
    "no graph to serve": (_untagged, UnsupportedError, "no graph for inference"),
    "no signatures": (_drop("meta.signature_def"), UnsupportedError, "the SavedModel has no signatures"),
    "no outputs": (_drop("signature.outputs"), ModelError, "the signature has no outputs"),
    "a sparse input": (_set("signature.inputs.0.value.name", ""), UnsupportedError, "sparse and composite tensors are not supported"),
    "a string input": (_set("signature.inputs.0.value.dtype", 7), UnsupportedError, "element type string is not supported"),
    "an input of unknown rank": (_free, OptionError, "the rank of an input is not known"),
    "an input that is not there": (_set("signature.inputs.0.value.name", "q:0"), ModelError, "a node is read that is not there"),
    "an output that is not there": (_set("signature.outputs.0.value.name", "call:3"), ModelError, "a node is read that has fewer results"),
    "a name with letters behind it": (_set("signature.outputs.0.value.name", "call:x"), ModelError, "a node's input is malformed"),
    "two nodes of one name": (_twice, ModelError, "two nodes have one name"),
    "two functions of one name": (_two_functions, ModelError, "two functions have one name"),
    "no such function": (_set("function.signature.name", "other"), ModelError, "a function is called that is not there"),
    "a call of other operands": (_inputs("call", "x"), ModelError, "a function is called with another number of operands"),
    "a function that says nothing": (_drop("function.ret"), ModelError, "a function does not say what it returns"),
    "a function that calls itself": (_recursion, ModelError, "functions call each other without end"),
    "a circle": (_inputs("sum", "sum:z:0", "a"), ModelError, "nodes read each other in a circle"),
    "a node that is not there": (_inputs("sum", "a", "q:z:0"), ModelError, "a node is read that is not there"),
    "an operand too few": (_inputs("sum", "a"), ModelError, "operand 1 is missing"),
    "an op that is not known": (_op("sum", "Frobnicate"), UnsupportedError, "op Frobnicate is not supported"),
    "a table of words": (_op("sum", "LookupTableFindV2"), UnsupportedError, "op LookupTableFindV2 is not supported"),
    "an attribute too few": (_op("sum", "Cast"), ModelError, "attribute DstT is missing"),
    "a variable as a tensor": (_inputs("sum", "a", "r"), UnsupportedError, "operand 1 is no tensor of numbers"),
    "a tensor as a variable": (_inputs("read", "a"), ModelError, "operand 0 is no variable"),
    "a part of a variable that changes": (_writes, UnsupportedError, "variables that are changed in this way are not supported"),
    "a variable that changes in a branch": (_writes_in_a_branch, UnsupportedError, "variables that are changed in this way are not supported"),
    "a variable that changes its type": (_retypes, UnsupportedError, "a variable that changes its type is not supported"),
    "a variable in slices of the graph": (_sliced, UnsupportedError, "variables that are stored in slices are not supported"),
    "a variable in slices": (_slices, UnsupportedError, "variables that are stored in slices are not supported"),
    "a variable that nothing saves": (_unsaved, UnsupportedError, "a variable is read that nothing is saved for"),
    "a key that is not there": (_unknown_key, ModelError, "there is no such variable"),
    "a variable of strings": (_set("entry.dtype", 7), UnsupportedError, "element type string is not supported"),
    "a variable of another size": (_set("entry.size", 12), ModelError, "a variable's bytes do not fit its shape"),
    "a variable behind the end": (_set("entry.offset", 4), ModelError, "a variable reaches past the end of its file"),
    "a variable before the start": (_negative, ModelError, "a variable reaches past the end of its file"),
    "a variable in no file": (_set("entry.shard_id", 1), ModelError, "a variable lies in a file that is not there"),
    "a variable in a file before the first": (_set("entry.shard_id", -1), ModelError, "a variable lies in a file that is not there"),
    "no files": (_set("header.num_shards", 0), ModelError, "the number of files with variables is wrong"),
    "files that are missing": (_set("header.num_shards", 2), ModelError, "the variables cannot be read"),
    "big-endian": (_set("header.endianness", 1), UnsupportedError, "variables of a big-endian machine are not supported"),
    "damaged elements": (_set("data", b"12345678"), ModelError, "a variable is damaged: its checksum differs"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str, tmp_path: Path) -> None:
    change, kind, text = BROKEN[name]
    saved = Saved()
    change(saved)
    with pytest.raises(kind, match=text):
        read(saved.write(tmp_path))


def test_signatures_are_named(tmp_path: Path) -> None:
    saved = Saved()
    with pytest.raises(OptionError, match="the model has no such signature") as error:
        read(saved.write(tmp_path), signature="train")
    assert error.value.expected == "serving_default"
    for key in ("a", "b"):
        saved.meta.signature_def.add(key=key).value.CopyFrom(saved.signature)
    saved.meta.signature_def[0].key = "c"
    with pytest.raises(OptionError, match="which of the model's signatures is meant") as error:
        read(saved.write(tmp_path))
    assert error.value.expected == "a, b, c"


def test_all_that_is_not_supported_is_named(tmp_path: Path) -> None:
    saved = Saved()
    node(saved.function.node_def, "one", "Swirl", "a")
    node(saved.function.node_def, "two", "Abs", "one:y:0")
    node(saved.function.node_def, "three", "Twirl", "two:y:0")
    saved.function.ret[0].value = "three:y:0"
    with pytest.raises(UnsupportedError, match="2 of 5 nodes are not supported") as error:
        read(saved.write(tmp_path))
    assert "Swirl" in str(error.value) and "Twirl" in str(error.value)
    verdicts, graph = judge(tmp_path)
    assert {(v.op_type, v.supported, v.checked) for v in verdicts} >= {("Swirl", False, True), ("Abs", True, False), ("Twirl", False, False)}
    assert not graph.nodes
    done = command("check", tmp_path)
    assert done.code == 1 and "Swirl" in done.out + done.err


def test_files_that_are_missing(tmp_path: Path) -> None:
    saved = Saved().write(tmp_path)
    (saved / "variables" / "variables.index").unlink()
    with pytest.raises(ModelError, match="the variables cannot be read"):
        read(saved)


def test_truncated_files(tmp_path: Path) -> None:
    saved = Saved()
    for part in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        path = saved.write(tmp_path) / part
        content = path.read_bytes()
        for size in range(0, len(content), max(len(content) // 40, 1)):
            path.write_bytes(content[:size])
            with pytest.raises(StropError):
                read(tmp_path)


# ---- frozen graphs


def graph_file(folder: Path, *nodes: tuple[Any, ...], **attributes: Any) -> Path:
    graph = message("Graph")
    for name, op, *inputs in nodes:
        node(graph.node, name, op, *inputs, **attributes.get(name, {}))
    path = folder / "frozen.pb"
    path.write_bytes(graph.SerializeToString())
    return path


X = {"dtype": ("type", FLOAT), "shape": ("shape", [2, 3])}


def test_frozen_graphs(tmp_path: Path) -> None:
    path = graph_file(tmp_path, ("x", "Placeholder"), ("y", "Abs", "x"), x=X)
    assert [v.name for v in read(path).inputs] == ["x"]
    with pytest.raises(OptionError, match="a frozen graph has no signatures"):
        read(path, signature="serving_default")
    with pytest.raises(ModelError, match="the graph has no outputs"):
        read(graph_file(tmp_path, ("x", "Placeholder"), x=X))
    path.write_bytes(b"\n\xff\xff\xff\xff")
    with pytest.raises(ModelError, match="this is no TensorFlow Graph"):
        read(path)


def test_a_placeholder_in_a_function(tmp_path: Path) -> None:
    saved = Saved()
    node(saved.function.node_def, "extra", "Placeholder", dtype=("type", FLOAT))
    saved.function.ret[0].value = "extra:output:0"
    with pytest.raises(UnsupportedError, match="a placeholder is read that the signature does not list"):
        read(saved.write(tmp_path))


def test_loops_that_are_none(tmp_path: Path) -> None:
    path = graph_file(tmp_path, ("x", "Placeholder"), ("y", "Exit", "x"), x=X)
    with pytest.raises(ModelError, match="an Exit leaves no loop"):
        read(path)


def test_a_loop_of_too_many_rounds(tmp_path: Path) -> None:
    saved = Saved()
    library = saved.graph.library.function
    for name, op, kind in (("cond", "Const", 10), ("body", "Identity", FLOAT)):
        function = library.add()
        function.signature.name = name
        function.signature.input_arg.add(name="a", type=FLOAT)
        function.signature.output_arg.add(name="o", type=kind)
        if op == "Const":
            node(function.node_def, "o", "Const", value=("tensor", tensor(np.asarray(True))))
        else:
            node(function.node_def, "o", "Identity", "a")
        function.ret.add(key="o", value="o:output:0")
    node(saved.function.node_def, "loop", "While", "a", cond=("func", "cond"), body=("func", "body"))
    saved.function.ret[0].value = "loop:output:0"
    with pytest.raises(UnsupportedError, match="the loop has too many rounds"):
        read(saved.write(tmp_path))


def test_reading_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "MAX_READ", 3)
    with pytest.raises(ModelError, match="there are too many nodes in all calls and rounds"):
        read(Saved().write(tmp_path))


# ---- constants


def _proto(**fields: Any) -> Any:
    found = message("Tensor")
    for size in fields.pop("shape", ()):
        found.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(found, name).extend(value)
        else:
            setattr(found, name, value)
    return found


CONSTANTS: dict[str, tuple[Any, type[StropError], str]] = {
    "too few bytes": (_proto(dtype=FLOAT, shape=[3], tensor_content=b"1234"), ModelError, "a constant's bytes do not fit its shape"),
    "too many values": (_proto(dtype=FLOAT, shape=[1], float_val=[1, 2]), ModelError, "a constant has more values than elements"),
    "a negative size": (_proto(dtype=FLOAT, shape=[-1], float_val=[1]), ModelError, "a shape is not known"),
    "too large": (_proto(dtype=FLOAT, shape=[1 << 20, 1 << 20], float_val=[1]), UnsupportedError, "a constant is too large"),
    "too large to repeat": (_proto(dtype=FLOAT, shape=[1 << 27], float_val=[1, 2]), UnsupportedError, "a constant is too large"),
    "complex numbers": (_proto(dtype=8, shape=[1]), UnsupportedError, "element type complex64 is not supported"),
    "no type": (_proto(dtype=0, shape=[1]), UnsupportedError, "element type type 0 is not supported"),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name: str) -> None:
    proto, kind, text = CONSTANTS[name]
    with pytest.raises(kind, match=text):
        tensors.array(proto, "here")


def test_constants_repeat_their_last_value() -> None:
    np.testing.assert_array_equal(tensors.array(_proto(dtype=FLOAT, shape=[2, 2], float_val=[1, 2]), ""), [[1, 2], [2, 2]])
    np.testing.assert_array_equal(tensors.array(_proto(dtype=19, shape=[2], half_val=[0x3C00]), ""), np.ones(2, np.float16))
    np.testing.assert_array_equal(tensors.array(_proto(dtype=INT, shape=[2]), ""), [0, 0])


# ---- tables


def test_checksums() -> None:
    """The test vector of RFC 3720, and lanes against byte by byte."""
    assert checksum.crc32c(b"123456789") == 0xE3069283
    data = np.random.default_rng(0).integers(0, 256, 70_001).astype(np.uint8)
    assert checksum.crc32c(data) == checksum._walk(0xFFFFFFFF, data.tobytes()) ^ 0xFFFFFFFF


ENTRIES = [(b"", b"header"), (b"abc", b"1"), (b"abd", b"22")]


def test_tables() -> None:
    packed = lambda data: varint(len(data)) + bytes([(3 - 1) << 2]) + data[:3] + literal(data[3:])[len(varint(len(data) - 3)) :]  # noqa: E731
    for made in (table(ENTRIES), table(ENTRIES, literal), table(ENTRIES, packed)):
        assert sorted_table.entries(made, "") == dict(ENTRIES)


def _changed(at: int, value: int) -> bytes:
    data = bytearray(table(ENTRIES))
    data[at] = value
    return bytes(data)


def test_damaged_tables() -> None:
    whole = table(ENTRIES)
    with pytest.raises(ModelError, match="this is no table of variables"):
        sorted_table.entries(whole[:-1], "")
    with pytest.raises(ModelError, match="a block is damaged: its checksum differs"):
        sorted_table.entries(_changed(4, 0x55), "")
    with pytest.raises(ModelError, match="a block reaches past the end"):
        sorted_table.entries(_changed(len(whole) - 48 + 2, 0x7F), "")


SNAPPY = {
    "too large": (varint(1 << 40), "a compressed block is too large"),
    "cut off": (varint(9) + b"\x08ab", "a compressed block does not fit its length"),
    "longer than it says": (varint(2) + b"\x08abc", "a compressed block does not fit its length"),
    "shorter than it says": (varint(9) + b"\x08abc", "a compressed block is cut off"),
    "from before the start": (varint(9) + b"\x08abc" + bytes([1 | 1 << 2, 9]), "copies from outside"),
    "of no distance": (varint(9) + b"\x08abc" + bytes([1 | 1 << 2, 0]), "copies from outside"),
    "without its distance": (varint(9) + b"\x08abc" + bytes([2]), "a compressed block is cut off"),
}


@pytest.mark.parametrize("name", SNAPPY)
def test_snappy(name: str) -> None:
    data, text = SNAPPY[name]
    with pytest.raises(ModelError, match=text):
        sorted_table.unsnapped(data, "")


def test_snappy_copies_that_overlap() -> None:
    assert sorted_table.unsnapped(varint(11) + b"\x08abc" + bytes([1 | 4 << 2, 3]), "") == b"abcabcabcab"


def test_messages_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_BYTES", 3)
    with pytest.raises(UnsupportedError, match="the file is too large"):
        messages.parse("Graph", b"1234", "")
