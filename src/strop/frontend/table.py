"""The list of frontends, and the only place that decides which of them reads a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from strop.errors import OptionError, UnsupportedError
from strop.frontend import formats
from strop.frontend.network import Network
from strop.frontend.network.stored import graph_of
from strop.frontend.verdicts import Verdict
from strop.ir.graph import Graph

Shapes = Mapping[str, str | Sequence[Any]]


@dataclass(frozen=True)
class Frontend:
    """How one kind of model is read.

    Attributes:
        name: of the frontend.
        reader: module with ``read(model, shapes, **options)``, a Graph, and ``judge`` of the same arguments, Verdicts and a Graph.
        package: that must be installed.
        install: what installs it.
        kinds: of files that it reads, see ``strop.frontend.formats``; None stands for files that nothing else claims.
        options: beside ``shapes``, as ``strop.build`` has them.
        objects: packages whose objects it reads, from memory.
    """

    name: str
    reader: str
    package: str
    install: str
    kinds: tuple[str | None, ...]
    options: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()


#: Modules with ``write(graph)`` and ``to_bytes`` of what that answers, by the format's name, and the frontend of the same format.
WRITERS = {"tflite": ("strop.frontend.tflite.writer", "TensorFlow Lite"), "onnx": ("strop.frontend.onnx.writer", "ONNX")}

FRONTENDS = (
    Frontend("ONNX", "strop.frontend.onnx.reader", "onnx", "pip install onnx", (None,), (), ("onnx",)),
    Frontend(
        "PyTorch", "strop.frontend.torch.reader", "torch", "pip install 'strop[torch]'", (formats.EXPORTED,),
        ("example_inputs", "dynamic_shapes"), ("torch",),
    ),
    Frontend("layer", "strop.frontend.network.stored", "numpy", "pip install numpy", (formats.LAYERS,)),
    Frontend("TensorFlow Lite", "strop.frontend.tflite.reader", "tflite", "pip install 'strop[tflite]'", (formats.TFLITE,), ("signature",)),
    Frontend(
        "TensorFlow", "strop.frontend.saved_model.reader", "onnx", "pip install onnx", (formats.SAVED_MODEL, formats.GRAPH_DEF), ("signature",),
        ("tensorflow",),
    ),
    Frontend("Keras", "strop.frontend.keras.reader", "h5py", "pip install 'strop[keras]'", (formats.KERAS, formats.HDF5), (), ("keras", "tf_keras")),
)  # fmt: skip

#: What may help with models that no frontend reads.
_HINTS = {
    formats.ENGINE: "strop run FILE, strop.load(FILE)",
    formats.SCRIPT: "export the module that it was made from: torch.export.save(torch.export.export(module, inputs), 'net.pt2'), "
    "or give the module itself to strop.build",
    formats.CHECKPOINT: "a checkpoint holds weights and no network: make the module in Python, load the weights into it, and give it "
    "to strop.build(module, example_inputs=...)",
    formats.INDUCTOR: "save the exported program that it was made from: torch.export.save(program, 'net.pt2')",
}


def read(model: Any, shapes: Shapes | None = None, **options: Any) -> Graph:
    """Reads a model as it is, nothing optimized.

    Args:
        model: path or bytes of a model file, a model in memory, what has a method ``to_graph``, as a Network, or a Graph, which is answered as it is.
        shapes: shapes of inputs by name, or dims by the model's names of them; see ``strop.ir.ranges``.
        options: of the frontend, None for what is not given.

    Raises:
        UnsupportedError: a kind of model that is not read, or one with ops that are not supported.
        OptionError: an option that the model's kind does not take, or a package that is not installed.
        ModelError: the model is unsound.
    """
    if isinstance(model, Graph):
        return model
    if isinstance(model, Network):
        return graph_of(model, shapes)
    if hasattr(model, "to_graph"):
        made: Graph = model.to_graph()
        return made
    reader, given = _reader(model, options)
    graph: Graph = reader.read(model, shapes, **given)
    return graph


def judge(model: Any, shapes: Shapes | None = None, **options: Any) -> tuple[list[Verdict], Graph]:
    """What would become of every node of a model, without building anything, and the graph of those that can be read, which may be
    empty. Arguments and errors as ``read``, but for ops that are not supported."""
    if isinstance(model, Graph) or hasattr(model, "to_graph"):
        graph = read(model, shapes)
        return [Verdict(node.name, node.op.label, 0, True) for node in graph.nodes], graph
    reader, given = _reader(model, options)
    found: tuple[list[Verdict], Graph] = reader.judge(model, shapes, **given)
    return found


def writer(format: str) -> Any:
    """The module that writes a format.

    Raises:
        OptionError: an unknown format, or a package that is not installed.
    """
    if format not in WRITERS:
        raise OptionError("files of this format are not written", got=format, expected=", ".join(WRITERS))
    module, name = WRITERS[format]
    frontend = next(f for f in FRONTENDS if f.name == name)
    _demand(frontend, f"writing {name} files", "write")
    return import_module(module)


def _demand(frontend: Frontend, where: str, does: str) -> None:
    """OptionError unless a frontend's package is installed."""
    if find_spec(frontend.package) is None:
        raise OptionError(
            f"the package {frontend.package} is not installed", where=where,
            expected=f"the package {frontend.package}, which {does}s {frontend.name} models", hint=frontend.install,
        )  # fmt: skip


def _reader(model: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The module that reads a model, and the options that are given."""
    frontend = _frontend(model)
    given = {name: value for name, value in options.items() if value is not None}
    foreign = [name for name in given if name not in frontend.options]
    if foreign:
        raise OptionError(
            f"{'an' if frontend.name[0] in 'AEIOU' else 'a'} {frontend.name} model takes no {foreign[0]}", where=f"argument {foreign[0]}", expected="shapes", hint="leave it out"
        )
    _demand(frontend, f"reading {_name(model)}", "read")
    return import_module(frontend.reader), given


def _frontend(model: Any) -> Frontend:
    if isinstance(model, (str, Path, bytes)):
        kind = formats.kind_of(model)
        found = next((f for f in FRONTENDS if kind in f.kinds), None)
    else:
        packages = [base.__module__.split(".")[0] for base in type(model).__mro__]
        found = next((f for package in packages for f in FRONTENDS if package in f.objects), None)
        kind = formats.CHECKPOINT if isinstance(model, Mapping) else f"an object of type {type(model).__qualname__}"
    if found is None:
        assert kind is not None, "a file of no known kind is left to a frontend"
        raise UnsupportedError(
            "this kind of model is not read",
            where=None if isinstance(model, bytes) else _name(model),
            got=kind,
            expected="an .onnx, .tflite, .keras or .h5 file, a SavedModel, a .pt2 file of torch.export, or such a model in memory",
            hint=_HINTS.get(kind, "export the network as ONNX"),
        )
    return found


def _name(model: Any) -> str:
    if isinstance(model, bytes):
        return "the given bytes"
    return str(model) if isinstance(model, (str, Path)) else f"the given {type(model).__qualname__}"
