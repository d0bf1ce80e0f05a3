"""EngineInspector: what an engine does, as text or JSON of TensorRT's shape."""

from __future__ import annotations

import json
from typing import Any

from strop.compat.tensorrt.enums import LayerInformationFormat, ProfilingVerbosity
from strop.engine.describe import StepReport, describe
from strop.engine.layer_json import facts


class EngineInspector:
    """Answers what the layers of an engine are."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.execution_context: Any = None
        self.error_recorder: Any = None
        self._steps = describe(engine.own).steps

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        """One layer."""
        step = self._steps[layer_index]
        return self._line(step) if format == LayerInformationFormat.ONELINE else json.dumps(self._facts(step))

    def get_engine_information(self, format: Any) -> str:
        """All layers, then inputs and outputs."""
        if format == LayerInformationFormat.ONELINE:
            bindings = "".join(f"{name}\n" for name in self.engine.names)
            return "Layers:\n" + "".join(f"{self._line(s)}\n" for s in self._steps) + "\nBindings:\n" + bindings
        names = [f"{name}" for name in self.engine.names]
        return json.dumps({"Layers": [self._facts(s) for s in self._steps], "Bindings": names, "I/O Tensors": names}, indent=1)

    def _detailed(self) -> bool:
        return bool(self.engine.profiling_verbosity == ProfilingVerbosity.DETAILED)

    def _line(self, step: StepReport) -> str:
        return f"{step.name}: {step.kind}, {step.kernel}" if self._detailed() else step.name

    def _facts(self, step: StepReport) -> Any:
        if not self._detailed():
            return step.name
        return facts(step)
