"""Ranges of a network's values on given samples: the float engine runs step by step, and observers look at what each step has written.

Memory does not grow with the number of samples: an observer has a fixed number of bins, one batch and one copied value are alive at a time.
Values that no step writes become further outputs, in portions that are small beside the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from strop.engine.engine import Engine
from strop.engine.values import Reader
from strop.errors import OptionError
from strop.ir import shape as sh
from strop.ir.control import loops
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Op
from strop.ops.data import Reshape, Transpose
from strop.quantize.data import Samples
from strop.quantize.observe import Observer
from strop.quantize.ranges import Calibrator
from strop.quantize.table import Entry, Table
from strop.runtime.context import Context
from strop.trace import Trace

#: Makes an engine of a portable graph, for this machine.
Compile = Callable[[Graph], Engine]
#: The further outputs of one portion may take this share of the bytes of the constants, those of the largest value, or _ROOM bytes, which
#: is little beside the process itself. Each portion is an engine to compile.
_SHARE, _ROOM = 4, 24 << 20
#: Called with a value and the array that it has for one batch; the array is overwritten by the next one.
Look = Callable[[Value, Array], None]


@dataclass
class Means:
    """Mean per index of an axis, over all that was seen: float64.

    Attributes:
        axis: of the array.
    """

    axis: int
    total: Array | None = None
    count: int = 0

    def see(self, array: Array) -> None:
        """Takes in an array."""
        others = tuple(k for k in range(array.ndim) if k != self.axis)
        sums = array.sum(axis=others, dtype=np.float64)
        self.total = sums if self.total is None else self.total + sums
        self.count += array.size // max(1, array.shape[self.axis])

    @property
    def mean(self) -> Array:
        """The mean; needs at least one array."""
        assert self.total is not None
        return np.asarray(self.total / self.count)


@dataclass
class Observed:
    """What calibration saw.

    Attributes:
        observers: by value name.
        means: of the channels of layer inputs, by value name.
        batches: how many were run.
        samples: how many single samples these hold.
    """

    observers: dict[str, Observer] = field(default_factory=dict)
    means: dict[str, Means] = field(default_factory=dict)
    batches: int = 0
    samples: int = 0

    def table(self, calibrator: Calibrator) -> Table:
        """The ranges that a calibrator chooses."""
        entries: dict[str, Entry] = {}
        for name, seen in self.observers.items():
            low, high = calibrator.range_of(seen)
            entries[name] = Entry(low, high, calibrator.text, self.samples)
        return Table(entries)


def observe(
    graph: Graph, values: Sequence[Value], samples: Samples, compile: Compile, trace: Trace, axes: Mapping[str, int] | None = None
) -> Observed:
    """Runs samples through the float network and watches values.

    Args:
        graph: portable.
        values: of the graph, to be watched.
        samples: for the graph's inputs.
        compile: makes engines for this machine.
        trace: told about progress, and of values that are never finite.
        axes: value name to the axis whose means are wanted too.

    Raises:
        InputError: samples do not fit.
        OptionError: the network has loops, whose values are others in every round.
    """
    if inner := loops(graph):
        raise OptionError(
            "a network with loops is not calibrated", where=inner[0].begin.name, got=f"loops: {len(inner)}", expected="a network whose steps all run once",
            hint="precision='bf16' and 'w8' need no samples; precision='auto' leaves such a network in fp32",
        )  # fmt: skip
    found = Observed({v.name: Observer() for v in values}, {name: Means(axis) for name, axis in (axes or {}).items()})

    def look(value: Value, array: Array) -> None:
        found.observers[value.name].see(array)
        if value.name in found.means:
            found.means[value.name].see(array)

    found.batches, found.samples = watch(graph, values, samples, compile, look, trace)
    for name, seen in found.observers.items():
        if seen.odd:
            trace.note(f"calibration: {name} has {seen.odd} values that are infinite or NaN; they are left out")
    return found


def watch(graph: Graph, values: Sequence[Value], samples: Samples, compile: Compile, look: Look, trace: Trace) -> tuple[int, int]:
    """Runs samples and shows values batch by batch; answers the number of batches and of samples.

    What the float engine has in memory is read between its steps. Values that exist only inside a kernel become further outputs of another
    engine, a portion of them at a time; for samples that can be walked only once, all of them at once and nothing between steps.
    """
    counts = (0, 0)
    taps = None if samples.once else Taps(graph, values, compile(graph))
    rest = list(values) if taps is None else taps.missing
    if taps is not None and len(rest) < len(values):
        with closing(taps.engine.context(threads=1)) as context:
            counts = _walk(samples, lambda inputs: taps.run(context, inputs, look), trace)
    for portion in portions(graph, rest, samples.once):
        engine = compile(tapped(graph, portion))
        free = any(tensor.is_dynamic for tensor in engine.inputs)
        with closing(engine.context()) as context:
            buffers: dict[str, Array] = {}

            def run(inputs: Mapping[str, Array], part: Sequence[Value] = portion, context: Context = context, free: bool = free) -> None:
                nonlocal buffers
                results = context.run(inputs, out=buffers)
                buffers = {} if free else results
                for value in part:
                    look(value, inputs[value.name] if value.producer is None else results[tap_name(graph, value)])

            counts = _walk(samples, run, trace)
    return counts


def _walk(samples: Samples, run: Callable[[Mapping[str, Array]], object], trace: Trace) -> tuple[int, int]:
    """Calls a function with the inputs of every batch; how many batches, and how many samples these hold."""
    batches = total = 0
    for batch in samples:
        run(batch.inputs)
        batches += 1
        first = next(iter(batch.inputs.values()), None)
        total += first.shape[0] if first is not None and first.ndim else 1
        trace.report("quantize", batches, 0)
    return batches, total


class Taps:
    """Reads values of a graph between the steps of an engine of it; nothing about the engine changes.

    Attributes:
        missing: values that the engine does not have in memory.
    """

    def __init__(self, graph: Graph, values: Sequence[Value], engine: Engine) -> None:
        self.engine = engine
        self._reader = Reader(engine)
        self._views: dict[str, list[tuple[Value, list[Op]]]] = {}
        self.missing: list[Value] = []
        for value in values:
            base, ops = _base(value, self._reader.names)
            if base is None:
                self.missing.append(value)
            else:
                self._views.setdefault(base.name, []).append((value, ops))
        self._inputs = [v.name for v in graph.inputs if v.name in self._views]

    def run(self, context: Context, inputs: Mapping[str, Array], look: Look) -> dict[str, Array]:
        """Runs once and shows every value that is not missing; answers the outputs."""

        def show(name: str, array: Array) -> None:
            for value, ops in self._views.get(name, ()):
                seen = array
                for op in ops:
                    (seen,) = op.reference(seen)
                look(value, seen)

        for name in self._inputs:
            show(name, np.asarray(inputs[name]))
        return self._reader.run(context, inputs, self._views.keys(), show)


def _base(value: Value, known: Collection[str]) -> tuple[Value | None, list[Op]]:
    """The value in memory that a value is a view of, itself at best, and the ops between them; None when there is none."""
    ops: list[Op] = []
    while value.producer is not None and value.name not in known:
        if not isinstance(value.producer.op, (Reshape, Transpose)) or not sh.is_static(value.shape):
            return None, []
        ops.insert(0, value.producer.op)
        value = value.producer.operand(0)
    return (None, []) if value.const is not None else (value, ops)


def tapped(graph: Graph, values: Sequence[Value]) -> Graph:
    """A copy of the graph with values as further outputs; outputs that are no value of it are left as they are."""
    copy = graph.clone()
    taps = [v for v in values if v.producer is not None and not graph.is_output(v)]
    copy.set_outputs([*copy.outputs, *(copy.values[v.name] for v in taps)], [*copy.output_names, *(tap_name(graph, v) for v in taps)])
    return copy


def tap_name(graph: Graph, value: Value) -> str:
    """The name under which a value is an output of the tapped graph."""
    for output, name in zip(graph.outputs, graph.output_names, strict=True):
        if output is value:
            return name
    return f"tap {value.name}"


def portions(graph: Graph, values: Sequence[Value], whole: bool, room: int = _ROOM) -> Iterator[list[Value]]:
    """Parts of the values whose arrays together are small beside the network; all of them in one part for ``whole``."""
    sizes = [_bytes(v) for v in values]
    constants = sum(v.const.nbytes for v in graph.constants() if v.const is not None)
    room = max([constants // _SHARE, room, *sizes])
    part: list[Value] = []
    used = 0
    for value, size in zip(values, sizes, strict=True):
        if part and used + size > room and not whole:
            yield part
            part, used = [], 0
        part.append(value)
        used += size
    if part:
        yield part


def _bytes(value: Value) -> int:
    known = {s.name: s.opt for s in sh.symbols(value.shape)}
    return value.type.at(known).nbytes
