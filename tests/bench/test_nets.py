"""The nets that are measured, and their copies with another batch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bench import batch, nets
from bench.nets import Net
from strop.errors import ModelError, OptionError
from tests.bench.conftest import MakePeer

PYTHON = Path(sys.executable)


def run(path: Path, x: np.ndarray) -> np.ndarray:
    model = onnx.load(str(path))
    return ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    nets.write_small(folder)
    return folder


# ---- finding and making


def test_small_nets_are_found_with_their_shapes(small: Path) -> None:
    assert [str(net) for net in nets.find(small)] == [
        "keywords  x: 1x1x49x10",
        "lenet  input: 1x1x28x28",
        "perceptron  x: 1x784",
        "relu1  x: 1x1",
        "sine  x: 1x1",
    ]
    assert [net.name for net in nets.find(small, ["sine", "lenet"])] == ["sine", "lenet"]


def test_small_nets_depend_on_their_names_only(small: Path, tmp_path: Path) -> None:
    for path in nets.write_small(tmp_path):
        assert path.read_bytes() == (small / path.name).read_bytes()
        assert np.isfinite(run(path, np.ones(nets.find(tmp_path, [path.stem])[0].inputs[0][1], np.float32))).all()


def test_nets_that_are_not_there(small: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"got: vgg99[\s\S]*lenet"):
        nets.find(small, ["lenet", "vgg99"])
    with pytest.raises(OptionError, match=r"no \.onnx files"):
        nets.find(tmp_path)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"net\.onnx"):
        nets.find(tmp_path)


def test_exporting_needs_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OptionError, match="exported from torchvision"):
        nets.export(tmp_path)


def test_the_command_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nets.main(["--models", str(small), "--only", "sine"]) == 0
    assert capsys.readouterr().out == "sine  x: 1x1\n"
    assert nets.main(["--models", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("nets.py: no such nets")
    assert nets.main(["--small", str(tmp_path / "new")]) == 0
    assert len(list((tmp_path / "new").iterdir())) == 5


def test_scripts_run_by_their_path() -> None:
    root = Path(__file__).parents[2]
    for name in ("compare", "gate", "nets", "overhead", "roofline"):
        environment = {**os.environ, "PYTHONPATH": str(root / "src")}
        done = subprocess.run([sys.executable, root / "bench" / f"{name}.py", "--help"], capture_output=True, env=environment, cwd="/")
        assert done.returncode == 0 and b"usage" in done.stdout, done.stderr


# ---- batch


def attention(kind: str) -> onnx.ModelProto:
    """Self-attention over 5 places of 6 channels, 2 heads, exported with a fixed batch: the batch moves from the first axis to the
    second and back, is hidden in products of dims, and stands in constants or is computed from shapes."""
    rng = np.random.default_rng(0)
    consts = {name: rng.standard_normal((6, 6)).astype(np.float32) / 3 for name in ("wq", "wk", "wv", "wo")}
    consts["class"] = rng.standard_normal((1, 1, 6)).astype(np.float32)
    targets = {"expand": [1, 1, 6], "flat": [5, 6], "split": [5, 2, 3], "heads": [1, 2, 5, 3], "back": [5, 6], "rows": [5, 1, 6]}
    nodes: list[onnx.NodeProto] = []

    def add(op: str, inputs: list[str], out: str, **attributes: object) -> None:
        nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))

    def constant(name: str, values: list[int]) -> str:
        """A target: one initializer, or put together from scalars as exporters do."""
        if kind == "initializers":
            consts[name] = np.asarray(values, np.int64)
            return name
        for index, value in enumerate(values):
            add("Constant", [], f"{name}.{index}", value=numpy_helper.from_array(np.asarray([value], np.int64)))
        add("Concat", [f"{name}.{k}" for k in range(len(values))], name, axis=0)
        return name

    add("Shape", ["x"], "shape_of_x")
    consts.update(zero=np.asarray([0], np.int64), end=np.asarray([6, 6], np.int64))
    add("Gather", ["shape_of_x", "zero"], "n")  # follows the input by itself
    add("Concat", ["n", "four_six"], "same", axis=0)
    consts["four_six"] = np.asarray([4, 6], np.int64)
    add("Reshape", ["x", "same"], "tokens")
    add("Expand", ["class", constant("expand", targets["expand"])], "first")
    add("Concat", ["first", "tokens"], "all", axis=1)
    add("Transpose", ["all"], "t", perm=[1, 0, 2])  # [5, N, 6]
    for which in "qkv":
        add("MatMul", ["t", f"w{which}"], f"{which}0")
        add("Reshape", [f"{which}0", constant(f"split_{which}", targets["split"])], f"{which}1")  # [5, N * 2, 3]
        add("Transpose", [f"{which}1"], f"{which}2", perm=[1, 0, 2])
        add("Reshape", [f"{which}2", constant(f"heads_{which}", targets["heads"])], f"{which}3")  # [N, 2, 5, 3]
    add("Transpose", ["k3"], "kt", perm=[0, 1, 3, 2])
    add("MatMul", ["q3", "kt"], "scores")
    add("Softmax", ["scores"], "p", axis=-1)
    add("MatMul", ["p", "v3"], "mixed")
    add("Transpose", ["mixed"], "places", perm=[2, 0, 1, 3])  # [5, N, 2, 3]
    add("Reshape", ["places", constant("back", targets["back"])], "flat")  # [5 * N, 6]
    add("Gemm", ["flat", "wo"], "o")
    add("Reshape", ["o", constant("rows", targets["rows"])], "rows_out")  # [5, N, 6]
    add("Transpose", ["rows_out"], "y", perm=[1, 0, 2])
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 6])],
        [numpy_helper.from_array(array, name) for name, array in consts.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def shuffle() -> onnx.ModelProto:
    """Channels of [1, 4, 2, 2] shuffled as ShuffleNet does, then flattened by a constant target with -1."""
    shape = {"split": [1, 2, 2, 2, 2], "join": [1, -1, 2, 2], "flat": [1, -1]}
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["b", "join"], ["c"]),
        helper.make_node("Reshape", ["c", "flat"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2, 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])]
    weights = [numpy_helper.from_array(np.asarray(v, np.int64), name) for name, v in shape.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "perceptron": nets.perceptron,
    "keywords": nets.keywords,
    "attention": lambda: attention("initializers"),
    "exported attention": lambda: attention("computed"),
    "shuffle": shuffle,
}


def written(model: onnx.ModelProto, folder: Path) -> Net:
    onnx.save(model, str(folder / "net.onnx"))
    return nets.find(folder)[0]


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("name", MODELS)
def test_every_sample_is_what_it_was_alone(name: str, count: int, tmp_path: Path) -> None:
    net = written(MODELS[name](), tmp_path)
    copy = batch.with_batch(net, count, tmp_path)
    x = np.random.default_rng(1).standard_normal((count, *net.inputs[0][1][1:])).astype(np.float32)
    alone = np.concatenate([run(net.path, x[k : k + 1]) for k in range(count)])
    np.testing.assert_allclose(run(copy, x), alone, rtol=1e-4, atol=1e-5)
    assert nets.read(copy).graph.output[0].type.tensor_type.shape.dim[0].dim_value == count


def test_the_same_batch_is_the_same_file(tmp_path: Path) -> None:
    net = written(nets.sine(), tmp_path)
    assert batch.with_batch(net, 1, tmp_path) == net.path


def test_a_batch_that_cannot_be_changed(tmp_path: Path) -> None:
    graph = shuffle()
    graph.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.asarray([4, 4], np.int64), "flat"))  # mixes samples
    graph.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    graph.graph.node.append(helper.make_node("MatMul", ["y", "w"], ["z"]))
    graph.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    graph.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3]))
    with pytest.raises(ModelError, match="batch of the model cannot be changed"):
        batch.with_batch(written(graph, tmp_path), 3, tmp_path)


def test_a_free_batch_is_refused(tmp_path: Path) -> None:
    model = nets.sine()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    with pytest.raises(ModelError, match="one fixed leading dim"):
        batch.with_batch(written(model, tmp_path), 3, tmp_path)


def test_copies_are_proved(tmp_path: Path, make_peer: MakePeer) -> None:
    net = written(shuffle(), tmp_path)
    copy = batch.with_batch(net, 3, tmp_path)
    batch.check(net, copy, 3, make_peer("fake"), PYTHON)
    wrong = nets.read(copy)
    node = next(n for n in wrong.graph.node if n.op_type == "Transpose")
    node.attribute[0].ints[:] = [0, 1, 2, 3, 4]
    onnx.save(wrong, str(copy))
    with pytest.raises(ModelError, match="is another net"):
        batch.check(net, copy, 3, make_peer("fake"), PYTHON)
    with pytest.raises(ModelError, match=r"fake does not run the copy[\s\S]*no such file format"):
        batch.check(net, copy, 3, make_peer("fake", "cannot"), PYTHON)
