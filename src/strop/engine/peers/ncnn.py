"""ncnn in f32. The model is converted by pnnx first. ncnn has no batch: samples run one after the other."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

#: Seconds that a conversion may take.
TIMEOUT = 600
#: Options that would store or compute in less than f32.
_REDUCED = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage",
    "use_int8_packed", "use_int8_storage", "use_int8_arithmetic", "use_int8_inference",
)  # fmt: skip


class Net:
    """A net and the samples it runs on."""

    def __init__(self, task: Any) -> None:
        param, weights = _convert(task)
        self._net = ncnn.Net()
        for name in _REDUCED:
            if hasattr(self._net.opt, name):
                setattr(self._net.opt, name, False)
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = task.threads
        if self._net.load_param(str(param)) or self._net.load_model(str(weights)):
            raise RuntimeError("ncnn does not load what pnnx made")
        names = [f"in{k}" for k in range(len(task.inputs))]
        if sorted(self._net.input_names()) != sorted(names):
            raise LookupError(f"pnnx made inputs {self._net.input_names()} of {list(task.inputs)}")
        arrays = list(task.inputs.values())
        batches = {a.shape[0] for a in arrays if a.ndim}
        if len(batches) != 1 or any(a.ndim < 2 for a in arrays):
            raise LookupError("ncnn takes inputs with one common leading batch dim only")
        batch = batches.pop()
        self._names = sorted(self._net.output_names(), key=lambda n: int(n[3:]))
        self._samples = [[(name, a[k].copy()) for name, a in zip(names, arrays)] for k in range(batch)]
        self._results: list[list[Any]] = []
        self.version = ncnn.__version__
        self.notes = [f"{batch} samples, one after the other"] if batch > 1 else []
        self.calls: dict[str, Callable[[], object]] = {"extract": self._run}

    def _run(self) -> None:
        self._results = [self._sample(sample) for sample in self._samples]

    def _sample(self, sample: list[tuple[str, Any]]) -> list[Any]:
        extractor = self._net.create_extractor()
        for name, array in sample:
            extractor.input(name, ncnn.Mat(array))
        found = []
        for name in self._names:
            code, mat = extractor.extract(name)
            if code:
                raise RuntimeError(f"ncnn does not compute {name}: code {code}")
            found.append(mat)
        return found

    def outputs(self) -> list[Any]:
        """Of the last inference, samples stacked."""
        return [np.stack([np.array(mats[k]) for mats in self._results]) for k in range(len(self._names))]


def _convert(task: Any) -> tuple[Path, Path]:
    """Files that ncnn loads, made of the model with a batch of 1; made once per model and folder."""
    folder = task.work / "ncnn"
    folder.mkdir(parents=True, exist_ok=True)
    stem = task.original.stem
    param, weights = folder / f"{stem}.ncnn.param", folder / f"{stem}.ncnn.bin"
    if param.exists() and weights.exists():
        return param, weights
    spec = importlib.util.find_spec("pnnx")
    binary = Path(next(iter(spec.submodule_search_locations))) / "pnnx" if spec and spec.submodule_search_locations else None
    if binary is None or not binary.exists():
        raise LookupError("pnnx is not installed, which makes ncnn's files of an ONNX model")
    link = folder / f"{stem}.onnx"
    link.unlink(missing_ok=True)
    link.symlink_to(task.original.resolve())
    shapes = ",".join(f"[{','.join(map(str, (1, *a.shape[1:])))}]{_kind(a)}" for a in task.inputs.values())
    command = [str(binary), link.name, f"inputshape={shapes}", "fp16=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    if done.returncode or not (param.exists() and weights.exists()):
        said = (done.stderr + done.stdout).strip().splitlines()
        raise LookupError(f"pnnx does not convert the model: code {done.returncode}, {said[-1] if said else 'no message'}")
    return param, weights


def _kind(array: Any) -> str:
    kinds = {"float32": "f32", "int32": "i32", "int64": "i64"}
    if str(array.dtype) not in kinds:
        raise LookupError(f"an input of {array.dtype} is not handed to pnnx")
    return kinds[str(array.dtype)]


def load(task: Any) -> Net:
    """A net in f32."""
    return Net(task)
