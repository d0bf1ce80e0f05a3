"""Speech for the audio tasks: sentences and words by flite and espeak-ng, and the recordings of Debian's alsa-utils.

All of it as f32 in [-1, 1] at 16 kHz, mono, and kept below the suite's folder once made. The synthesizers are deterministic, but
another release of them may speak differently.
"""

from __future__ import annotations

import subprocess
import wave
from math import gcd
from pathlib import Path

import numpy as np

from bench.suite.fetch import RECORDINGS, missing_tools
from bench.suite.task import Array
from strop.errors import OptionError

RATE = 16000
FLITE = ("kal16", "awb", "rms", "slt")
ESPEAK = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-gb+m3")
VOICES = (*FLITE, *ESPEAK)
TIMEOUT = 60


def say(folder: Path, voice: str, text: str) -> Array:
    """f32[n]: a text in one of VOICES.

    Raises:
        OptionError: the programs are not installed, or fail.
    """
    path = folder / "speech" / f"{voice}_{''.join(c if c.isalnum() else '_' for c in text)}.wav"
    if not path.exists():
        absent = missing_tools()
        if absent:
            raise OptionError("programs that speak are not installed", got="no " + ", ".join(absent), hint="apt-get install " + " ".join(absent))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        command = (
            ["flite", "-voice", voice, "-t", text, "-o", str(temporary)]
            if voice in FLITE
            else ["espeak-ng", "-v", voice, "-w", str(temporary), text]
        )
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
        if done.returncode or not temporary.exists():
            raise OptionError("a program that speaks failed", where=" ".join(command), got=done.stderr.strip() or done.returncode)
        temporary.replace(path)
    return read_wave(path)


def recordings() -> list[Array]:
    """The recordings of a human voice in Debian's alsa-utils.

    Raises:
        OptionError: they are not installed.
    """
    paths = sorted(path for path in RECORDINGS.glob("*.wav") if path.stem != "Noise")
    if not paths:
        raise OptionError("recordings are not installed", where=str(RECORDINGS), hint="apt-get install alsa-utils")
    return [read_wave(path) for path in paths]


def read_wave(path: Path) -> Array:
    """f32[n]: a file of 16-bit samples, its first channel, at 16 kHz."""
    with wave.open(str(path), "rb") as file:
        if file.getsampwidth() != 2:
            raise OptionError("not a file of 16-bit samples", where=str(path), got=f"{8 * file.getsampwidth()} bits")
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())[:, 0]
        rate = file.getframerate()
    return resample((data / 32768.0).astype(np.float64), rate, RATE).astype(np.float32)


def resample(x: Array, old: int, new: int) -> Array:
    """A windowed-sinc resampler (Hann window over 32 zero crossings)."""
    if old == new:
        return x
    common = gcd(old, new)
    up, down = new // common, old // common
    cutoff = min(1.0, new / old)
    count = (len(x) * up) // down
    half = int(np.ceil(16 / cutoff))
    padded = np.pad(x, half + 1)
    at = np.arange(count) * (down / up)
    first = np.floor(at).astype(np.int64)
    offsets = np.arange(-half, half + 1)
    out = np.empty(count)
    for start in range(0, count, 1 << 15):
        part = slice(start, start + (1 << 15))
        away = (at[part] - first[part])[:, None] - offsets
        weights = cutoff * np.sinc(cutoff * away) * (0.5 + 0.5 * np.cos(np.pi * np.clip(away / (half + 1), -1, 1)))
        out[part] = (weights * padded[first[part][:, None] + offsets + half + 1]).sum(1)
    return out


def trimmed(x: Array) -> Array:
    """Without the silence at both ends: 10 ms frames 40 dB under the loudest."""
    frame = RATE // 100
    count = len(x) // frame
    power = (x[: count * frame].reshape(count, frame).astype(np.float64) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 1e-4)
    return x[loud[0] * frame : (loud[-1] + 1) * frame]
