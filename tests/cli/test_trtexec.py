"""``strop trtexec``: the lines that people parse, files, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from strop.cli.main import main
from strop.demo_data import lenet_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["trtexec", *arguments])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_builds_saves_runs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine, times, profile, layers = (tmp_path / n for n in ("e.strop", "t.json", "p.json", "l.json"))
    common = ("--duration=0.05", "--warmUp=5", "--iterations=20")
    code, out = run(
        capsys, f"--onnx={lenet_path()}", f"--saveEngine={engine}", "--builderOptimizationLevel=0", "--fp16", "--useCudaGraph", "--memPoolSize=workspace:64",
        f"--exportTimes={times}", f"--exportProfile={profile}", f"--exportLayerInfo={layers}", "--dumpProfile", *common,
    )  # fmt: skip
    assert code == 0 and "&&&& PASSED TensorRT.trtexec" in out
    assert re.search(r"\[I\] Throughput: [\d.e+]+ qps", out)
    number = r"[\d.e+-]+ ms"
    assert re.search(rf"\[I\] GPU Compute Time: min = {number}, max = {number}, mean = {number}, median = {number}, percentile\(90%\) = {number}, percentile\(95%\) = {number}, percentile\(99%\) = {number}", out)
    assert re.search(r"\[I\] Total Host Walltime: [\d.e+-]+ s", out) and "Layer\n" in out
    assert len(json.loads(times.read_text())) >= 20 and json.loads(profile.read_text())[1]["averageMs"] > 0
    assert json.loads(layers.read_text())["Layers"]
    code, out = run(capsys, f"--loadEngine={engine}", *common)
    assert code == 0 and "Engine deserialized" in out and "Throughput" in out


def test_ranges_of_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    model = onnx.load(lenet_path())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, tmp_path / "m.onnx")
    code, out = run(
        capsys, f"--onnx={tmp_path / 'm.onnx'}", "--minShapes=input:1x1x28x28", "--optShapes=input:2x1x28x28", "--maxShapes=input:4x1x28x28",
        "--shapes=input:3x1x28x28", "--builderOptimizationLevel=0", "--duration=0", "--iterations=2", "--exportOutput=" + str(tmp_path / "o.json"),
    )  # fmt: skip
    assert code == 0, out
    assert json.loads((tmp_path / "o.json").read_text())[0]["dimensions"] == "3x10"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no model"),
        (("--onnx=missing.onnx",), "there is no such model file"),
        (("--onnx=x", "--shapes=input"), "a shape cannot be read"),
    ],
)
def test_failures_say_failed(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, *arguments)
    assert code == 1 and message in out and "&&&& FAILED TensorRT.trtexec" in out


def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "--noSuchOption")
    assert code == 1 and "unrecognized arguments: --noSuchOption" in out and "&&&& FAILED" in out
    code, out = run(capsys, "--onnx=x", "--percentile=many")
    assert code == 1 and "percentiles do not fit" in out


def test_int8_with_a_cache_and_a_timing_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, timings, layers = tmp_path / "calib.cache", tmp_path / "timing.cache", tmp_path / "layers.json"
    assert main_of("calibrate", str(lenet_path()), "-o", str(cache), "--tensorrt") == 0
    assert cache.read_text().startswith("TRT-")
    code, out = run(
        capsys, f"--onnx={lenet_path()}", "--int8", f"--calib={cache}", "--layerPrecisions=*fc*:fp32", f"--timingCacheFile={timings}",
        "--builderOptimizationLevel=0", "--skipInference", f"--exportLayerInfo={layers}", "--verbose",
    )  # fmt: skip
    assert code == 0, out
    assert "[I] Precision: FP32+INT8" in out and "=== Device Information ===" in out and "Calibrator is not being used" not in out
    assert any("int8" in row["TacticName"] for row in json.loads(layers.read_text())["Layers"])
    assert timings.read_text().startswith("# strop records") and "Saved timing cache" in out
    code, out = run(capsys, f"--onnx={lenet_path()}", "--best", f"--timingCacheFile={timings}", "--builderOptimizationLevel=0", "--skipInference")
    assert code == 0 and "Calibrator is not being used" in out
    code, out = run(capsys, f"--onnx={lenet_path()}", f"--timingCacheFile={cache}/x", "--builderOptimizationLevel=0", "--skipInference")
    assert code == 1 and "the timing cache cannot be written" in out


def main_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)
