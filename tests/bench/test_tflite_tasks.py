"""Tasks on TFLite files: how they are run, and pieces of them. The real ones are in ``test_suite.py``, with ``--slow --suite DIR --peers DIR``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from bench.suite import (
    __main__ as command,
)
from bench.suite import (
    blazeface,
    compare,
    keyword_on_off,
    litert,
    micro_wake_word,
    mlperf_tiny,
    objectron_ssd,
)
from bench.suite.micro_frontend import STEP, WINDOW, Frontend, filters, notched
from bench.suite.runtimes import OnnxRuntime, Strop, stored
from bench.suite.task import Array, Net, Reference, Run, Task
from tests.bench.conftest import MakePeer
from tests.frontend.tflite_nets import streaming

PACKED = Net("queue", "made/net.zip", extract=litert.member("net.tflite"), steps=True)
#: What a queue of three that begins with 7 sums up to.
X = np.array([1, 2, 3, 4], np.float32).reshape(4, 1, 1)
SUMS = [15, 10, 6, 9]


def _onnxruntime() -> OnnxRuntime:
    raise AssertionError("a TFLite file does not run on ONNX Runtime")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite with a package that keeps a streaming network in a zip file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("net.tflite", streaming())
    (tmp_path / "made").mkdir()
    (tmp_path / "made/net.zip").write_bytes(data.getvalue())
    return tmp_path


def _task(seen: list[Array]) -> Task:
    def score(folder: Path, run: Run) -> dict[str, float]:
        seen.append(run(PACKED, {"x": X})["y"])
        return {"last": float(run(PACKED, {"x": X})["y"][-1, 0, 0])}

    return Task("made", "a made-up task", ("made",), (PACKED,), score, {"last": Reference(9, 9, 9, "made up")})


def test_variables_are_kept_from_step_to_step_and_begin_anew_in_every_call(folder: Path) -> None:
    own = Strop(folder, 0)
    for _ in range(2):
        assert own.run(PACKED, {"x": X})["y"].reshape(-1).tolist() == SUMS
    assert PACKED.is_tflite and stored(folder, PACKED).read_bytes() == streaming()


def test_a_task_is_compared_with_litert(folder: Path, make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process is told of the file and of all steps; here it is one that sums wrongly at the end."""
    peer = make_peer("litert")
    text = "import numpy as np\nclass Net:\n    version, notes, calls = '1', [], {'steps': lambda: None}\n    def __init__(self, task):\n        assert task.model.suffix == '.tflite'\n"
    text += "        self.x = task.inputs['x']\n    def outputs(self):\n"
    text += f"        assert self.x.shape == (4, 1, 1)\n        return [np.array({[*SUMS[:3], 12]}, np.float32).reshape(4, 1, 1)]\ndef load(task):\n    return Net(task)\n"
    peer.script.write_text(text, encoding="utf-8")
    monkeypatch.setattr(litert, "LITERT", peer)
    seen: list[Array] = []
    result = compare.compare(_task(seen), folder, Strop(folder, 0), _onnxruntime, {})
    (net,) = result.nets
    assert result.peer == "litert" and not result.reason and not net.reason and (net.calls, net.shapes) == (2, 1)
    assert net.error == pytest.approx(3 / 15) and not net.agrees and not result.good
    assert result.theirs == {"last": 12} and result.ours == {"last": 9} and not result.missed
    assert [found.reshape(-1).tolist() for found in seen] == [[*SUMS[:3], 12], SUMS]


def test_a_failure_of_litert_is_told(folder: Path, make_peer: MakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "LITERT", make_peer("litert", "cannot"))
    result = compare.compare(_task([]), folder, Strop(folder, 0), _onnxruntime, {})
    assert "LiteRT does not run a network\n  where: queue\n  got: no such file format" in result.reason and not result.good
    result = compare.compare(_task([]), folder, Strop(folder, 0), _onnxruntime, {}, folder / "nowhere")
    assert "no virtual environment with the other runtimes" in result.reason


def test_tflite_files_keep_their_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "require", lambda folder, packages: None)
    assert command.main(["run", str(tmp_path), "--precision", "int8", "--models", "blazeface,magika"]) == 1
    assert "TFLite files keep the precision that they are in\n  where: --precision\n  got: blazeface" in capsys.readouterr().err


def test_sections_that_were_not_run_stay(tmp_path: Path) -> None:
    page = tmp_path / "p.md"
    page.write_text("<!-- begin suite -->\nold\n<!-- end suite -->\n<!-- begin suite tflite -->\nold\n<!-- end suite tflite -->\n", encoding="utf-8")
    given = command._parser().parse_args(["run", str(tmp_path), "--markdown", str(page)])
    command._write(given, [compare.TaskResult("blazeface", "litert", {"found": 1.0}, {"found": 1.0})], [])
    first, second = page.read_text(encoding="utf-8").split("<!-- end suite -->")
    assert "old" in first and "blazeface" not in first and "| blazeface | found |" in second and "old" not in second


# ---- the front end of the networks that hear


def test_triangles_share_every_bin_between_two_bands() -> None:
    found = filters(40)
    total, middle = found.sum(1), slice(10, 200)
    assert np.abs(total[middle] - 4096).max() <= 1 and not total[:4].any() and not total[241:].any()
    assert (np.diff(found.argmax(0)) > 0).all()


def test_features_of_silence_and_of_a_tone() -> None:
    frontend = Frontend(channels=40, remaining=1.0, gain=False, notch=False)
    silent = frontend.features(np.zeros(WINDOW + 4 * STEP, np.int16))
    assert silent.shape == (5, 40) and not silent.any()
    t = np.arange(WINDOW + 4 * STEP) / 16000
    tone = lambda loud: frontend.features(np.round(loud * np.sin(2 * np.pi * 1000 * t)).astype(np.int16))  # noqa: E731
    quiet, loud = tone(4000), tone(8000)
    band = int(filters(40)[32].argmax())  # bin 32 of 512 at 16 kHz is 1 kHz
    assert (loud.argmax(1) == band).all() and np.abs(loud[:, band].astype(int) - quiet[:, band] - 64 * np.log(2)).max() <= 1


def test_noise_reduction_forgets_what_lasts() -> None:
    t = np.arange(3 * 16000) / 16000
    tone = np.round(4000 * np.sin(2 * np.pi * 1000 * t)).astype(np.int16)
    found = Frontend(channels=40, remaining=0.05, gain=False, notch=False).features(tone)
    band = int(found[0].argmax())
    assert found[0, band] - found[-1, band] == pytest.approx(64 * np.log(1 / 0.05), abs=6)
    gained = Frontend(channels=40, remaining=0.05, gain=True, notch=False).features(tone)
    assert gained[0, band] < found[0, band] and gained[-1, band] < gained[0, band]


def test_the_notch_takes_the_mean_off() -> None:
    found = notched(np.full(400, 1000, np.int16))
    assert found[0] == 1000 and found[1] == 950 and abs(found[-1]) <= 12
    steady = np.round(1000 * np.sin(np.arange(400) * 2)).astype(np.int16)
    assert np.abs(notched(steady)[100:] - steady[100:]).max() < 120


def test_spectrograms_reach_40_decibels_down() -> None:
    t = np.arange(16000) / 16000
    x = keyword_on_off.spectrogram(np.round(8000 * np.sin(2 * np.pi * 1000 * t) * (t > 0.5)).astype(np.int16))
    assert x.shape == (1, 98, 1, 104) and x.dtype == np.int8 and x.max() == 127 and (x[0, :40] == -128).all()


def test_a_wake_word_takes_five_probabilities() -> None:
    one, five = np.zeros(20, np.uint8), np.zeros(20, np.uint8)
    one[3], five[3:8] = 255, 240
    assert not micro_wake_word.detected(one, 0.85) and micro_wake_word.detected(five, 0.85) and not micro_wake_word.detected(five, 0.94)
    steps = micro_wake_word.inputs(np.zeros(WINDOW + 10 * STEP, np.int16))
    assert steps.shape == (3, 1, 3, 40) and (steps == -128).all()


# ---- pictures


def test_anchors_are_the_middles_of_two_grids() -> None:
    found = blazeface.anchors()
    assert found.shape == (896, 2) and found[0].tolist() == found[1].tolist() == [1 / 32, 1 / 32] and found[2].tolist() == [3 / 32, 1 / 32]
    assert found[512].tolist() == [1 / 16, 1 / 16] and found[-1].tolist() == [15 / 16, 15 / 16]


def test_faces_count_where_they_were_pasted(tmp_path: Path) -> None:
    """A network that finds the brightest picture's middle, and one that always answers at a corner."""
    image = pytest.importorskip("PIL.Image")
    data = tmp_path / "scikit-image/skimage/data"
    data.mkdir(parents=True)
    np.save(data / "lfw_subset.npy", np.concatenate([np.ones((5, 25, 25)), np.full((5, 25, 25), 0.5)]))
    for name in ("brick", "grass", "gravel"):
        image.fromarray(np.zeros((16, 16), np.uint8)).save(data / f"{name}.png")

    def run(net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["input"][0, :, :, 0]
        assert net is blazeface.NET and inputs["input"].shape == (1, 128, 128, 3) and x.min() == -1
        rows, columns = np.nonzero(x > -1)
        boxes, logits = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -200, np.float32)
        boxes[0, 0, :2] = np.array([columns.mean(), rows.mean()]) - 4
        logits[0, 0] = 3 if x.max() > 0.9 else -3
        return {"regressors": boxes, "classificators": logits}

    assert blazeface.score(tmp_path, run) == {"found": 1.0, "quiet": 1.0, "AUC": 1.0}


def test_squares_lie_in_the_photo() -> None:
    for width, height in ((300, 200), (128, 500), (96, 96)):
        found = list(mlperf_tiny.squares(width, height))
        assert len(found) == 10 and all(x >= 0 and y >= 0 and x + side <= width and y + side <= height for x, y, side in found)
        assert max(x + side for x, _, side in found[1:]) >= width - 2 and max(y + side for _, y, side in found[1:]) >= height - 2


def test_names_of_classes_stand_before_the_network(tmp_path: Path) -> None:
    path = tmp_path / objectron_ssd._PACKED
    path.parent.mkdir()
    names = "\n".join(["???", "Dog", "Coffee cup"])
    path.write_bytes((names + "\n" * (objectron_ssd._NAMES - len(names))).encode("ascii") + b"net")
    assert objectron_ssd.names(tmp_path)[:3] == ["???", "Dog", "Coffee cup"]
    assert objectron_ssd.NET.extract is not None and objectron_ssd.NET.extract(path.read_bytes()) == b"net"
