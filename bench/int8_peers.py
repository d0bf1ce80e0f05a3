"""What the other runtimes do for a comparison in int8, in their environment. A script: nothing of Strop is imported here.

    python int8_peers.py quantize MODEL.onnx SAMPLES.npz OUT.onnx      a QDQ model by ONNX Runtime's quantizer
    python int8_peers.py outputs RUNTIME MODEL SAMPLES.npz OUT.npy     the first output of every sample

SAMPLES.npz has an array per input of the model, its first axis the samples, each of them a batch.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

here = str(Path(__file__).resolve().parent)
sys.path[:] = [p for p in sys.path if p != here]


def samples(file: str) -> Iterator[dict[str, Any]]:
    """Arrays by input name, sample by sample."""
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: array[index] for name, array in arrays.items()}


def quantize(model: str, file: str, out: str) -> None:
    """Writes the model with u8 activations and i8 weights per channel, ranges from least to most, as ONNX Runtime advises for x86: with VNNI weights of 8 bits, without it
    of 7 (``reduce_range``), as sums of two products would saturate there."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        """Samples one after the other."""

        def __init__(self) -> None:
            self._samples = samples(file)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._samples, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = f"{folder}/prepared.onnx"
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, out, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, calibrate_method=quantization.CalibrationMethod.MinMax,
            reduce_range=not _has_vnni(),
        )  # fmt: skip


def _has_vnni() -> bool:
    """Whether this processor multiplies quads of bytes; where Linux does not tell, as if it did."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return True
    return "avx512_vnni" in words or "avx_vnni" in words or "avx2" not in words


def _onnxruntime(model: str) -> Callable[[dict[str, Any]], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)[0]


def _openvino(model: str) -> Callable[[dict[str, Any]], Any]:
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: compiled(inputs)[0]


def _litert(model: str) -> Callable[[dict[str, Any]], Any]:
    from ai_edge_litert import interpreter as litert

    net = litert.Interpreter(model_path=model, num_threads=1)
    net.allocate_tensors()
    details, result = net.get_input_details(), net.get_output_details()[0]["index"]

    def run(inputs: dict[str, Any]) -> Any:
        for detail, array in zip(details, inputs.values(), strict=True):
            fits = tuple(detail["shape"]) == array.shape
            net.set_tensor(detail["index"], array if fits else np.ascontiguousarray(np.moveaxis(array, 1, -1)))
        net.invoke()
        return net.get_tensor(result).copy()

    return run


RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino, "litert": _litert}


def outputs(runtime: str, model: str, file: str, out: str) -> None:
    """Writes the first output of every sample, stacked."""
    run = RUNTIMES[runtime](model)
    np.save(out, np.stack([np.asarray(run(inputs)) for inputs in samples(file)]), allow_pickle=False)


if __name__ == "__main__":
    {"quantize": quantize, "outputs": outputs}[sys.argv[1]](*sys.argv[2:])
