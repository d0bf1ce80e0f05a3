"""The smallest part of a model that still fails: nodes are left out, what they computed becomes inputs, and inputs shrink."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from strop.engine.values import Run, of_graph
from strop.errors import StropError
from strop.frontend.onnx.reader import read_onnx
from strop.ir import dtype as dt

Array = NDArray[Any]
#: Whether a model, run on these arrays, still fails in the way that is looked for.
Fails = Callable[[ModelProto, Mapping[str, Array]], bool]
Say = Callable[[str], None]


@dataclass
class Reduced:
    """A model that fails, with the arrays on which it does, and how many models were tried."""

    model: ModelProto
    inputs: dict[str, Array]
    tried: int = 0


def reduce_model(model: ModelProto, inputs: Mapping[str, Array], fails: Fails, say: Say = lambda line: None) -> Reduced:
    """Shrinks a model that fails.

    Args:
        model: with its weights inside.
        inputs: arrays for its inputs; what nodes that are left out compute on them becomes further inputs.
        fails: asked about every smaller model.
        say: told about progress.

    Returns:
        The smallest failing model that was found; the given one when ``fails`` accepts no smaller one.
    """
    work = _Work(model, dict(inputs), fails, say)
    work.cut()
    work.fewer_outputs()
    work.shrink()
    return Reduced(work.model, work.inputs, work.tried)


def names_read(node: NodeProto) -> list[str]:
    """What a node reads, also inside its bodies."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            found += _free_names(graph)
    return found


def _free_names(graph: GraphProto) -> list[str]:
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    found: list[str] = []
    for node in graph.node:
        found += [n for n in names_read(node) if n not in own]
        own.update(node.output)
    return found + [o.name for o in graph.output if o.name not in own]


class _Work:
    def __init__(self, model: ModelProto, inputs: dict[str, Array], fails: Fails, say: Say) -> None:
        self.model, self.inputs, self.fails, self.say = model, inputs, fails, say
        self.tried = 0
        self.known = dict(inputs) | _computed(model, inputs)
        self.types = _types(model)

    def _keeps(self, smaller: ModelProto | None) -> bool:
        """Takes a smaller model that still fails."""
        if smaller is None or not smaller.graph.node:
            return False
        feed = {i.name: self.known[i.name] for i in smaller.graph.input if i.name in self.known}
        self.tried += 1
        if not self.fails(smaller, feed):
            return False
        self.model, self.inputs = smaller, feed
        self.say(f"{len(smaller.graph.node)} nodes, after {self.tried} trials")
        return True

    def cut(self) -> None:
        """Leaves out runs of nodes, long ones first (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input)."""
        size = len(self.model.graph.node)
        while size >= 1:
            at = 0
            while at < len(self.model.graph.node):
                count = len(self.model.graph.node)
                kept = [k for k in range(count) if not at <= k < at + size]
                if not (kept and self._keeps(self.part(kept))):
                    at += size
            size = size // 2 if size > 1 else 0

    def part(self, kept: Sequence[int]) -> ModelProto | None:
        """The model of some of the nodes; None when a type is missing that an input would need."""
        old = self.model.graph
        nodes = [old.node[k] for k in kept]
        made = {name for node in nodes for name in node.output if name}
        read = list(dict.fromkeys(name for node in nodes for name in names_read(node)))
        weights = [t for t in old.initializer if t.name in read]
        stored = {t.name for t in weights} | {t.values.name for t in old.sparse_initializer}
        graph = GraphProto(name=old.name or "reduced")
        graph.node.extend(nodes)
        graph.initializer.extend(weights)
        graph.sparse_initializer.extend(t for t in old.sparse_initializer if t.values.name in read)
        declared = {i.name: i for i in old.input}
        for name in read:
            if name not in made and name not in stored:
                info = declared.get(name) or self._info(name)
                if info is None:
                    return None
                graph.input.append(info)
        ends = [o.name for o in old.output if o.name in made]
        ends += [name for node in nodes for name in node.output if name and name not in read and name not in ends]
        graph.output.extend(self._info(name) or helper.make_empty_tensor_value_info(name) for name in ends)
        return self._around(graph)

    def _around(self, graph: GraphProto) -> ModelProto:
        model = ModelProto(ir_version=self.model.ir_version)
        model.opset_import.extend(self.model.opset_import)
        model.functions.extend(self.model.functions)
        model.graph.CopyFrom(graph)
        return model

    def _info(self, name: str) -> ValueInfoProto | None:
        """A tensor's name and type: that of its array, else what ONNX infers when it is fixed."""
        if name in self.known:
            array = self.known[name]
            return helper.make_tensor_value_info(name, dt.from_numpy(array.dtype).code, array.shape)
        return self.types.get(name)

    def fewer_outputs(self) -> None:
        """One output, if that is enough; else without those that are not needed."""
        for name in [o.name for o in self.model.graph.output]:
            if len(self.model.graph.output) > 1 and self._keeps(self._with_outputs([name])):
                break
        for name in [o.name for o in self.model.graph.output]:
            others = [o.name for o in self.model.graph.output if o.name != name]
            if others:
                self._keeps(self._with_outputs(others))

    def _with_outputs(self, names: Sequence[str]) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(self.model)
        kept = [o for o in model.graph.output if o.name in names]
        del model.graph.output[:]
        model.graph.output.extend(kept)
        return model

    def shrink(self) -> None:
        """Smaller sizes of inputs, the same size alike."""
        improved = True
        while improved:
            improved = False
            sizes = sorted({d for a in self.inputs.values() for d in a.shape if d > 1}, reverse=True)
            for size, other in ((s, o) for s in sizes for o in dict.fromkeys((1, 2, s // 2, s - 1)) if o < s):
                if self._resized(size, other):
                    improved = True
                    break

    def _resized(self, size: int, other: int) -> bool:
        before = dict(self.known)
        model = ModelProto()
        model.CopyFrom(self.model)
        for info in model.graph.input:
            array = self.known.get(info.name)
            if array is None:
                continue
            smaller = array[tuple(slice(0, other if d == size else d) for d in array.shape)]
            self.known[info.name] = np.ascontiguousarray(smaller)
            info.CopyFrom(helper.make_tensor_value_info(info.name, dt.from_numpy(array.dtype).code, smaller.shape))
        for info in model.graph.output:
            info.CopyFrom(helper.make_empty_tensor_value_info(info.name))
        if self._keeps(model):
            return True
        self.known = before
        return False


def _computed(model: ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What every node computes; nothing when the model cannot be read or run."""
    try:
        run: Run = of_graph(read_onnx(model), inputs, "oracle")
    except (StropError, RecursionError):
        return {}
    return {**{name: layer.array for name, layer in run.layers.items()}, **run.outputs}


def _types(model: ModelProto) -> dict[str, ValueInfoProto]:
    """Types of fixed shape that ONNX infers."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # raised in C++ for models that are not consistent
        inferred = model
    infos: Iterator[ValueInfoProto] = iter((*inferred.graph.value_info, *inferred.graph.output))
    return {i.name: i for i in infos if _fixed(i)}


def _fixed(info: ValueInfoProto) -> bool:
    tensor = info.type.tensor_type
    return tensor.elem_type != TensorProto.UNDEFINED and tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)
