"""Steps of an engine as the JSON that TensorRT's engine inspector and trtexec write."""

from __future__ import annotations

from typing import Any

from strop.engine.describe import StepReport


def facts(step: StepReport) -> dict[str, Any]:
    """A layer with its operands, results and kernel (TensorRT's detailed verbosity)."""
    return {
        "Name": step.name,
        "LayerType": step.kind,
        "Inputs": [tensor(text) for text in step.inputs if text],
        "Outputs": [tensor(text) for text in step.outputs],
        "TacticName": step.kernel,
        "Origin": list(step.source),
        "StreamId": 0,
        "Metadata": "",
    }


def tensor(text: str) -> dict[str, Any]:
    """dtype and shape of a text such as ``f32[1,3,8,8]`` with strides behind it; -1 for sizes that are no numbers."""
    dtype, _, rest = text.partition("[")
    sizes = [int(d) if d.strip().lstrip("-").isdigit() else -1 for d in rest.partition("]")[0].split(",") if d.strip()]
    return {"Name": text, "Location": "Device", "Dimensions": sizes, "Format/Datatype": dtype}
