"""Basic Pitch: which notes sound. Harmonic tones whose pitch is exact by construction, windows of 43,844 samples at 22,050 Hz."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from bench.suite.task import Array, Net, Run, Task, share

_MODEL = "basic-pitch/basic_pitch/saved_models/icassp_2022/nmp"
_SHAPES = {"serving_default_input_2:0": "1..4(1)x43844x1"}
NET = Net("basic_pitch", f"{_MODEL}.onnx", _SHAPES)
TFLITE = Net("basic_pitch_tflite", f"{_MODEL}.tflite", _SHAPES)
RATE, SAMPLES = 22050, 43844
#: The lowest of the 88 notes in MIDI numbers, and those that are played.
LOWEST = 21
NOTES = range(36, 90, 3)


def tone(note: int) -> Array:
    """f32[43844, 1]: a tone with eight harmonics that fall off, an attack of 10 ms and a decay."""
    t = np.arange(SAMPLES) / RATE
    pitch = 440.0 * 2 ** ((note - 69) / 12)
    wave = sum(np.sin(2 * np.pi * k * pitch * t) / k**1.5 for k in range(1, 9) if k * pitch < RATE / 2)
    start = 0.25
    envelope = np.where(t < start, 0.0, np.clip((t - start) / 0.01, 0, 1) * np.exp(-(t - start) / 0.8))
    sound = wave * envelope
    return (0.4 * sound / np.abs(sound).max()).astype(np.float32)[:, None]


def score(net: Net, folder: Path, run: Run) -> dict[str, float]:
    """Share of tones whose strongest note is the one that was played; calls with 1 to 4 windows."""
    hits = 0
    notes = list(NOTES)
    start, size = 0, 1
    while start < len(notes):
        part = notes[start : start + size]
        p = run(net, {"serving_default_input_2:0": np.stack([tone(note) for note in part])})["StatefulPartitionedCall:1"]
        hits += int((p[:, 30:100].mean(1).argmax(1) + LOWEST == np.array(part)).sum())
        start, size = start + size, size % 4 + 1
    return {"notes": hits / len(notes)}


_KNOWN = {"notes": share(18, 18, "onnxruntime 1.32 on 18 synthetic tones")}
TASK = Task("basic_pitch", "the note of a harmonic tone; synthetic", ("basic-pitch",), (NET,), partial(score, NET), _KNOWN)
TFLITE_TASK = Task("basic_pitch_tflite", "the note of a harmonic tone; the TFLite file of the same network", ("basic-pitch",), (TFLITE,), partial(score, TFLITE), _KNOWN)
