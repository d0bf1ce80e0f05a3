"""The whole of compare.py, with runtimes that are made up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from bench import compare, nets, results
from strop.engine import peer_process
from strop.target.detect import parse
from tests.bench import made
from tests.bench.conftest import MakePeer

ROOT = Path(__file__).parents[2]
QUICK = ("--rounds", "2", "--seconds", "0.01", "--level", "0", "--no-roofline")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_peer: MakePeer) -> Path:
    """A folder with two nets, one of which no runtime of ours reads; runtimes ``fake`` and ``sour``."""
    folder = tmp_path / "models"
    folder.mkdir()
    onnx.save(nets.sine(), str(folder / "sine.onnx"))
    odd = nets.sine()
    odd.graph.node[1].op_type, odd.graph.node[1].domain = "Polish", "odd"
    odd.opset_import.append(onnx.helper.make_opsetid("odd", 1))
    onnx.save(odd, str(folder / "odd.onnx"))
    for peer in (make_peer("fake"), make_peer("sour", "cannot")):
        monkeypatch.setitem(peer_process.PEERS, peer.name, peer)
    return folder


def test_a_whole_run(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, chart, page = (tmp_path / name for name in ("r.json", "c.svg", "p.md"))
    page.write_text("# Page\n<!-- begin sines -->\n<!-- end sines -->\n", encoding="utf-8")
    code = compare.main(
        ["--models", str(models), "--only", "sine", "--vs", "fake,sour", *QUICK, "--threads", "1,2", "--batch", "1,3", "--layers",
         "--json", str(data), "--chart", str(chart), "--markdown", str(page), "--section", "sines"]
    )  # fmt: skip
    shown = capsys.readouterr()
    assert code == 0, shown.err
    found = results.load(data)
    assert [(r.row.threads, r.batch, r.row.status) for r in found.results] == [
        (1, 1, "compared"), (2, 1, "compared"), (1, 3, "compared"), (2, 3, "compared")
    ]  # fmt: skip
    assert [r.flops for r in found.results[::2]] == [found.results[0].flops, 3 * found.results[0].flops]
    assert all(r.layers and r.build_s > 0 and r.peaks is None for r in found.results)
    assert "sour: cannot on 1 of 1: no such file format" in shown.out and "speed-up over one thread" in shown.out
    assert "![Time of every runtime by Strop's](c.svg)" in page.read_text("utf-8") and "batch 3" in page.read_text("utf-8")
    assert "2 threads, batch 3, f32" in chart.read_text("utf-8")

    again = tmp_path / "again.svg"
    assert compare.main(["--from", str(data), "--chart", str(again)]) == 0
    assert again.read_bytes() == chart.read_bytes()
    assert "fake" in capsys.readouterr().out


def test_a_net_that_is_not_built_is_a_row_and_the_others_go_on(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "r.json"
    assert compare.main(["--models", str(models), "--vs", "fake", *QUICK, "--json", str(data)]) == 1
    found = {r.row.net: r.row for r in results.load(data).results}
    assert found["odd"].status == "failed" and "Polish" in found["odd"].reason
    assert found["sine"].status == "compared"
    assert "odd: failed" in capsys.readouterr().out


def test_a_batch_that_cannot_be_changed_is_a_row(models: Path, tmp_path: Path) -> None:
    data = tmp_path / "r.json"
    assert compare.main(["--models", str(models), "--only", "sine", "--vs", "sour", *QUICK, "--batch", "2", "--json", str(data)]) == 1
    (found,) = results.load(data).results
    assert found.row.status == "failed" and "does not run the copy" in found.row.reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vs", "nobody"], "unknown runtime"),
        (["--threads", "0"], "unusable numbers"),
        (["--threads", "1,two"], "unusable numbers"),
        (["--threads", "999"], "unusable number of threads"),
        (["--rounds", "0"], "unusable number of rounds"),
        (["--target", "vax"], "unknown target"),
        (["--only", "vgg99"], "no such nets"),
        (["--peers", "/nonexistent"], "no virtual environment"),
        (["--from", "/nonexistent.json"], "cannot read the results"),
    ],
)
def test_unusable_requests(arguments: list[str], message: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--models", str(models), "--vs", "fake", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_small_nets_come_along(tmp_path: Path, models: Path) -> None:
    given = compare._parser().parse_args(["--models", str(models), "--small", "--only", "relu1,sine"])
    found = compare._nets(given, tmp_path)
    assert [(n.name, n.path.parent.name) for n in found] == [("relu1", "small"), ("sine", "small")]
    given.only = "lenet,odd"
    (tmp_path / "more").mkdir()
    assert [n.name for n in compare._nets(given, tmp_path / "more")] == ["odd", "lenet"]


def test_without_a_folder_nets_are_exported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    asked = []

    def export(folder: Path, only: list[str]) -> None:
        asked.append(only)
        folder.mkdir(parents=True, exist_ok=True)
        for name in only:
            onnx.save(nets.relu_of_one(), str(folder / f"{name}.onnx"))

    monkeypatch.setattr(nets, "export", export)
    given = compare._parser().parse_args(["--only", "vgg16,resnet18"])
    for _ in range(2):
        assert [n.name for n in compare._nets(given, tmp_path)] == ["vgg16", "resnet18"]
    assert asked == [["vgg16", "resnet18"]]


@pytest.mark.parametrize(
    ("arguments", "limited"),
    [(["--target", "x86-64-v3"], True), (["--target", "x86-64-v3", "--unlimited"], False), (["--target", "x86-64-v4"], False)],
)
def test_avx2_limits_the_others(arguments: list[str], limited: bool, models: Path, tmp_path: Path) -> None:
    given = compare._parser().parse_args(["--models", str(models), "--only", "sine", "--vs", "openvino,ncnn", *arguments])
    plan = compare._plan(given, tmp_path)
    limited = limited and parse("host").isa != "avx2"  # which has nothing beyond it
    assert plan.settings.avx2 == limited
    assert compare._limits(plan) == ({"openvino": "ONEDNN_MAX_CPU_ISA=AVX2"} if limited else {})


def test_links_are_relative_where_they_can_be(tmp_path: Path) -> None:
    assert compare._relative(tmp_path / "docs" / "a.svg", tmp_path / "docs" / "p.md") == "a.svg"
    assert compare._relative(tmp_path / "docs" / "img" / "a.svg", tmp_path / "docs" / "p.md") == "img/a.svg"
    assert compare._relative(tmp_path / "a.svg", tmp_path / "docs" / "p.md") == str(tmp_path / "a.svg")


def test_status_of_shown_results(tmp_path: Path) -> None:
    for row, code in ((made.row("net", (1.0,), a=(2.0,)), 0), (made.bad("net", "wrong"), 1), (made.bad("net", "alone"), 0)):
        results.save(made.results(made.result(row)), tmp_path / "r.json")
        assert compare.main(["--from", str(tmp_path / "r.json")]) == code


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_script_that_installs_the_others(tmp_path: Path) -> None:
    """With a pip that only notes what it is told: every runtime is tried, and what cannot be used is named."""
    script = ROOT / "bench" / "setup_peers.sh"
    assert subprocess.run([script], capture_output=True).returncode == 2
    assert subprocess.run([script, tmp_path / "x", "--polish"], capture_output=True).returncode == 2
    fake = tmp_path / "python"
    fake.write_text(
        f"#!/bin/sh\nmkdir -p '{tmp_path}/env/bin'\nprintf '#!/bin/sh\\ncase \"$*\" in *openvino*) exit 1;; esac\\n"
        f"echo \"$*\" >> {tmp_path}/log\\n' > '{tmp_path}/env/bin/python'\nchmod +x '{tmp_path}/env/bin/python'\n",
        encoding="utf-8",
    )
    fake.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(fake)}
    done = subprocess.run([script, tmp_path / "env", "--torch"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "openvino cannot be installed here" in done.stderr
    assert "without openvino;" in done.stderr
    log = (tmp_path / "log").read_text("utf-8")
    for package in ("onnxruntime==", "ai-edge-litert==", "ncnn==", "--no-deps pnnx==", "torch=="):
        assert package in log


def test_modules_are_found_from_anywhere(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "compare.py", "--from", tmp_path / "no.json"], capture_output=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 1 and b"cannot read the results" in done.stderr
