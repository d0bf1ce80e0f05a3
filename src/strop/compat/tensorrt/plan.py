"""What a serialized engine carries beside the engine itself, so that it can be asked and refitted as TensorRT's."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from strop.engine.engine import Engine
from strop.errors import EngineFileError
from strop.ir.graph import Graph
from strop.ir.text import by_digest, parse, show
from strop.quantize.table import parse as parse_table

_PLAN, _GRAPH, _WEIGHTS = "tensorrt", "tensorrt.graph", "tensorrt.weights"


@dataclass
class Plan:
    """Facts of the build.

    Attributes:
        name: of the network.
        implicit_batch: shapes leave out the batch.
        max_batch: its largest size.
        inputs, outputs: names in the order of bindings.
        profiles: per profile, input name to [least, optimal, largest].
        weights: refittable weights: name to (layer, role, constant).
        verbosity: profiling verbosity.
        level: of optimization, for a refit.
        refittable: the engine carries the graph.
        layers: number of the network's layers.
        debug: tensors marked for debugging.
        plugins: what makes plugins again.
        precision: that layers were asked for.
        ranges: text of the range table that decided over integers; empty where random inputs did.
        lifted: layers that stay in another precision.
    """

    name: str = ""
    implicit_batch: bool = False
    max_batch: int = 1
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    profiles: list[dict[str, list[list[int]]]] = field(default_factory=list)
    weights: dict[str, list[str]] = field(default_factory=dict)
    verbosity: int = 0
    level: int = 3
    refittable: bool = False
    layers: int = 0
    debug: list[str] = field(default_factory=list)
    plugins: list[dict[str, Any]] = field(default_factory=list)
    precision: str = "fp32"
    ranges: str = ""
    lifted: dict[str, str] = field(default_factory=dict)

    def precision_arguments(self) -> dict[str, Any]:
        """The arguments of ``build`` that give this precision."""
        if self.precision == "fp32":
            return {}
        table = parse_table(self.ranges, "the attached ranges") if self.ranges else None
        return {"precision": self.precision, "calibration": table, "layer_precision": self.lifted}


def attach(engine: Engine, plan: Plan, graph: Graph | None) -> Engine:
    """The engine with a plan, and with the graph when its weights shall be refittable."""
    engine = engine.attach(_PLAN, json.dumps(asdict(plan)).encode())
    if graph is None:
        return engine
    stored = io.BytesIO()
    np.savez(stored, allow_pickle=False, **{k: _plain(a) for k, a in by_digest(graph).items()})
    return engine.attach(_GRAPH, show(graph).encode()).attach(_WEIGHTS, stored.getvalue())


def _plain(array: Any) -> Any:
    return np.ascontiguousarray(array)


def read(engine: Engine) -> Plan:
    """The plan of an engine; one made of what the engine itself says where it carries none."""
    data = engine.attachment(_PLAN)
    if data is None:
        return Plan(inputs=[t.name for t in engine.inputs], outputs=[t.name for t in engine.outputs])
    try:
        found = json.loads(data)
        return Plan(**{k: v for k, v in found.items() if k in Plan.__dataclass_fields__})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise EngineFileError("the attached plan is corrupt", where=str(engine.path), got=error) from error


def read_graph(engine: Engine) -> Graph:
    """The graph that a refittable engine carries."""
    text, stored = engine.attachment(_GRAPH), engine.attachment(_WEIGHTS)
    if text is None or stored is None:
        raise EngineFileError(
            "the engine is not refittable", where=str(engine.path), hint="build with BuilderFlag.REFIT"
        )
    try:
        with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
            constants = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, KeyError) as error:
        raise EngineFileError("the attached weights are corrupt", where=str(engine.path), got=error) from error
    return parse(text.decode("utf-8", "replace"), constants)
