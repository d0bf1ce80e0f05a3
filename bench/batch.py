"""Another batch for a model that was exported with a fixed one.

All arithmetic on shapes is folded first, so that the only places which know the batch are the targets of Reshape and
Expand: in each of these one axis has to grow. Which one is found by trial: candidates are ordered by where the batch lies in
memory, and one is taken when ONNX can infer every shape up to the next such node. ``check`` then proves the copy right by
running it against the model itself, sample by sample.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from bench.nets import Net, read
from strop.engine.peer_process import LOAD_TIMEOUT, Peer, PeerError, PeerProcess
from strop.engine.versus import TOLERANCE, output_error
from strop.errors import ModelError

Shape = tuple[int, ...]

#: Constants above this many bytes are no shapes.
_SHAPE_BYTES = 1024


def with_batch(net: Net, batch: int, folder: Path) -> Path:
    """A copy of the model with another leading dim of its inputs; the file itself when they have it already.

    Raises:
        ModelError: no choice of target shapes gives every output the new batch.
    """
    leading = {shape[0] if shape else 0 for _, shape in net.inputs}
    if leading == {batch}:
        return net.path
    if len(leading) != 1 or leading == {0}:
        raise ModelError(
            "the batch of the model cannot be changed", where=str(net.path), got=net, expected="inputs with one fixed leading dim"
        )
    model = read(net.path)
    _Rebatch(model, net, leading.pop(), batch).run()
    copy = folder / f"{net.name}.batch{batch}.onnx"
    onnx.save(model, str(copy))
    return copy


class _Rebatch:
    """The search on one model, which it edits."""

    def __init__(self, model: onnx.ModelProto, net: Net, old: int, new: int) -> None:
        self._model, self._net, self._old, self._new = model, net, old, new
        self._grow = new / old
        try:
            _fold_shapes(model)
            self._light = _without_weights(model)
            self._shapes = _infer(self._light)
        except shape_inference.InferenceError as error:
            raise self._error(error) from None
        self._targets = _targets(model)

    def run(self) -> None:
        """Sets the dims of inputs and outputs, and the targets of Reshape and Expand nodes."""
        chosen = self._search()
        for model in (self._model, self._light):
            self._edit(model, chosen)
        try:
            _infer(self._light)
        except shape_inference.InferenceError as error:
            raise self._error(error) from None

    def _search(self) -> dict[int, Shape]:
        """Node number to target: depth first, the first combination that holds together."""
        nodes = sorted(self._targets)
        ends = [*nodes[1:], len(self._light.graph.node)]
        chosen: dict[int, Shape] = {}
        trail: list[Iterator[Shape]] = []
        failure: object = "no choice of target shapes fits"
        shapes = self._check(nodes[0] if nodes else ends[-1], chosen)
        trail += [self._candidates(nodes[0], shapes)] if nodes else []
        while trail and len(chosen) < len(nodes):
            depth = len(trail) - 1
            target = next(trail[-1], None)
            if target is None:
                trail.pop()
                chosen.pop(nodes[depth - 1], None)
                continue
            chosen[nodes[depth]] = target
            try:
                shapes = self._check(ends[depth], chosen)
            except shape_inference.InferenceError as error:
                failure = error
                del chosen[nodes[depth]]
                continue
            if depth + 1 < len(nodes):
                trail.append(self._candidates(nodes[depth + 1], shapes))
        if len(chosen) < len(nodes):
            raise self._error(failure)
        return chosen

    def _check(self, end: int, chosen: dict[int, Shape]) -> dict[str, Shape]:
        """Shapes of everything up to node ``end`` with the targets chosen so far."""
        part = onnx.ModelProto()
        part.CopyFrom(self._light)
        self._edit(part, chosen)
        del part.graph.node[end:]
        if end < len(self._light.graph.node):
            del part.graph.output[:]
        return _infer(part)

    def _edit(self, model: onnx.ModelProto, chosen: dict[int, Shape]) -> None:
        inputs = {name for name, _ in self._net.inputs}
        for value in (*(v for v in model.graph.input if v.name in inputs), *model.graph.output):
            dims = value.type.tensor_type.shape.dim
            if dims and dims[0].dim_value == self._old:
                dims[0].dim_value = self._new
        del model.graph.value_info[:]
        for index, target in chosen.items():
            name = f"batch{self._new}.{index}"
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(target, np.int64), name))
            model.graph.node[index].input[1] = name

    def _candidates(self, index: int, shapes: dict[str, Shape]) -> Iterator[Shape]:
        """Targets to try for a node, likely ones first."""
        node = self._light.graph.node[index]
        before, now = self._shapes.get(node.input[0]), shapes.get(node.input[0])
        if before is None or now is None:
            return
        target = _resolved(self._targets[index], before) if node.op_type == "Reshape" else self._targets[index]
        if node.op_type == "Expand":
            yield target
            axes = [t for t, d in enumerate(target) if d == self._old]
        elif math.prod(before) == math.prod(now):
            yield target
            return
        else:
            axes = _axes(before, now, target, self._old)
        for axis in axes:
            yield tuple(round(d * self._grow) if t == axis else d for t, d in enumerate(target))

    def _error(self, got: object) -> ModelError:
        said = str(got).strip().splitlines()[-1]
        return ModelError("the batch of the model cannot be changed", where=str(self._net.path), got=said)


def _axes(before: Shape, now: Shape, target: Shape, batch: int) -> list[int]:
    """Axes of a reshape's target that may hold the batch.

    Row-major order is kept by a reshape, so the elements that one step of the batch passes over are as many before and after.
    First axes that are the batch alone, then such where it is the outer factor, then the inner.
    """
    grown = [a for a, (b, n) in enumerate(zip(before, now)) if b != n]
    if len(before) != len(now) or len(grown) != 1:
        return []
    outer = math.prod(before[grown[0] :]) // batch
    strides = {outer, math.prod(before[grown[0] + 1 :])}
    inner = [math.prod(target[t + 1 :]) for t in range(len(target))]
    alone = [t for t, d in enumerate(target) if d == batch and inner[t] in strides]
    as_outer = [t for t, d in enumerate(target) if inner[t] * d // batch in strides]
    as_inner = [t for t in range(len(target)) if inner[t] in strides]
    return list(dict.fromkeys((*alone, *as_outer, *as_inner)))


def _resolved(target: Shape, data: Shape) -> Shape:
    """A reshape's target without 0 and -1 (ONNX, Reshape with allowzero = 0)."""
    dims = [data[t] if d == 0 and t < len(data) else d for t, d in enumerate(target)]
    rest = math.prod(d for d in dims if d != -1)
    return tuple(math.prod(data) // max(1, rest) if d == -1 else d for d in dims)


def _targets(model: onnx.ModelProto) -> dict[int, Shape]:
    """Node number to target of every Reshape and Expand whose target is a constant."""
    constants = {t.name: t for t in model.graph.initializer if t.ByteSize() <= _SHAPE_BYTES}
    return {
        index: tuple(int(d) for d in numpy_helper.to_array(constants[node.input[1]]).ravel())
        for index, node in enumerate(model.graph.node)
        if node.op_type in ("Reshape", "Expand") and node.input[1] in constants
    }


def _fold_shapes(model: onnx.ModelProto) -> None:
    """Replaces everything small that follows from constants and from fixed shapes by constants."""
    while True:
        shapes = _infer(_without_weights(model))
        known = {t.name for t in model.graph.initializer if t.ByteSize() <= _SHAPE_BYTES}
        steps = []
        for index, node in enumerate(model.graph.node):
            if _folds(node, known, shapes):
                steps.append(index)
                known.update(node.output)
        if not steps:
            return
        _replace(model, steps, shapes)


def _folds(node: onnx.NodeProto, known: set[str], shapes: dict[str, Shape]) -> bool:
    if node.op_type == "Constant":
        return int(node.ByteSize()) <= _SHAPE_BYTES
    if node.op_type == "Shape":
        return node.input[0] in shapes
    if node.op_type == "Expand":  # may be what gives a constant its batch
        return False
    inner = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    fixed = all(name in known for name in node.input if name) and any(node.input)
    small = all(math.prod(shapes.get(name, (1,))) * 8 <= _SHAPE_BYTES for name in node.output)
    return fixed and small and not any(a.type in inner for a in node.attribute)


def _replace(model: onnx.ModelProto, steps: list[int], shapes: dict[str, Shape]) -> None:
    """Computes the nodes ``steps`` and puts constants where others read their results."""
    graph, chosen = model.graph, set(steps)
    nodes = [_shape_constant(n, shapes) if n.op_type == "Shape" else n for n in (graph.node[i] for i in steps)]
    made = {name for node in nodes for name in node.output}
    read = {name for i, node in enumerate(graph.node) if i not in chosen for name in node.input}
    names = sorted(made & (read | {o.name for o in graph.output}))
    small = [t for t in graph.initializer if t.ByteSize() <= _SHAPE_BYTES]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names]
    part = helper.make_model(helper.make_graph(nodes, "shapes", [], outputs, small), opset_imports=model.opset_import)
    values = ReferenceEvaluator(part).run(None, {}) if names else []
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in zip(names, values))
    rest = [node for i, node in enumerate(graph.node) if i not in chosen]
    del graph.node[:]
    graph.node.extend(rest)


def _shape_constant(node: onnx.NodeProto, shapes: dict[str, Shape]) -> onnx.NodeProto:
    """What a Shape node gives, as a constant."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    dims = shapes[node.input[0]][attributes.get("start", 0) : attributes.get("end")]
    return helper.make_node("Constant", [], list(node.output), value=numpy_helper.from_array(np.asarray(dims, np.int64)))


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with large constants left empty, which shapes do not depend on."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) > _SHAPE_BYTES:
            tensor.raw_data = b""
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="absent")
    return light


def _infer(model: onnx.ModelProto) -> dict[str, Shape]:
    """Fixed shapes by name; InferenceError when the model contradicts itself."""
    found = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {t.name: tuple(t.dims) for t in found.initializer}
    for value in (*found.input, *found.output, *found.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes


# ---- proof


def check(net: Net, copy: Path, batch: int, peer: Peer, python: Path) -> None:
    """Runs the copy on random samples, and the model on the first and the last of them alone.

    Raises:
        ModelError: the results differ, or the runtime runs neither.
    """
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((batch, *shape[1:])).astype(np.float32) for name, shape in net.inputs}
    with tempfile.TemporaryDirectory(prefix="strop-batch-") as text:
        folder = Path(text)
        try:
            whole = _outputs(copy, arrays, peer, python, folder / "whole")
            for sample in {0, batch - 1}:
                part = {name: array[sample : sample + 1] for name, array in arrays.items()}
                alone = _outputs(net.path, part, peer, python, folder / f"sample{sample}")
                error = output_error([a[sample : sample + 1] for a in whole], alone)
                if not error <= TOLERANCE:
                    raise ModelError(
                        f"the copy with batch {batch} is another net", where=str(net.path), got=f"sample {sample} differs by {error:.1e}"
                    )
        except PeerError as error:
            raise ModelError(f"{peer.name} does not run the copy with batch {batch}", where=str(net.path), got=error) from None


def _outputs(
    model: Path, arrays: dict[str, NDArray[np.float32]], peer: Peer, python: Path, folder: Path
) -> list[NDArray[np.float32]]:
    folder.mkdir()
    inputs = []
    for index, (name, array) in enumerate(arrays.items()):
        np.save(folder / f"input{index}.npy", array, allow_pickle=False)
        inputs.append([name, str(folder / f"input{index}.npy")])
    with PeerProcess(peer, python, {}) as process:
        fields = {"model": str(model), "original": str(model), "threads": 1, "inputs": inputs, "cpus": None, "work": str(folder)}
        process.ask("load", timeout=LOAD_TIMEOUT, **fields)
        return [np.load(file, allow_pickle=False) for file in process.ask("output", folder=str(folder))["files"]]
