"""What the layers of a network compute, from an engine, from the numpy meaning of a model, or from ONNX Runtime.

An engine's values are read after each of its steps; nothing about it changes. Values that exist only inside a fused step have no
place in memory: their nodes are named with the step that took them in.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from strop.engine.dims import input_dim
from strop.engine.engine import Engine
from strop.engine.format import EngineFile, SectionKind
from strop.engine.plan import Plan, decode_plan
from strop.errors import EngineFileError, OptionError
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph, Value
from strop.runtime.context import Context
from strop.runtime.tap import observe

Array = NDArray[Any]
_VIEW = re.compile(r"(\w+)\[(.*)\]:\((.*)\)", re.ASCII)
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A value that was computed.

    Attributes:
        name: of the value; a model's values keep their names as long as they are computed.
        node: the model's node that it is the result of; empty when nothing tells.
        array: its elements.
        by: what computed it: a kernel, an op, or a runtime.
    """

    name: str
    node: str
    array: Array
    by: str = ""


@dataclass
class Run:
    """All that one inference tells.

    Attributes:
        label: of the runtime and model.
        layers: values by name, in the order in which they were computed.
        outputs: by name.
        fused: model's node -> step whose inside it is part of.
        missing: why a value is not there that no step has inside it.
    """

    label: str
    layers: dict[str, Layer] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    fused: dict[str, str] = field(default_factory=dict)
    missing: str = "absent"


# ---- engines


def of_engine(engine: Engine, inputs: Mapping[str, Array], label: str) -> Run:
    """Runs an engine step by step on one thread and copies what each step writes.

    Raises:
        InputError: the arrays do not fit.
        EngineFileError: the engine was built by a version that did not record what its steps compute.
    """
    run, records = Run(label, missing="a view, or folded"), _steps(engine)
    known = _symbols(_plan(engine), {n: np.shape(a) for n, a in inputs.items()})

    def seen(index: int, read: Callable[[int], Array]) -> None:
        record = records[index]
        found = []
        for name, node, argument, view in record.get("values", []):
            if isinstance(argument, int):
                run.layers[name] = Layer(name, node, _strided(read(argument), view, known, engine), str(record.get("kernel", "")))
                found.append(node)
        for node in record.get("source", []):
            if node not in found:
                run.fused.setdefault(node, str(record.get("name", "")))

    run.outputs = observe(engine.context(threads=1), inputs, seen)
    for layer in run.layers.values():
        run.fused.pop(layer.node, None)
    return run


class Reader:
    """Reads an engine's values between its steps, one at a time, run after run.

    Attributes:
        names: of the values that have a place in memory.
    """

    def __init__(self, engine: Engine) -> None:
        """EngineFileError: the engine was built by a version that did not record what its steps compute."""
        self._engine, self._records, self._plan = engine, _steps(engine), _plan(engine)
        self.names = frozenset(
            name for record in self._records for name, _, argument, _ in record.get("values", []) if isinstance(argument, int)
        )

    def run(self, context: Context, inputs: Mapping[str, Array], wanted: Collection[str], look: Callable[[str, Array], None]) -> dict[str, Array]:
        """Runs once and shows the wanted values in the order in which they are computed.

        Args:
            context: of the engine.
            inputs: by name.
            wanted: names among ``names``.
            look: called with a name and a copy of the elements in the graph's order of axes.

        Returns:
            Every output, by name.
        """
        known = _symbols(self._plan, {n: np.shape(a) for n, a in inputs.items()})

        def seen(index: int, read: Callable[[int], Array]) -> None:
            for name, _, argument, view in self._records[index].get("values", []):
                if name in wanted and isinstance(argument, int):
                    look(name, _strided(read(argument), view, known, self._engine))

        return observe(context, inputs, seen)


def _steps(engine: Engine) -> list[dict[str, Any]]:
    steps = engine.manifest.get("steps")
    if not isinstance(steps, list) or len(steps) != len(engine.session.steps) or not all(isinstance(s, dict) for s in steps):
        raise EngineFileError("the manifest does not tell of every step", where=str(engine.path))
    if steps and not any("values" in s for s in steps):
        raise EngineFileError(
            "the engine does not tell which values its steps compute", where=str(engine.path), hint="build it again with this version"
        )
    return steps


def _plan(engine: Engine) -> Plan:
    file = EngineFile(engine.path)
    plan, weights = (file.find(kind) for kind in (SectionKind.PLAN, SectionKind.WEIGHTS))
    assert plan is not None and weights is not None, "an engine file has a plan and weights"
    return decode_plan(file.read(plan), weights.size)


def _symbols(plan: Plan, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The values of an engine's symbols at these shapes of its inputs."""
    known = {s.name: s.opt for s in plan.symbols}
    for tensor in plan.inputs:
        for dim, size in zip(tensor.shape, shapes.get(tensor.name, ()), strict=False):
            told = input_dim(dim, plan.dims) if dim < 0 else None
            if told is not None:
                known[plan.symbols[told[0]].name] = size // told[1]
    return known


def _strided(data: Array, view: str, known: Mapping[str, int], engine: Engine) -> Array:
    """The elements that a view such as ``f32[1,20,h,24]:(480*h,1,480,20)`` picks from bytes."""
    found = _VIEW.fullmatch(view)
    dtype = next((d for d in dt.ALL if found is not None and d.name == found[1]), None)
    try:
        if found is None or dtype is None:
            raise ValueError(view)
        shape, strides = (_numbers(text, known) for text in found.group(2, 3))
        if len(shape) != len(strides) or any(d < 0 for d in (*shape, *strides)):
            raise ValueError(view)
        if 0 in shape:
            return np.zeros(shape, dtype.numpy)
        span = 1 + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
        elements = data[: span * dtype.size].view(dtype.numpy)
        if elements.size < span:
            raise ValueError(f"{view} of {data.size} bytes")
        return np.lib.stride_tricks.as_strided(elements, shape, [s * dtype.size for s in strides]).copy()
    except (ValueError, SyntaxError, KeyError, ArithmeticError, RecursionError) as error:
        raise EngineFileError("the manifest has an unusable view", where=str(engine.path), got=f"{view[:200]}: {error}") from error


def _numbers(text: str, known: Mapping[str, int]) -> tuple[int, ...]:
    """The dims of a text, without evaluating anything but integer arithmetic."""
    if not text:
        return ()
    tree = ast.parse(f"({text},)", mode="eval").body
    if not isinstance(tree, ast.Tuple):
        raise ValueError(text)
    return tuple(_number(item, known) for item in tree.elts)


def _number(item: ast.expr, known: Mapping[str, int]) -> int:
    if isinstance(item, ast.Constant) and type(item.value) is int:
        return item.value
    if isinstance(item, ast.UnaryOp) and isinstance(item.op, ast.USub):
        return -_number(item.operand, known)
    if isinstance(item, ast.Name):
        return known[item.id]
    if isinstance(item, ast.BinOp) and type(item.op) in _OPERATORS:
        return _OPERATORS[type(item.op)](_number(item.left, known), _number(item.right, known))
    if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id in ("min", "max") and len(item.args) == 2:
        return (min if item.func.id == "min" else max)(*(_number(a, known) for a in item.args))
    raise ValueError(ast.dump(item)[:80])


# ---- the model's meaning


def of_graph(graph: Graph, inputs: Mapping[str, Array], label: str) -> Run:
    """Runs a graph by the numpy meaning of its ops."""
    run = Run(label)

    def watch(value: Value, array: Array) -> None:
        if value.producer is not None:
            source = value.producer.source
            run.layers[value.name] = Layer(value.name, source[-1] if source else "", array, value.producer.op.label)

    run.outputs = interp.run(graph, inputs, watch)
    return run


# ---- ONNX Runtime


def of_onnxruntime(model: Path | onnx.ModelProto, graph: Graph, inputs: Mapping[str, Array], label: str) -> Run:
    """Runs a model with every result of its nodes as an output, unoptimized.

    Args:
        model: the file, or the loaded model.
        graph: the model as it was read, which tells whose result a value is.
        inputs: by name.
        label: for people.

    Raises:
        OptionError: ONNX Runtime is not installed, or refuses the model.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise OptionError("ONNX Runtime is not installed", where=label, hint="pip install onnxruntime") from None
    proto = onnx.ModelProto()
    proto.CopyFrom(onnx.load(str(model)) if isinstance(model, Path) else model)
    names = [o.name for o in proto.graph.output]
    more = [n for node in proto.graph.node for n in node.output if n and n not in names]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in more)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    nodes = {v.name: (v.producer.source[-1:] or ("",))[0] for v in graph.values.values() if v.producer is not None}
    ops = {n: node.op_type for node in proto.graph.node for n in node.output}
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = {i.name for i in session.get_inputs()}
        arrays = session.run(names + more, {n: a for n, a in inputs.items() if n in wanted})
    except Exception as error:
        raise OptionError("ONNX Runtime does not run the model", where=label, got=str(error).strip()[:500]) from error
    found = {n: a for n, a in zip(names + more, arrays, strict=True) if isinstance(a, np.ndarray)}
    run = Run(label, outputs={n: found[n] for n in names if n in found})
    for node in proto.graph.node:
        for name in node.output:
            if name in found:
                run.layers[name] = Layer(name, nodes.get(name, ""), found[name], ops[name])
    return run
