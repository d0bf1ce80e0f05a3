"""The runtimes behind ``run(net, inputs)``: Strop, ONNX Runtime, PyTorch. LiteRT is in ``litert.py``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import strop
from bench.kept import sources
from bench.suite.fetch import digest
from bench.suite.steps import steps
from bench.suite.task import Array, Net
from strop.engine.engine import Engine
from strop.errors import OptionError
from strop.files import replacing
from strop.frontend.tflite.reader import initial_state
from strop.target.detect import parse as parse_target


def stored(folder: Path, net: Net) -> Path:
    """The network's file as its package has it, taken out of what the package keeps it in.

    Raises:
        OptionError: it was not fetched.
    """
    path = folder / net.file
    if not path.is_file():
        raise OptionError("a model is not there", where=str(path), hint="python -m bench.suite fetch DIR")
    if net.extract is None:
        return path
    taken = folder / "prepared" / f"{net.name}.tflite"
    if not taken.exists():
        taken.parent.mkdir(parents=True, exist_ok=True)
        _whole(taken, net.extract(path.read_bytes()))
    return taken


def model_path(folder: Path, net: Net) -> Path:
    """The file that other runtimes load: the package's, or one of the same network with dims set free.

    Raises:
        OptionError: it was not fetched.
    """
    path = stored(folder, net)
    if not net.dynamic:
        return path
    freed = folder / "prepared" / f"{net.name}.onnx"
    if not freed.exists():
        freed.parent.mkdir(parents=True, exist_ok=True)
        _whole(freed, _free_dims(onnx.load(str(path))).SerializeToString())
    return freed


def _free_dims(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with names in place of the batch, height and width of its inputs and outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name not in weights:
            for axis in (0, 2, 3):
                value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    return model


def _whole(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def build(folder: Path, net: Net, level: int, **precision: Any) -> Engine:
    """An engine of a network for one thread.

    Raises:
        StropError: it cannot be built.
    """
    shapes = {**net.shapes, **{name: f"={value}" for name, value in net.values.items()}}
    options: dict[str, Any] = {"level": level, "threads": 1, "shapes": shapes or None, **precision}
    if net.module is None:
        return strop.build(stored(folder, net), **options)
    module, example, dynamic = net.module(folder)
    return strop.build(module, example_inputs=example, dynamic_shapes=dynamic, **options)


class Strop:
    """Engines for one thread, built once per network and kept below the suite's folder."""

    name = "strop"

    def __init__(self, folder: Path, level: int, tell: Callable[[str], None] = lambda text: None) -> None:
        self._folder, self._level, self._tell = folder, level, tell
        self._engines: dict[str, Engine] = {}
        self._states: dict[str, dict[str, Array]] = {}

    def engine(self, net: Net) -> Engine:
        """The engine of a network.

        Raises:
            StropError: it cannot be built.
        """
        found = self._engines.get(net.name)
        if found is None:
            path = self._folder / "engines" / f"{net.name}-{self._key(net)}.strop"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._tell(f"{net.name} is built at level {self._level}")
                self._build(net).save(path)
            found = self._engines[net.name] = strop.load(path, threads=1)
        return found

    def _build(self, net: Net) -> Engine:
        return build(self._folder, net, self._level)

    def _key(self, net: Net) -> str:
        what = (
            digest(stored(self._folder, net)), dict(net.shapes), dict(net.values), self._level, parse_target("host").name, sources()
        )  # fmt: skip
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]

    def run(self, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; those of a PyTorch module take their inputs in order."""
        engine = self.engine(net)
        if net.steps:
            if net.name not in self._states:
                self._states[net.name] = initial_state(stored(self._folder, net), net.shapes)
            return steps(engine, self._states[net.name], inputs)
        if net.module is not None:
            return engine.run(dict(zip((tensor.name for tensor in engine.inputs), inputs.values())))
        return engine.run({name: array for name, array in inputs.items() if name not in net.values})


class OnnxRuntime:
    """ONNX Runtime on one thread with every optimization."""

    name = "onnxruntime"

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self._onnxruntime = onnxruntime
        self._folder = folder
        self._sessions: dict[str, Any] = {}

    def _session(self, net: Net) -> Any:
        if net.name not in self._sessions:
            options = self._onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._sessions[net.name] = self._onnxruntime.InferenceSession(
                str(model_path(self._folder, net)), options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[net.name]

    def run(self, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        session = self._session(net)
        feed = {**inputs, **{name: np.array(value, np.int64) for name, value in net.values.items()}}
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feed)))


class Torch:
    """A PyTorch module, eager, on one thread; its outputs are called as Strop calls them."""

    name = "torch"

    def __init__(self, folder: Path, names: Callable[[Net], list[str]]) -> None:
        try:
            import torch
        except ImportError as error:
            raise OptionError("a PyTorch network needs torch", got=error, hint="pip install torch") from None
        self._torch, self._folder, self._names = torch, folder, names
        self._modules: dict[str, Any] = {}
        torch.set_num_threads(1)

    def run(self, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        assert net.module is not None
        if net.name not in self._modules:
            self._modules[net.name] = net.module(self._folder)[0].eval()
        with self._torch.inference_mode():
            found = self._modules[net.name](*(self._torch.from_numpy(array) for array in inputs.values()))
        tensors = found if isinstance(found, (tuple, list)) else [found]
        return dict(zip(self._names(net), (tensor.numpy() for tensor in tensors)))
