"""The network: tensors and layers in the order in which they were added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from strop.errors import GraphError, ModelError, ShapeError, UnsupportedError
from strop.frontend.network.layer import Emitter, Layer, Tensor
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Value
from strop.ir.op import Type
from strop.ir.shape import Dim, Shape, Sym

LayerT = TypeVar("LayerT", bound=Layer)
#: Least, optimal and largest shape of an input.
Range = tuple[Sequence[int], Sequence[int], Sequence[int]]
_FREE = 1 << 20


class Network:
    """A network under construction.

    Args:
        name: of the network.
        implicit_batch: shapes and axes leave out the batch, which is axis 0 of everything but constants, as in TensorRT before 10.
    """

    def __init__(self, name: str = "network", *, implicit_batch: bool = False) -> None:
        self.name = name
        self.implicit_batch = implicit_batch
        self.layers: list[Layer] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._declared: dict[Tensor, tuple[DType, tuple[int, ...]]] = {}
        self._tensors: dict[str, Tensor] = {}
        self._names: set[str] = set()
        self._draft: _Draft | None = None

    # ---- building

    def add_input(self, name: str, dtype: str | DType, shape: Sequence[int]) -> Tensor:
        """Declares an input.

        Args:
            name: unique.
            dtype: ``f32``, ``i32`` ...
            shape: sizes, -1 for free ones; without the batch where it is implicit.

        Raises:
            GraphError: the name is taken.
            ShapeError: a size below -1.
        """
        kind = dt.BY_NAME.get(dtype) if isinstance(dtype, str) else dtype
        sizes = tuple(int(d) for d in shape)
        if kind is None:
            raise ShapeError("unknown dtype", where=name, got=dtype, expected=", ".join(dt.BY_NAME))
        if any(d < -1 for d in sizes):
            raise ShapeError("a size is negative", where=name, got=sizes, expected="sizes, or -1 for a free one")
        tensor = self._tensor(name, None, 0)
        self._declared[tensor] = (kind, sizes)
        self.inputs.append(tensor)
        self._draft = None
        return tensor

    def add(self, layer: LayerT, *inputs: Tensor | None, name: str = "") -> LayerT:
        """Adds a layer that reads ``inputs``; results are ``layer.outputs``.

        Raises:
            GraphError: the layer was added before, or an operand belongs to another network.
            ShapeError: parameters or the number of operands do not fit the kind of layer. What depends on shapes is found when
                a shape is asked for, or at the build.
        """
        if layer._network is not None:
            raise GraphError("the layer is part of a network already", where=layer.name)
        least, most = layer.arity
        if len(inputs) < least or (most is not None and len(inputs) > most):
            wanted = f"{least}" if least == most else f"{least} to {most or 'any number'}"
            raise ShapeError(f"{layer.kind} takes {wanted} operands", where=name or layer.kind, got=len(inputs))
        for tensor in inputs:
            if tensor is not None and tensor.network is not self:
                raise GraphError("operand belongs to another network", where=name or layer.kind, got=tensor)
        layer.name = name or f"(Unnamed Layer* {len(self.layers)}) [{layer.kind}]"
        layer.check()
        layer.inputs = list(inputs)
        layer.outputs = []
        for index in range(layer.results()):
            layer.outputs.append(self._tensor(f"{layer.name}_output" + f"_{index}" * bool(index), layer, index))
        layer._network = self
        self.layers.append(layer)
        return layer

    def mark_output(self, tensor: Tensor, name: str | None = None) -> None:
        """Makes a tensor an output of the network, under another name when one is given."""
        if name is not None:
            tensor.name = name
        if tensor in self.outputs:
            raise GraphError("the tensor is an output already", where=tensor.name)
        self.outputs.append(tensor)

    def unmark_output(self, tensor: Tensor) -> None:
        """Makes a tensor no output any more."""
        if tensor not in self.outputs:
            raise GraphError("the tensor is no output", where=tensor.name)
        self.outputs.remove(tensor)

    def rename(self, tensor: Tensor, name: str) -> None:
        """Gives a tensor another name; GraphError when it is taken."""
        if self._tensors.get(name, tensor) is not tensor:
            raise GraphError("tensor name is taken", where=tensor.name, got=name)
        self._tensors.pop(tensor._name, None)
        self._tensors[name] = tensor
        tensor._name = name

    def _tensor(self, name: str, producer: Layer | None, index: int) -> Tensor:
        if producer is None and name in self._tensors:
            raise GraphError("input name is taken", where=name)
        unique, number = name, 1
        while unique in self._tensors:
            unique, number = f"{name}.{number}", number + 1
        tensor = Tensor(self, unique, producer, index)
        self._tensors[unique] = tensor
        return tensor

    # ---- questions

    def tensors(self) -> Iterator[Tensor]:
        """All tensors, in the order of creation."""
        return iter(self._tensors.values())

    def tensor(self, name: str) -> Tensor | None:
        """The tensor of a name."""
        return self._tensors.get(name)

    def layer_changed(self, layer: Layer) -> None:
        """Types that were inferred are forgotten when they may depend on the layer."""
        if self._draft is not None and self._draft.has(layer):
            self._draft = None

    def forget(self) -> None:
        """Types that were inferred are inferred anew."""
        self._draft = None

    def type_of(self, tensor: Tensor) -> Type:
        """dtype and shape of a tensor."""
        if self._draft is None:
            self._draft = _Draft(self, {}, 1)
        return self._draft.value(tensor).type

    def to_graph(self, ranges: Mapping[str, Range] | None = None, *, batch: int = 1) -> Graph:
        """The network as a graph, layers that no output needs left out.

        Args:
            ranges: input name to (least, optimal, largest) shape; for every input with free axes.
            batch: largest implicit batch; more than 1 makes it free within 1..batch.

        Raises:
            ModelError: no output is marked, or an input with free axes has no range.
            ShapeError: a layer's operands do not fit.
        """
        if not self.outputs:
            raise ModelError("the network has no output", where=self.name, hint="network.mark_output(tensor)")
        ranges = ranges or {}
        for tensor in self.inputs:
            if -1 in self._declared[tensor][1] and tensor.name not in ranges:
                raise ModelError(
                    "an input with free axes has no range",
                    where=tensor.name,
                    got=self._declared[tensor][1],
                    expected="least, optimal and largest shape",
                )
        draft = _Draft(self, ranges, batch)
        values = [draft.value(tensor) for tensor in self.outputs]
        for layer in self.layers:
            if not layer.outputs:
                draft.check(layer)
        draft.graph.set_outputs(values, [tensor.name for tensor in self.outputs])
        return draft.graph

    def declared(self, tensor: Tensor) -> tuple[DType, tuple[int, ...]]:
        """dtype and shape that an input was added with."""
        return self._declared[tensor]

    def declare(self, tensor: Tensor, dtype: DType, shape: Sequence[int]) -> None:
        """Gives an input another dtype or shape."""
        if tensor not in self._declared:
            raise GraphError("the tensor is no input of the network", where=tensor.name)
        self._declared[tensor] = (dtype, tuple(shape))
        self._draft = None

    def __repr__(self) -> str:
        return f"Network({self.name}: {len(self.inputs)} inputs, {len(self.layers)} layers, {len(self.outputs)} outputs)"


class _Draft:
    """The graph as far as it has been asked for."""

    def __init__(self, network: Network, ranges: Mapping[str, Range], batch: int) -> None:
        self.graph = Graph(network.name)
        self._emitter = Emitter(self.graph, network.implicit_batch, self)
        self._values: dict[Tensor, Value] = {}
        self._done: set[int] = set()
        self._symbols: dict[str, Sym] = {}
        for tensor in network.inputs:
            dtype, shape = network.declared(tensor)
            dims = self._dims(tensor, shape, ranges.get(tensor.name))
            if network.implicit_batch:
                dims = (Sym("batch", 1, batch, batch) if batch > 1 else 1, *dims)
            self._values[tensor] = self.graph.add_input(tensor.name, Type(dtype, dims))

    def _dims(self, tensor: Tensor, shape: tuple[int, ...], limits: Range | None) -> Shape:
        dims: list[Dim] = []
        if limits is not None and any(len(part) != len(shape) for part in limits):
            raise ShapeError("a range has another rank than its input", where=tensor.name, got=limits, expected=shape)
        for axis, size in enumerate(shape):
            low, best, high = (part[axis] for part in limits) if limits else (1, 1, _FREE)
            if size != -1 and limits and {low, best, high} != {size}:
                raise ShapeError("a range does not fit a fixed axis", where=tensor.name, got=(low, best, high), expected=size)
            if not 0 < low <= best <= high:
                raise ShapeError("a range is out of order", where=tensor.name, got=(low, best, high), expected="0 < least <= optimal <= largest")
            if size != -1 or low == high:
                dims.append(low if size == -1 else size)
            else:
                dims.append(self._symbol(tensor, axis, low, best, high))
        return tuple(dims)

    def _symbol(self, tensor: Tensor, axis: int, low: int, best: int, high: int) -> Sym:
        """Free axes of one name are one symbol, and so are first axes with one range: the batch."""
        name = tensor.axis_names.get(axis) or (f"batch_{low}_{best}_{high}" if axis == 0 else f"{tensor.name}.{axis}")
        name = "".join(c if c.isalnum() else "_" for c in name)
        found = self._symbols.setdefault(name, Sym(name, low, best, high))
        if found != Sym(name, low, best, high):
            raise ShapeError("axes of one name have different ranges", where=tensor.name, got=(low, best, high), expected=(found.min, found.opt, found.max))
        return found

    def has(self, layer: Layer) -> bool:
        """Whether the layer has been emitted."""
        return id(layer) in self._done

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor; emits what it needs and is not there yet."""
        pending = [tensor.producer] if tensor.producer is not None and tensor not in self._values else []
        open_layers: set[int] = set()
        while pending:
            layer = pending[-1]
            missing = [t.producer for t in layer.needs() if t not in self._values and t.producer is not None]
            if missing and id(layer) in open_layers:
                raise GraphError("the network has a cycle", where=layer.name)
            if missing:
                open_layers.add(id(layer))
                pending.extend(missing)
                continue
            pending.pop()
            if id(layer) not in self._done:
                self._emit(layer)
        return self._values[tensor]

    def emitted(self, tensor: Tensor) -> Value | None:
        """The value of a tensor; None where it is not there yet."""
        return self._values.get(tensor)

    def _emit(self, layer: Layer) -> None:
        given = [None if t is None else self._values.get(t) for t in layer.inputs]
        self._values.update(zip(layer.outputs, self._made(layer, given), strict=True))
        self._done.add(id(layer))

    def check(self, layer: Layer) -> None:
        """Emits a layer without results, which only looks at its operands."""
        for tensor in layer.needs():
            self.value(tensor)
        self._emit(layer)

    def _made(self, layer: Layer, operands: list[Value | None]) -> list[Value]:
        """The results of a layer for these operands."""
        e = self._emitter
        outer, e.layer = e.layer, layer.name
        while operands and operands[-1] is None:
            operands.pop()
        try:
            made = layer.emit(e, *operands)  # type: ignore[arg-type]
        except ShapeError as error:
            if error.where == layer.name:
                raise
            raise ShapeError(error.what, where=layer.name, got=error.got, expected=error.expected, hint=error.hint) from error
        finally:
            e.layer = outer
        return [made] if isinstance(made, Value) else list(made)

    def replayed(self, tensor: Tensor, known: Mapping[Tensor, Value]) -> Value:
        """The value that a tensor would have if others had these: what depends on them is emitted once more."""
        made = dict(known)
        order: list[Layer] = []
        seen: dict[Layer, bool] = {}

        def depends(t: Tensor) -> bool:
            if t in made or t.producer is None:
                return t in made
            layer = t.producer
            if layer not in seen:
                seen[layer] = False  # a cycle leads back to what is known, or to itself
                for operand in layer.needs():
                    seen[layer] |= depends(operand)
                if seen[layer]:
                    order.append(layer)
            return seen[layer]

        if not depends(tensor):
            return self.value(tensor)
        for layer in order:
            if layer.joined:
                raise UnsupportedError(f"a {layer.kind} within what is computed before a round begins", where=layer.name)
            operands = [None if t is None else made[t] if t in made else self.value(t) for t in layer.inputs]
            made.update(zip(layer.outputs, self._made(layer, operands), strict=True))
        return made[tensor]
