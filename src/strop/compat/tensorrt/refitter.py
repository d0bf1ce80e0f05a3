"""Refitter: other weights in an engine that was built for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.compat.tensorrt import plan as plans
from strop.compat.tensorrt.basics import FAILURES, ILogger, Managed, Weights, array_of, failed
from strop.compat.tensorrt.enums import TensorLocation, WeightsRole
from strop.engine.build import build
from strop.errors import InputError


class Refitter(Managed):
    """Sets weights by layer and role or by name, and builds the engine again with the records of its first build."""

    def __init__(self, engine: Any, logger: ILogger) -> None:
        self.engine, self.logger = engine, logger
        self.error_recorder: Any = None
        self.max_threads = 1
        self.weights_validation = True
        self._graph = plans.read_graph(engine.own)
        self._given: dict[str, np.ndarray[Any, Any]] = {}

    def set_weights(self, layer_name: str, role: Any, weights: Any) -> bool:
        """Weights of a layer; False where there are none of this role or their number differs."""
        for name, (layer, theirs, _) in self.engine.plan.weights.items():
            if layer == layer_name and theirs in (role.name, "ANY"):
                return self.set_named_weights(name, weights)
        failed(self.logger, f"layer {layer_name} has no weights of role {role.name}")
        return False

    def set_named_weights(self, name: str, weights: Any, location: Any = TensorLocation.HOST) -> bool:
        """Weights of a name; False where there are none or their number differs."""
        try:
            old, new = self._constant(name), array_of(weights)
            if new is None or new.size != old.size:
                raise InputError("other weights have another size", where=name, got=None if new is None else new.shape, expected=old.shape)
            self._given[name] = np.ascontiguousarray(new.reshape(old.shape), old.dtype)
        except FAILURES as error:
            failed(self.logger, error)
            return False
        return True

    def unset_named_weights(self, weights_name: str) -> bool:
        """Forgets weights that were set."""
        return self._given.pop(weights_name, None) is not None

    def _constant(self, name: str) -> np.ndarray[Any, Any]:
        row = self.engine.plan.weights.get(name)
        value = self._graph.values.get(row[2]) if row else None
        if value is None or value.const is None:
            raise InputError("the engine has no weights of this name", got=name, expected="one of get_all_weights()")
        return value.const

    def get_named_weights(self, weights_name: str, location: Any = TensorLocation.HOST) -> Weights:
        """Weights as they are set."""
        return Weights(self._given.get(weights_name, self._constant(weights_name)))

    def get_weights_prototype(self, weights_name: str) -> Weights:
        """Weights with the dtype and number that is expected."""
        return Weights(self._constant(weights_name))

    def get_weights_location(self, weights_name: str) -> Any:
        """Host memory."""
        return TensorLocation.HOST

    def get_all(self) -> tuple[list[str], list[Any]]:
        """Layers and roles of all weights."""
        rows = [row for row in self.engine.plan.weights.values() if row[1] in WeightsRole.__members__]
        return [row[0] for row in rows], [WeightsRole[row[1]] for row in rows]

    def get_all_weights(self) -> list[str]:
        """Names of all weights."""
        return list(self.engine.plan.weights)

    def get_missing(self) -> tuple[list[str], list[Any]]:
        """Nothing is missing: weights that are not set stay as they are."""
        return [], []

    def get_missing_weights(self) -> list[str]:
        """Nothing is missing."""
        return []

    def refit_cuda_engine(self) -> bool:
        """Builds the engine with the new weights; False when that failed, the engine as it was."""
        try:
            graph = self._graph.clone()
            for name, array in self._given.items():
                graph.values[self.engine.plan.weights[name][2]].const = array
            kept = graph.clone()
            engine = build(graph, level=self.engine.plan.level, **self.engine.plan.precision_arguments())
            self.engine.replace(plans.attach(engine, self.engine.plan, kept))
            self._graph = kept
            self._given = {}
        except FAILURES as error:
            failed(self.logger, error)
            return False
        return True

    def refit_cuda_engine_async(self, stream_handle: int) -> bool:
        """As ``refit_cuda_engine``; done when it returns."""
        return self.refit_cuda_engine()

    # ---- ranges

    def get_dynamic_range(self, tensor_name: str) -> Any:
        """Engines do not keep ranges."""
        raise InputError("the engine keeps no ranges", got=tensor_name)

    def set_dynamic_range(self, tensor_name: str, range: Any) -> bool:
        """False: ranges are part of the build."""
        failed(self.logger, "ranges cannot be refitted; build again")
        return False

    def get_tensors_with_dynamic_range(self) -> list[str]:
        """Empty."""
        return []
