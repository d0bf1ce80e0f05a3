"""microWakeWord: two wake words by 8-bit TFLite networks that take three frames of 10 ms at a time and keep the rest in variables.

Data: phrases by flite and espeak-ng, each with silence around it, every clip from a fresh start. A wake word is detected when the mean of the last five
probabilities exceeds the network's own threshold (``pymicro_wakeword/models/*.json``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.suite import speech
from bench.suite.micro_frontend import Frontend
from bench.suite.task import Array, Net, Reference, Run, Task, share, wilson

_MODELS = "pymicro-wakeword/pymicro_wakeword/models"
_INPUT, _OUTPUT = "serving_default_input_audio:0", "StatefulPartitionedCall:0"
#: The wake words, each with its network and threshold.
WAKE = {
    "okay nabu": (Net("micro_okay_nabu", f"{_MODELS}/okay_nabu.tflite", steps=True), 0.85),
    "alexa": (Net("micro_alexa", f"{_MODELS}/alexa.tflite", steps=True), 0.9),
}
PHRASES = ("okay nabu", "alexa", "a lexus car", "hey travis", "the weather", "set a timer", "good morning", "turn on the light", "a jar of jam", "yes", "no", "stop")
FRONTEND = Frontend(channels=40, remaining=0.05, gain=True, notch=False)
#: Frames of a call, and calls whose probabilities are averaged.
STRIDE, AVERAGED = 3, 5
#: A unit of the features in the network's, and what a unit of its 8-bit input is.
_UNIT, _SCALE = 10 / 256, 0.10196078568696976


def inputs(audio: Array) -> Array:
    """i8[steps, 1, 3, 40] of i16[n]."""
    found = np.round(FRONTEND.features(audio) * _UNIT / _SCALE - 128).clip(-128, 127).astype(np.int8)
    steps = len(found) // STRIDE
    return found[: steps * STRIDE].reshape(steps, 1, STRIDE, -1)


def clips(folder: Path) -> Iterator[tuple[str, Array]]:
    """(phrase, i16[n]): 1.5 s of silence, the phrase, 1 s of silence."""
    for phrase in PHRASES:
        for voice in speech.VOICES:
            body = speech.trimmed(speech.say(folder, voice, phrase))
            yield phrase, np.round(32767 * np.concatenate([np.zeros(24000), 0.5 * body / np.abs(body).max(), np.zeros(16000)])).astype(np.int16)


def detected(probabilities: Array, threshold: float) -> bool:
    """Whether the mean of five in a row ever exceeds the threshold; u8[steps] in 256ths."""
    return bool((np.convolve(probabilities / 256, np.full(AVERAGED, 1 / AVERAGED), "valid") > threshold).any())


def score(folder: Path, run: Run) -> dict[str, float]:
    """Per wake word, the share of its phrases that are detected and of the others that are not."""
    hits = {name: [0, 0, 0, 0] for name in WAKE}  # detected, spoken, false alarms, other phrases
    for phrase, audio in clips(folder):
        x = inputs(audio)
        for name, (net, threshold) in WAKE.items():
            found = detected(run(net, {_INPUT: x})[_OUTPUT].reshape(-1), threshold)
            hits[name][0 if phrase == name else 2] += found
            hits[name][1 if phrase == name else 3] += 1
    rates: dict[str, float] = {}
    for name, (right, spoken, alarms, others) in hits.items():
        rates[f"{name} recall"] = right / spoken
        rates[f"{name} quiet"] = 1 - alarms / others
    return rates


def _references(name: str, right: int, alarms: int) -> dict[str, Reference]:
    source = f"ai-edge-litert 2.3 on 108 synthetic clips: {right} of 9 detected, {alarms} of 99 false"
    return {f"{name} recall": share(right, 9, source), f"{name} quiet": Reference(1 - alarms / 99, wilson(99 - alarms, 99)[0], 1, source)}


TASK = Task(
    "micro_wake_word",
    "wake words in synthetic speech; 8-bit streaming TFLite files, whose variables are kept over each clip",
    ("pymicro-wakeword",),
    tuple(net for net, _ in WAKE.values()),
    score,
    {**_references("okay nabu", 8, 0), **_references("alexa", 9, 4)},
)
