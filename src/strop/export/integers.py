"""TFLite files in fewer bits: f16 weights, i8 weights of float products, and integers throughout.

The rules are those of TensorFlow Lite's quantization specification (ai.google.dev/edge/litert/models/quantization_spec): weights are
symmetric without -128, one scale per output channel; a bias is i32 (i64 beside i16) in units of the scales of x and of w; operators that
only move or pick elements have one grid for operands and results; softmax, logistic and tanh have fixed ones. Operators without an integer
kernel stay in floats between a DEQUANTIZE and a QUANTIZE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from strop.errors import OptionError
from strop.frontend.names import free_name
from strop.frontend.tflite.grid import Grid
from strop.frontend.tflite.records import OutGraph, OutOperator, OutTensor
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.op import Array
from strop.ops.base import highest, lowest
from strop.quantize.grid import affine
from strop.quantize.narrow import rounded
from strop.quantize.table import Table

#: Weights with fewer elements stay as they are in files whose activations are floats.
LEAST_WEIGHTS, LEAST_HALF = 1024, 8
#: Least scale.
_LEAST = 2.0**-100
#: Elements of a row that are tried first for a grid, and how far off it, in steps, one may lie.
_TRIED, _OFF = 64, 1e-4
#: Energy of an error that is a bit larger.
_BIT = 4.0
#: Products: place of x, of the weights, their axis of output channels, place of the bias.
PRODUCTS = {"CONV_2D": (0, 1, 0, 2), "DEPTHWISE_CONV_2D": (0, 1, 3, 2), "FULLY_CONNECTED": (0, 1, 0, 2), "TRANSPOSE_CONV": (2, 1, 0, 3)}
#: Products that take floats and i8 weights.
HYBRID = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
#: Operands and results have one grid; per operator which operands are elements, all if nothing is said.
SAME: dict[str, tuple[int, ...] | None] = {
    "AVERAGE_POOL_2D": None, "BROADCAST_TO": (0,), "CONCATENATION": None, "GATHER": (0,), "GATHER_ND": (0,), "MAXIMUM": None, "MAX_POOL_2D": None,
    "MINIMUM": None, "MIRROR_PAD": (0,), "PAD": (0,), "PADV2": (0, 2), "REDUCE_MAX": (0,), "REDUCE_MIN": (0,), "RESHAPE": (0,),
    "RESIZE_BILINEAR": (0,), "RESIZE_NEAREST_NEIGHBOR": (0,), "SELECT_V2": (1, 2), "SLICE": (0,), "SPLIT": (1,), "SPLIT_V": (0,), "STRIDED_SLICE": (0,),
    "TILE": (0,), "TOPK_V2": (0,), "TRANSPOSE": (0,),
}  # fmt: skip
#: Scale and zero point of the result, in 8 and in 16 bits.
FIXED = {
    "SOFTMAX": ((1 / 256, -128), (1 / 32768, 0)), "LOGISTIC": ((1 / 256, -128), (1 / 32768, 0)), "TANH": ((1 / 128, 0), (1 / 32768, 0)),
    "LOG_SOFTMAX": ((16 / 256, 127), None),
}  # fmt: skip
#: Any grids, in 8 bits; in 16 bits only those of the second list.
FREE = (
    "ADD", "SUB", "MUL", "MEAN", "SUM", "RELU", "RELU6", "LEAKY_RELU", "PRELU", "HARD_SWISH", "ABS", "SQUARED_DIFFERENCE", "BATCH_MATMUL", "GELU",
    "EXP", "ARG_MAX", "ARG_MIN",
)  # fmt: skip
FREE_16 = ("ADD", "SUB", "MUL", "MEAN", "RELU", "RELU6", "LEAKY_RELU", "BATCH_MATMUL")
SAME_16 = (
    "AVERAGE_POOL_2D", "CONCATENATION", "GATHER", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "PAD", "PADV2", "RESHAPE", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT", "STRIDED_SLICE", "TRANSPOSE",
)  # fmt: skip


def spread(graph: OutGraph) -> None:
    """Gives integers that are only moved the grid of what they come from or go to: operators over several tensors want one."""
    changed = True
    while changed:
        changed = False
        for operator in graph.operators:
            if operator.code not in SAME:
                continue
            ends = [t for t in (*elements_of(operator), *operator.outputs) if t.dtype in (dt.i8, dt.u8, dt.i16)]
            known = next((t.grid for t in ends if t.grid is not None and t.grid.scale.size == 1), None)
            for tensor in ends:
                if tensor.grid is None and known is not None:
                    tensor.grid, changed = known, True


def elements_of(operator: OutOperator) -> list[OutTensor]:
    """The operands whose elements an operator works on."""
    if operator.code in PRODUCTS:
        return [t for t in (operator.inputs[PRODUCTS[operator.code][0]],) if t is not None]
    places = SAME.get(operator.code)
    if places is None and operator.code in ("MEAN", "SUM", "ARG_MAX", "ARG_MIN"):
        places = (0,)
    chosen = operator.inputs if places is None else [operator.inputs[k] for k in places if k < len(operator.inputs)]
    return [t for t in chosen if t is not None]


# ---- weights only


def half(graph: OutGraph) -> int:
    """Makes float constants f16 behind a DEQUANTIZE each; answers how many elements saturate."""
    lost, made, first = 0, {}, []
    names = {t.name for t in graph.tensors()}
    for operator in graph.operators:
        for place, tensor in enumerate(operator.inputs):
            if tensor is None or tensor.data is None or tensor.dtype is not dt.f32 or tensor.data.size < LEAST_HALF:
                continue
            if tensor not in made:
                array, beyond = rounded(tensor.data, dt.f16)
                lost += beyond
                stored = OutTensor(_fresh(names, f"{tensor.name}_f16"), dt.f16, tensor.shape, data=array)
                made[tensor] = OutTensor(tensor.name, dt.f32, tensor.shape)
                first.append(OutOperator("DEQUANTIZE", [stored], [made[tensor]], "DequantizeOptions", {}, operator.layer))
            operator.inputs[place] = made[tensor]
    graph.operators[:0] = first
    return lost


def dynamic(graph: OutGraph) -> None:
    """Makes the weights of products i8, one scale per output channel; their activations are quantized while they run."""
    made: dict[OutTensor, OutTensor] = {}
    for operator in graph.operators:
        if operator.code not in HYBRID:
            continue
        _, place, axis, _ = PRODUCTS[operator.code]
        weights = operator.inputs[place]
        if weights is None or weights.data is None or weights.dtype is not dt.f32 or weights.data.size < LEAST_WEIGHTS:
            continue
        if weights not in made:
            made[weights] = OutTensor(weights.name, dt.i8, weights.shape)
            made[weights].data, made[weights].grid = weights_of(weights.data, axis)
        operator.inputs[place] = made[weights]


def weights_of(array: Array, axis: int, least: Array | None = None, whole: bool = False) -> tuple[Array, Grid]:
    """Weights as i8 from -127 on, and their grid: a scale per index of an axis, not below ``least``.

    Weights that lie on such a grid already, as those of networks that come quantized do, stay where they are. With ``whole`` there is one scale, as the specification has it for matrices, unless scales of their own would save a bit or more: rounding
    with the largest scale adds that scale's square over the mean square of all to the error's energy.
    """
    others = tuple(k for k in range(array.ndim) if k != axis)
    most = np.abs(array.astype(np.float64)).max(axis=others)
    floor = np.full(most.shape, _LEAST) if least is None else np.maximum(np.broadcast_to(least, most.shape), _LEAST)
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    exact = exact_scale(rows.reshape(1, -1)) if whole else np.zeros(1)
    if exact[0] >= floor.max():
        scale = exact.astype(np.float32)
    else:
        exact = exact_scale(rows)
        scale = np.maximum(np.where(exact > 0, exact, most / 127), floor).astype(np.float32)
        if whole and not (exact > 0).all() and float(scale.max()) ** 2 < _BIT * float(np.mean(scale.astype(np.float64) ** 2)):
            scale = scale.max(keepdims=True)
    places = np.rint(array / scale.reshape(tuple(-1 if k == axis else 1 for k in range(array.ndim))))
    return np.clip(places, -127, 127).astype(np.int8), Grid(scale, np.zeros(len(scale), np.int64), axis if len(scale) > 1 else 0)


def exact_scale(rows: Array) -> Array:
    """Per row the largest scale whose multiples up to 127 all its elements are, up to the rounding of f32; 0 where there is none.

    Args:
        rows: f32[R, N].

    Returns:
        f64[R].
    """
    wide = np.abs(rows.astype(np.float64))
    most = wide.max(axis=1)
    found = np.zeros(len(rows))
    open_ = np.flatnonzero(most > 0)
    some = np.unique(np.linspace(0, wide.shape[1] - 1, _TRIED).astype(np.int64))
    for steps in range(1, 128):
        if not open_.size:
            break
        scale = most[open_] / steps
        fits = _on_grid(wide[np.ix_(open_, some)], scale)
        fits[fits] = _on_grid(wide[open_[fits]], scale[fits])
        found[open_[fits]] = scale[fits]
        open_ = open_[~fits]
    return found


def _on_grid(rows: Array, scale: Array) -> NDArray[np.bool_]:
    places = rows / scale[:, None]
    fits: NDArray[np.bool_] = np.all(np.abs(places - np.rint(places)) < _OFF, axis=1)
    return fits


def _fresh(names: set[str], wanted: str) -> str:
    name = free_name(wanted, names, mark=".")
    names.add(name)
    return name


# ---- integers throughout


@dataclass
class Integers:
    """A file of integers that is being made.

    Attributes:
        graph: edited in place.
        table: ranges by the names of the graph's values.
        kind: i8 or i16, of activations.
        floats: names of operators that stay in floats, with their layers.
    """

    graph: OutGraph
    table: Table
    kind: DType
    floats: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names = {t.name for t in self.graph.tensors()}
        self._leader: dict[OutTensor, OutTensor] = {}
        self._grids: dict[OutTensor, Grid] = {}
        self._stored: dict[OutTensor, OutTensor] = {}
        self._reals: dict[OutTensor, OutTensor] = {}
        self._others: dict[tuple[OutTensor, bytes], OutTensor] = {}
        self._out: list[OutOperator] = []

    def run(self) -> None:
        """Quantizes every operator that has an integer kernel.

        Raises:
            OptionError: a range is missing.
        """
        operators = list(self.graph.operators)
        chosen = {id(o) for o in operators if self._serves(o)}
        self._group(o for o in operators if id(o) in chosen)
        for operator in operators:
            if id(operator) in chosen:
                self._integer(operator)
            else:
                self._float(operator)
        for name, tensor in self.graph.outputs.items():
            self.graph.outputs[name] = self.real(tensor)
        self.graph.operators = self._out

    # ---- what is chosen

    def _serves(self, operator: OutOperator) -> bool:
        wide = self.kind is dt.i16
        code = operator.code
        elements = elements_of(operator)
        if not elements or any(t.dtype is not dt.f32 for t in elements) or all(t.data is not None for t in elements):
            return False
        if code in PRODUCTS:
            _, w, _, bias = PRODUCTS[code]
            constants = [operator.inputs[k] for k in (w, bias) if k < len(operator.inputs)]
            return all(t is not None and t.data is not None for t in constants)
        if code in FIXED:
            return FIXED[code][int(wide)] is not None
        if code == "ARG_MAX" or code == "ARG_MIN":
            return not wide
        return code in (SAME_16 if wide else SAME) or code in (FREE_16 if wide else FREE)

    # ---- grids

    def _group(self, operators: Iterable[OutOperator]) -> None:
        """Joins tensors that have one grid. A fixed one is nobody's but its own."""
        operators = list(operators)
        fixed = {o.outputs[0] for o in operators if o.code in FIXED}
        members: dict[OutTensor, list[OutTensor]] = {}
        for operator in operators:
            if operator.code in SAME:
                ends = [t for t in (*elements_of(operator), *operator.outputs) if t.data is None and t not in fixed and t.dtype is dt.f32]
                for other in ends[1:]:
                    self._leader[self._top(other)] = self._top(ends[0])
            elif operator.code in FIXED:
                found = FIXED[operator.code][int(self.kind is dt.i16)]
                assert found is not None
                self._grids[operator.outputs[0]] = grid_of(*found)
        for tensor in self.graph.tensors():
            members.setdefault(self._top(tensor), []).append(tensor)
        self._members = members

    def _top(self, tensor: OutTensor) -> OutTensor:
        while tensor in self._leader and self._leader[tensor] is not tensor:
            tensor = self._leader[tensor]
        return tensor

    def grid(self, tensor: OutTensor) -> Grid:
        """The grid of a computed tensor."""
        if tensor in self._grids:
            return self._grids[tensor]
        top = self._top(tensor)
        if top not in self._grids:
            known = [self.table[t.value] for t in self._members[top] if t.value in self.table]
            if not known:
                raise OptionError(
                    "the range table has no range for a value that is quantized", where=tensor.value or tensor.name,
                    hint="calibrate with samples instead of a table",
                )  # fmt: skip
            self._grids[top] = self._over(min(e.low for e in known), max(e.high for e in known))
        return self._grids[top]

    def _over(self, low: float, high: float) -> Grid:
        if self.kind is dt.i16:
            return grid_of(max(abs(low), abs(high), _LEAST) / 32767, 0)
        found = affine(low, high, dt.i8)
        return grid_of(found.scale, found.zero)

    # ---- tensors

    def stored(self, tensor: OutTensor, grid: Grid | None = None) -> OutTensor:
        """A tensor as integers, on a grid other than its own if one is given."""
        wanted = grid or (self._over(float(tensor.data.min()), float(tensor.data.max())) if tensor.data is not None else self.grid(tensor))
        if tensor.data is not None:
            made = OutTensor(tensor.name, self.kind, tensor.shape, grid=wanted)
            made.data = _places(tensor.data, wanted, self.kind)
            return made
        if tensor not in self._stored:
            own = self._new(tensor, "_int", self.kind, self.grid(tensor))
            self._emit("QUANTIZE", tensor, own)
            self._stored[tensor] = own
        own = self._stored[tensor]
        assert own.grid is not None
        if own.grid.same(wanted):
            return own
        key = (tensor, wanted.scale.tobytes() + wanted.zero.tobytes())
        if key not in self._others:
            self._others[key] = self._new(tensor, "_again", self.kind, wanted)
            self._emit("QUANTIZE", own, self._others[key])
        return self._others[key]

    def real(self, tensor: OutTensor) -> OutTensor:
        """A tensor as floats."""
        if tensor not in self._stored or tensor.dtype is dt.f32:
            return tensor
        if tensor not in self._reals:
            self._reals[tensor] = self._new(tensor, "_float", dt.f32, None)
            self._emit("DEQUANTIZE", tensor, self._reals[tensor])
        return self._reals[tensor]

    def _new(self, tensor: OutTensor, mark: str, dtype: DType, grid: Grid | None) -> OutTensor:
        return OutTensor(_fresh(self._names, f"{tensor.name}{mark}"), dtype, tensor.shape, tensor.free, None, grid)

    def _emit(self, code: str, given: OutTensor, made: OutTensor) -> None:
        self._out.append(OutOperator(code, [given], [made], f"{code.capitalize()}Options"))

    # ---- operators

    def _float(self, operator: OutOperator) -> None:
        if any(t.dtype is dt.f32 for t in (*operator.operands, *operator.outputs)):
            self.floats.append(f"{operator.code} ({operator.layer})")
        operator.inputs = [None if t is None else self.real(t) for t in operator.inputs]
        self._out.append(operator)

    def _integer(self, operator: OutOperator) -> None:
        results = [t for t in operator.outputs if t.dtype is dt.f32]
        if operator.code in PRODUCTS:
            self._product(operator)
        else:
            shared = self.grid(results[0]) if operator.code in SAME and results else None
            elements = set(elements_of(operator))
            operator.inputs = [self.stored(t, shared) if t in elements and t is not None else t for t in operator.inputs]
        if operator.code in ("ADD", "SUB") and self.kind is dt.i16:
            operator.fields["PotScaleInt16"] = False
        for tensor in results:
            grid = self.grid(tensor)
            tensor.dtype, tensor.grid = self.kind, grid
            self._stored[tensor] = tensor
        self._out.append(operator)

    def _product(self, operator: OutOperator) -> None:
        x_place, w_place, axis, b_place = PRODUCTS[operator.code]
        x, weights = operator.inputs[x_place], operator.inputs[w_place]
        bias = operator.inputs[b_place] if b_place < len(operator.inputs) else None
        assert x is not None and weights is not None and weights.data is not None
        given = self.stored(x)
        assert given.grid is not None
        scale = given.grid.scale.astype(np.float64)
        least = None if bias is None or bias.data is None or self.kind is dt.i16 else np.abs(bias.data.astype(np.float64)) / (scale * 2.0**30)
        made = OutTensor(weights.name, dt.i8, weights.shape)
        made.data, made.grid = weights_of(weights.data, axis, least, whole=operator.code == "FULLY_CONNECTED")
        operator.inputs[x_place], operator.inputs[w_place] = given, made
        if bias is not None and bias.data is not None:
            wide = dt.i64 if self.kind is dt.i16 else dt.i32
            unit = (scale * made.grid.scale.astype(np.float64)).astype(np.float32)
            bound = 2.0**39 if wide is dt.i64 else 2.0**31 - 1
            places = np.clip(np.rint(bias.data / unit.astype(np.float64)), -bound, bound).astype(wide.numpy)
            operator.inputs[b_place] = OutTensor(bias.name, wide, bias.shape, data=places, grid=Grid(unit, np.zeros(len(unit), np.int64), 0))

    # ---- ends

    def ends(self, inputs: DType, outputs: DType) -> None:
        """Gives float inputs and outputs other types: integers on their grids."""
        for name, tensor in list(self.graph.inputs.items()):
            if tensor.dtype is not dt.f32 or inputs is dt.f32:
                continue
            readers = self.graph.readers().get(tensor, [])
            first = next((o for o in readers if o.code == "QUANTIZE"), None)
            if first is None:
                raise OptionError("an input is read by float operators only", where=f"input {name}", got=inputs, expected="f32")
            stored = first.outputs[0]
            assert stored.grid is not None
            given = OutTensor(tensor.name, inputs, tensor.shape, tensor.free, None, _moved(stored.grid, self.kind, inputs))
            if len(readers) > 1:
                real = OutTensor(_fresh(self._names, f"{tensor.name}_float"), dt.f32, tensor.shape, tensor.free)
                for reader in readers:
                    if reader is not first:
                        reader.inputs = [real if t is tensor else t for t in reader.inputs]
                self.graph.operators.insert(0, OutOperator("DEQUANTIZE", [given], [real], "DequantizeOptions"))
            self.graph.inputs[name] = given
            if inputs is self.kind:
                self.graph.operators.remove(first)
                _replace(self.graph, stored, given)
            else:
                first.inputs = [given]
        for name, tensor in list(self.graph.outputs.items()):
            maker = self.graph.makers().get(tensor)
            if tensor.dtype is not dt.f32 or outputs is dt.f32:
                continue
            if maker is None or maker.code != "DEQUANTIZE" or maker.inputs[0] is None or maker.inputs[0].dtype is not self.kind:
                raise OptionError("an output is made by a float operator", where=f"output {name}", got=outputs, expected="f32")
            stored = maker.inputs[0]
            assert stored.grid is not None
            if tensor not in self.graph.readers():
                self.graph.operators.remove(maker)
            if outputs is self.kind:
                self.graph.outputs[name] = stored
                continue
            made = OutTensor(_fresh(self._names, f"{name}_{outputs}"), outputs, tensor.shape, tensor.free, None, _moved(stored.grid, self.kind, outputs))
            self.graph.operators.append(OutOperator("QUANTIZE", [stored], [made], "QuantizeOptions"))
            self.graph.outputs[name] = made


def grid_of(scale: float, zero: int) -> Grid:
    """A grid with one scale."""
    return Grid(np.array([scale], np.float32), np.array([zero], np.int64), 0)


def _moved(grid: Grid, kind: DType, to: DType) -> Grid:
    """The grid of the same numbers in another type of as many bits."""
    return Grid(grid.scale, grid.zero + (int(lowest(to)) - int(lowest(kind))), grid.axis)


def _places(array: Array, grid: Grid, kind: DType) -> Array:
    places = np.rint(array.astype(np.float64) / grid.scale[0]) + grid.zero[0]
    found: Array = np.clip(places, int(lowest(kind)), int(highest(kind))).astype(kind.numpy)
    return found


def _replace(graph: OutGraph, old: OutTensor, new: OutTensor) -> None:
    for operator in graph.operators:
        operator.inputs = [new if t is old else t for t in operator.inputs]
    for name, tensor in graph.outputs.items():
        if tensor is old:
            graph.outputs[name] = new


def needed(graph: OutGraph) -> Sequence[str]:
    """The graph's values whose ranges integers need: all float tensors that are computed or given."""
    return list(dict.fromkeys(t.value for t in graph.tensors() if t.data is None and t.dtype is dt.f32 and t.value))
