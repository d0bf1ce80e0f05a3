"""``strop benchmark_model``: LiteRT's flags, the lines that people parse, and what is refused."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

import strop
from strop.cli.main import main
from tests.compat.test_tflite_interpreter import two_ops, two_signatures
from tests.frontend.tflite_nets import free_net, streaming

QUICK = ("--level=0", "--num_runs=5", "--min_secs=0", "--warmup_runs=2", "--warmup_min_secs=0")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark_model", *arguments])
    return int(ended.value.code or 0), capsys.readouterr().out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(two_ops("FLOAT32"))
    return path


def test_the_lines_that_people_parse(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, output = tmp_path / "p.csv", tmp_path / "y.bin"
    np.array([[3, 5]], np.float32).tofile(tmp_path / "x.bin")
    code, out = run(
        capsys, f"--graph={model}", *QUICK, "--num_threads=1", "--enable_op_profiling=true", f"--profiling_output_csv_file={table}", "--use_xnnpack=true",
        "--use_gpu=false", f"--input_layer_value_files=x:{tmp_path / 'x.bin'}", f"--output_filepath={output}", "--report_peak_memory_footprint",
        "--print_preinvoke_state", "--run_delay=0.001",
    )  # fmt: skip
    assert code == 0, out
    found = re.search(r"INFO: Inference timings in us: Init: (\d+), First inference: (\d+), Warmup \(avg\): ([\d.e+]+), Inference \(avg\): ([\d.e+]+)", out)
    assert found is not None and float(found[4]) > 0
    assert "INFO: count=2 first=" in out and "INFO: count=5 first=" in out and "at least 5 iterations and at least 0 seconds" in out
    assert re.search(r"Memory footprint delta from the start of the tool \(MB\): init=[\d.e+-]+ overall=[\d.e+-]+", out)
    assert "Number of nodes executed: 1" in out and "Run Order" in out and "Summary by node type" in out
    assert "--use_xnnpack has no effect" in out and "--use_gpu" not in out and "Node   1 MUL" in out and "peak memory" in out
    assert [row["times called"] for row in csv.DictReader(table.open())] == ["5"]
    np.testing.assert_array_equal(np.fromfile(output, np.float32), [4, 14])


def test_engines_signatures_shapes_and_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, engine = tmp_path / "m.tflite", tmp_path / "e.strop"
    path.write_bytes(two_signatures())
    code, out = run(capsys, f"--graph={path}", "--level=0", "--list_signatures")
    assert code == 0 and "exp: inputs x; outputs result" in out and "neg: inputs x; outputs result" in out
    output = tmp_path / "y.bin"
    code, out = run(capsys, f"--graph={path}", *QUICK, "--signature_to_run_for=neg", "--input_layer_value_range=x,2,3", f"--output_filepath={output}")
    assert code == 0 and (np.fromfile(output, np.float32) <= -2).all()
    path.write_bytes(free_net())
    code, out = run(capsys, f"--graph={path}", *QUICK, f"--output_filepath={output}")
    assert code == 0 and len(np.fromfile(output, np.float32)) == 4
    code, out = run(capsys, f"--graph={path}", *QUICK, "--input_layer=x", "--input_layer_shape=3,4", f"--output_filepath={output}")
    assert code == 0 and len(np.fromfile(output, np.float32)) == 12
    strop.build(streaming(), level=0).save(engine)
    code, out = run(capsys, f"--graph={engine}", *QUICK, "--max_secs=0")
    assert code == 0 and "INFO: count=1 first=" in out
    code, out = run(capsys, f"--graph={engine}", "--dry_run")
    assert code == 0 and "Inference timings" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no model"),
        (("--graph=/nowhere.tflite",), "the file cannot be read"),
        (("--external_delegate_path=d.so",), "--external_delegate_path is refused"),
        (("--input_layer=x",), "inputs and shapes differ in number"),
        (("--input_layer=x", "--input_layer_shape=a"), "a shape cannot be read"),
        (("--input_layer_value_range=x,1",), "a range of values cannot be read"),
        (("--input_layer_value_range=z,1,2",), "no input has this name"),
        (("--input_layer_value_files=x:/nowhere",), "an input cannot be read"),
        (("--output_filepath=/nowhere/y", *QUICK), "a file cannot be written"),
        (("--profiling_output_csv_file=/nowhere/y", *QUICK), "a file cannot be written"),
    ],
)
def test_failures_are_told(arguments: tuple[str, ...], message: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = () if not arguments or any("--graph" in a for a in arguments) else (f"--graph={model}", "--level=0")
    code, out = run(capsys, *graph, *arguments)
    assert code == 1 and f"ERROR: {message}" in out and "ERROR: Benchmarking failed." in out


def test_unknown_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--no_such_flag")[0] == 2
