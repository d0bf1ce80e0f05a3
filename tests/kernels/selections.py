"""Runs every sample of ops that find sizes in one engine: how large results are is known after the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from strop.engine.build import build
from strop.engine.engine import Engine
from strop.ir import dtype as dt
from strop.ir import interp
from strop.ir.graph import Graph
from strop.ir.op import Array, Sample, Type
from strop.ops.data import Transpose
from tests.kernels import regions


@dataclass
class Problem:
    """An engine of many nodes, each over inputs of its own, and what goes in."""

    graph: Graph
    engine: Engine
    feeds: dict[str, Array]

    def check(self, threads: int = 1) -> None:
        """All outputs are the oracle's: in number, type and every element."""
        got = self.engine.context(threads=threads).run(self.feeds)
        wanted = interp.run(self.graph, self.feeds)
        assert list(got) == list(wanted)
        for name, want in wanted.items():
            assert got[name].dtype == want.dtype and got[name].shape == want.shape, name
            np.testing.assert_array_equal(got[name], want, err_msg=name)


def problem(name: str, turned: bool = False, threads: int = 1) -> Problem:
    """All samples of an op; ``turned``: the first operand lies with its axes reversed."""
    graph = Graph(name)
    feeds: dict[str, Array] = {}
    results = []
    for number, sample in enumerate(numbered(regions.samples(name))):
        operands = []
        for k, array in enumerate(sample.inputs):
            backwards = tuple(reversed(range(array.ndim)))
            turn = turned and k == 0 and array.ndim > 1
            lies = np.ascontiguousarray(array.transpose(backwards)) if turn else array
            label = f"x{number}_{k}"
            value = graph.add_input(label, Type(dt.from_numpy(array.dtype), lies.shape))
            feeds[label] = lies
            operands.append(graph.add(Transpose(backwards), [value]).output if turn else value)
        node = graph.add(sample.op, operands, name=f"n{number}")
        results += node.outputs
    graph.set_outputs(results)
    return Problem(graph, build(graph, level=0, threads=threads), feeds)


def numbered(samples: Sequence[Sample]) -> Iterator[Sample]:
    """The samples with symbols of different names."""
    for number, sample in enumerate(samples):
        renamed = {}
        for field, value in sample.op.attributes().items():
            if value in sample.op.computed:
                renamed[field] = replace(value, name=f"{value.name}_{number}")
            elif isinstance(value, tuple) and set(value) & set(sample.op.computed):
                renamed[field] = tuple(replace(s, name=f"{s.name}_{number}") for s in value)
        yield Sample(sample.op.replace(**renamed), sample.inputs, sample.note)
