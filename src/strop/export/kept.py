"""TFLite files of networks that come quantized: what is computed between a DEQUANTIZE and a QUANTIZE is computed in integers, on the network's own grids.

Before: QUANTIZE(CONV_2D(DEQUANTIZE(x), w, b)).
After: CONV_2D(x, w as i8, b as i32), with the grids of x and of the result.

Unless: a result is also wanted in floats, an operator has no integer kernel for the grids, or a grid has a scale per channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from strop.export.integers import FIXED, SAME, Integers, elements_of, grid_of
from strop.frontend.tflite.grid import Grid
from strop.frontend.tflite.records import OutGraph, OutOperator, OutTensor
from strop.ir import dtype as dt
from strop.ops.base import lowest
from strop.quantize.table import Table

#: Of the operators whose ends have one grid, those that compute new numbers.
_MIXING = ("AVERAGE_POOL_2D", "RESIZE_BILINEAR")


def keep(graph: OutGraph) -> None:
    """Edits the graph."""
    if not any(operator.code == "QUANTIZE" for operator in graph.operators):
        return
    _sign(graph)
    for kind in (dt.i8, dt.i16):
        Kept(graph, Table({}), kind).run()


class Kept(Integers):
    """Integers on the grids that the file has; ``table`` is empty, ``floats`` stays so."""

    def run(self) -> None:
        """Computes in integers what has a grid of ``kind`` at every end."""
        operators, readers, ends = list(self.graph.operators), self.graph.readers(), set(self.graph.outputs.values())
        for operator in operators:
            self._learn(operator, readers, ends)
        for operator in operators:
            self._spread(operator, operator.outputs)
        for operator in reversed(operators):
            alone = [t for t in elements_of(operator) if len(readers[t]) == 1 and t not in ends]
            self._spread(operator, alone)
        chosen = {id(o) for o in operators if self._serves(o) and self._known(o)}
        same: dict[OutTensor, OutTensor] = {}
        floats = {name for name, t in self.graph.outputs.items() if t.dtype is dt.f32}
        for operator in operators:
            if id(operator) in chosen:
                operator.inputs = [t if t is None else same.get(t, t) for t in operator.inputs]
                self._integer(operator)
            elif operator.code == "QUANTIZE" and operator.operands[0] in self._stored and self._is_own(operator.outputs[0]):
                self._requantize(operator, same)
            else:
                operator.inputs = [t if t is None else same[t] if t in same else self.real(t) for t in operator.inputs]
                if operator.code == "DEQUANTIZE" and operator.outputs[0] in self._stored:
                    self._stored[operator.outputs[0]] = operator.operands[0]
                self._out.append(operator)
        results = {name: same.get(t, t) for name, t in self.graph.outputs.items()}
        self.graph.outputs.update({name: self.real(t) if name in floats else t for name, t in results.items()})
        self.graph.operators = self._out
        _drop_unread(self.graph)

    def _is_own(self, tensor: OutTensor) -> bool:
        return tensor.dtype is self.kind and tensor.data is None and tensor.grid is not None and tensor.grid.scale.size == 1

    def _learn(self, operator: OutOperator, readers: Mapping[OutTensor, Sequence[OutOperator]], ends: Set[OutTensor]) -> None:
        """The grids of what a DEQUANTIZE makes, and of what is only read by QUANTIZE and is none of the ends."""
        for tensor in operator.outputs:
            if operator.code == "DEQUANTIZE" and self._is_own(operator.operands[0]):
                stored = operator.operands[0]
                self._stored[tensor] = stored
            else:
                places = [o.outputs[0] for o in readers.get(tensor, []) if o.code == "QUANTIZE"]
                if tensor.dtype is not dt.f32 or tensor in ends or not places or len(places) < len(readers[tensor]):
                    continue
                stored = places[0]
                if not all(self._is_own(t) and t.grid is not None and t.grid.same(stored.grid) for t in places):
                    continue
            assert stored.grid is not None
            self._grids[tensor] = stored.grid

    def _spread(self, operator: OutOperator, to: Sequence[OutTensor]) -> None:
        """Gives what an operator only moves or picks the grid that its other ends have."""
        if operator.code not in SAME or operator.code in _MIXING:
            return
        ends = [t for t in (*elements_of(operator), *operator.outputs) if t.data is None and t.dtype is dt.f32]
        known = [self._grids[t] for t in ends if t in self._grids]
        for tensor in to:
            if known and tensor in ends and tensor not in self._grids and all(known[0].same(g) for g in known):
                self._grids[tensor] = known[0]

    def _known(self, operator: OutOperator) -> bool:
        """Whether the ends of an operator have grids that its kernel of integers takes."""
        ends = [t for t in elements_of(operator) if t.data is None]
        if any(t not in self._stored and t not in self._grids for t in ends):
            return False
        results = [t for t in operator.outputs if t.dtype is dt.f32]
        if any(t not in self._grids for t in results):
            return False
        if operator.code in FIXED:
            wanted = FIXED[operator.code][int(self.kind is dt.i16)]
            return wanted is not None and self._grids[results[0]].same(grid_of(*wanted))
        if operator.code in SAME and results:
            return all(self._grids[t].same(self._grids[results[0]]) for t in (*ends, *results))
        return True

    def _requantize(self, operator: OutOperator, same: dict[OutTensor, OutTensor]) -> None:
        """A QUANTIZE of what is stored as integers: nothing where the grid is the same, else integers to integers."""
        stored, made = self._stored[operator.operands[0]], operator.outputs[0]
        assert stored.grid is not None
        if stored.grid.same(made.grid) and not (stored in self.graph.inputs.values() and made in self.graph.outputs.values()):
            same[made] = stored
            return
        operator.inputs = [stored]
        self._out.append(operator)


def _sign(graph: OutGraph) -> None:
    """Makes u8 tensors between QUANTIZE and DEQUANTIZE i8, the same numbers less 128; at the ends of the graph they are converted."""
    makers, readers = graph.makers(), graph.readers()
    for tensor in graph.tensors():
        touching = [o for o in (makers.get(tensor), *readers.get(tensor, [])) if o is not None]
        fits = tensor.dtype is dt.u8 and tensor.data is None and tensor.grid is not None and tensor.grid.scale.size == 1
        if not fits or any(o.code not in ("QUANTIZE", "DEQUANTIZE") for o in touching):
            continue
        assert tensor.grid is not None
        grid = Grid(tensor.grid.scale, tensor.grid.zero + int(lowest(dt.i8)), tensor.grid.axis)
        given, result = tensor in graph.inputs.values(), tensor in graph.outputs.values()
        if not given and not result:
            tensor.dtype, tensor.grid = dt.i8, grid
            continue
        made = OutTensor(f"{tensor.name}_i8", dt.i8, tensor.shape, tensor.free, None, grid)
        for operator in readers.get(tensor, []):
            operator.inputs = [made if t is tensor else t for t in operator.inputs]
        ends = [tensor, made]
        if tensor in makers:
            makers[tensor].outputs = [made]
            ends.reverse()
        place = 0 if given else len(graph.operators)
        graph.operators.insert(place, OutOperator("QUANTIZE", [ends[0]], [ends[1]], "QuantizeOptions"))


def _drop_unread(graph: OutGraph) -> None:
    """Takes away each DEQUANTIZE whose result nothing reads."""
    readers, ends = graph.readers(), set(graph.outputs.values())
    graph.operators = [o for o in graph.operators if o.code != "DEQUANTIZE" or o.outputs[0] in readers or o.outputs[0] in ends]
