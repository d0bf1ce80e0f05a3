"""Functions and models in memory: with stand-ins for TensorFlow's and Keras's objects everywhere, with real ones where they are installed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from strop.errors import OptionError, UnsupportedError
from strop.frontend.table import read
from strop.ir.interp import run
from tests.frontend.saved_model_files import FLOAT, message, node

REAL = importlib.util.find_spec("tensorflow") is not None


def tensor(name: str, shape: tuple[int, ...]) -> Any:
    proto = message("Shape")
    for size in shape:
        proto.dim.add(size=size)
    kind = SimpleNamespace(as_datatype_enum=FLOAT, name="float32", is_numpy_compatible=True)
    return SimpleNamespace(op=SimpleNamespace(name=name), value_index=0, dtype=kind, shape=SimpleNamespace(as_proto=lambda: proto))


class Concrete:
    """y = x * v + c with a variable v and a tensor c that are captured."""

    def __init__(self, captured: str = "float32") -> None:
        graph = message("Graph")
        for name in ("x", "v", "c"):
            node(graph.node, name, "Placeholder", dtype=("type", FLOAT if name != "v" else 20))
        node(graph.node, "read", "ReadVariableOp", "v")
        node(graph.node, "product", "Mul", "x", "read")
        node(graph.node, "sum", "AddV2", "product", "c")
        x, v, c, y = (tensor(name, (-1, 2)) for name in ("x", "v", "c", "sum"))
        handle, known = object(), tensor("known", (2,))
        known.numpy, known.dtype.name = (lambda: np.array([10, 20], np.float32)), captured
        self.graph = SimpleNamespace(
            as_graph_def=lambda: graph, captures=[(handle, v), (known, c)],
            variables=[SimpleNamespace(handle=handle, numpy=lambda: np.array([2, 3], np.float32))],
        )  # fmt: skip
        self.inputs, self.outputs, self.structured_outputs, self.name = [x, v, c], [y], {"y": 0}, "f"


class Function:
    """A function whose inputs are known, or not."""

    def __init__(self, known: bool = True) -> None:
        self._known = known

    def get_concrete_function(self) -> Concrete:
        if not self._known:
            raise TypeError("missing an argument")
        return Concrete()


class Loaded:
    """What holds signatures."""

    signatures: ClassVar[dict[str, Any]] = {"a": Concrete(), "b": Concrete()}


for _kind in (Concrete, Function, Loaded):
    _kind.__module__ = "tensorflow.python.made_up"


@pytest.mark.parametrize("make", [Concrete, Function, Loaded])
def test_functions(make: type) -> None:
    graph = read(make())
    found = run(graph, {"x": np.ones((3, 2), np.float32)})
    assert [v.name for v in graph.inputs] == ["x"]
    np.testing.assert_array_equal(found["y"], [[12, 23]] * 3)


def test_a_function_that_changes_its_variable() -> None:
    """v goes in and comes out."""
    concrete = Concrete()
    graph = concrete.graph.as_graph_def()
    node(graph.node, "write", "AssignAddVariableOp", "v", "c", "^read")
    next(n for n in graph.node if n.name == "sum").input.append("^write")
    found = run(read(concrete), {"x": np.ones((1, 2), np.float32), "v": np.array([2, 3], np.float32)})
    np.testing.assert_array_equal(found["y"], [[12, 23]])
    np.testing.assert_array_equal(found["v.next"], [12, 23])


def test_functions_that_are_not_read() -> None:
    with pytest.raises(OptionError, match="the function does not say what its inputs are"):
        read(Function(known=False))
    with pytest.raises(OptionError, match="the model has no such signature") as error:
        read(Loaded(), signature="c")
    assert error.value.expected == "a, b"
    with pytest.raises(OptionError, match="a function has no signatures"):
        read(Concrete(), signature="c")
    with pytest.raises(UnsupportedError, match="captures what is neither a variable nor a tensor of numbers"):
        read(Concrete("string"))
    other = type("Tensor", (), {"__module__": "tensorflow.python.made_up"})()
    with pytest.raises(UnsupportedError, match="this object of TensorFlow is not read"):
        read(other)


def test_keras_models(tmp_path: Path) -> None:
    """A model saves itself; what is read is the file."""
    pytest.importorskip("h5py")
    from tests.frontend.test_keras import arrays, saved

    path = saved("3/Dense", "net.keras", tmp_path)
    model = type("Model", (), {"__module__": "keras.made_up", "layers": (), "save": lambda self, target: shutil.copy(path, target)})()
    inputs, wanted = arrays("3/Dense")
    graph = read(model)
    np.testing.assert_allclose(run(graph, {graph.inputs[0].name: inputs[0]})[graph.output_names[0]], wanted[0], 1e-5, 1e-5)
    broken = type("Model", (), {"__module__": "keras.made_up", "layers": (), "save": lambda self, target: int("x")})()
    with pytest.raises(UnsupportedError, match="Keras cannot save the model"):
        read(broken)
    with pytest.raises(UnsupportedError, match="this object of Keras is not read"):
        read(type("Layer", (), {"__module__": "keras.made_up"})())


@pytest.mark.skipif(not REAL, reason="the package tensorflow is not installed")
def test_real_ones() -> None:
    import tensorflow as tf

    keras = tf.keras
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(5), keras.layers.Dense(2)])
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    wanted = model(x).numpy()
    function = tf.function(lambda v: {"y": model(v)}).get_concrete_function(tf.TensorSpec([2, 4, 3], tf.float32, "v"))
    for source in (model, function):
        graph = read(source)
        (found,) = run(graph, {graph.inputs[0].name: x}).values()
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
