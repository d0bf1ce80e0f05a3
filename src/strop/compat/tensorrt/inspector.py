"""EngineInspector: what an engine does, as text or JSON of TensorRT's shape."""

from __future__ import annotations

import json
from typing import Any

from strop.compat.tensorrt.enums import LayerInformationFormat, ProfilingVerbosity
from strop.engine.describe import StepReport, describe


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
        return {
            "Name": step.name,
            "LayerType": step.kind,
            "Inputs": [_tensor(text) for text in step.inputs if text],
            "Outputs": [_tensor(text) for text in step.outputs],
            "TacticName": step.kernel,
            "Origin": list(step.source),
            "Metadata": "",
        }


def _tensor(text: str) -> dict[str, Any]:
    """dtype and shape of a text such as ``f32[1,3,8,8]`` with strides behind it."""
    dtype, _, rest = text.partition("[")
    sizes = [int(d) if d.strip().lstrip("-").isdigit() else -1 for d in rest.partition("]")[0].split(",") if d.strip()]
    return {"Name": text, "Dimensions": sizes, "Format/Datatype": dtype}
