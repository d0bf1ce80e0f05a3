"""Features of speech as TensorFlow's microfrontend makes them: mel bands, noise taken off, gain control, logarithm.

After tensorflow/lite/experimental/microfrontend/lib: the same quantities and the same fixed-point numbers, but the Fourier transform is in
floats, where the original rounds at every stage; features may differ by a few units of the logarithm's last places. The notch that takes the mean off is
an addition of Silicon Labs' copy. Audio is i16[n] at 16 kHz in windows of 30 ms, one every 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.suite.speech import RATE
from bench.suite.task import Array

WINDOW, STEP, FFT = 480, 160, 512
LOWEST, HIGHEST = 125.0, 7500.0
#: Fraction bits of window and filter weights, of noise estimates, of what the noise reduction and the gain multiply with, and of the logarithm.
_WEIGHT, _SMOOTHING, _SHARE, _GAIN, _LOG = 12, 10, 14, 21, 6
#: Fraction bits of the signal to noise ratio, and of what the gain control gives.
_SNR, _OUT = 12, 6
#: Bits that the transform's scale lacks.
_CORRECTION = 3
_EVEN, _ODD = int(0.025 * (1 << _SHARE)), int(0.06 * (1 << _SHARE))
_STRENGTH, _OFFSET = 0.95, 80.0
_NOTCH = int(0.95 * (1 << 15))


@dataclass(frozen=True)
class Frontend:
    """What differs between the networks that use it.

    Attributes:
        channels: mel bands.
        remaining: share of the signal that noise reduction leaves at least.
        gain: whether there is gain control per channel (PCAN).
        notch: whether the mean is taken off first.
    """

    channels: int
    remaining: float
    gain: bool
    notch: bool

    def features(self, audio: Array) -> Array:
        """u16[frames, channels] of i16[n], n at least 480."""
        samples = notched(audio) if self.notch else audio
        taper = np.floor((0.5 - 0.5 * np.cos(2 * np.pi / WINDOW * (np.arange(WINDOW) + 0.5))) * (1 << _WEIGHT) + 0.5).astype(np.int64)
        frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP].astype(np.int64)
        return self._logarithm(self._quiet(self._bands((frames * taper) >> _WEIGHT)))

    def _bands(self, frames: Array) -> Array:
        """i64[frames, channels]: the root of the energy in every band."""
        shift = 15 - _bits(np.abs(frames).max(1))
        found = np.rint(np.fft.rfft(frames << shift[:, None], FFT) / FFT)
        energy = found.real**2 + found.imag**2
        return np.floor(np.sqrt(energy @ filters(self.channels)) + 0.5).astype(np.int64) >> shift[:, None]

    def _quiet(self, bands: Array) -> Array:
        """The bands less their noise, frame after frame, and with their gains."""
        share = np.where(np.arange(self.channels) % 2 == 0, _EVEN, _ODD)
        least = int(self.remaining * (1 << _SHARE))
        estimate = np.zeros(self.channels, np.int64)
        found = np.empty_like(bands)
        for number, signal in enumerate(bands):
            scaled = signal << _SMOOTHING
            estimate = (scaled * share + estimate * ((1 << _SHARE) - share)) >> _SHARE
            left = np.maximum((scaled - np.minimum(estimate, scaled)) >> _SMOOTHING, (signal * least) >> _SHARE)
            found[number] = _gained(left, estimate) if self.gain else left
        return found

    def _logarithm(self, bands: Array) -> Array:
        scaled = np.maximum(bands << _CORRECTION, 1)
        return np.minimum(np.floor(np.log(scaled) * (1 << _LOG) + 0.5), 65535).astype(np.uint16)


def _bits(values: Array) -> Array:
    """How many bits a number has; 0 for 0."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _gained(signal: Array, estimate: Array) -> Array:
    """Per-channel energy normalization: the signal by a power of its noise, and its large values compressed."""
    noise = estimate / (1 << (_SMOOTHING - _CORRECTION))
    gain = np.minimum(np.floor((1 << _GAIN) * (noise + _OFFSET) ** -_STRENGTH + 0.5), 0x7FFF).astype(np.int64)
    snr = (signal * gain) >> (_GAIN - _CORRECTION - _SNR)
    return np.where(snr < 2 << _SNR, (snr * snr) >> (2 + 2 * _SNR - _OUT), (snr >> (_SNR - _OUT)) - (1 << _OUT))


def notched(audio: Array) -> Array:
    """The samples less their slow part: y[n] = x[n] - x[n - 1] + 0.95 y[n - 1]."""
    last = 0
    found = np.empty(len(audio), np.int64)
    for number, step in enumerate(np.diff(audio.astype(np.int64), prepend=0).tolist()):
        last = step + ((((_NOTCH * last) >> 14) + 1) >> 1)
        last = (last + 0x8000 & 0xFFFF) - 0x8000
        found[number] = last
    return found


def filters(channels: int) -> Array:
    """f64[257, channels]: triangles that are even on the mel scale, with weights of 12 bits."""
    mel = 1127.01048 * np.log(1 + np.arange(FFT // 2 + 1) * (RATE / FFT) / 700)
    low, high = (1127.01048 * np.log(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    place = (mel - low) / ((high - low) / (channels + 1))
    found = np.zeros((FFT // 2 + 1, channels))
    for number in range(int(1.5 + LOWEST / (RATE / FFT)), FFT // 2 + 1):
        band = int(np.ceil(place[number])) - 1
        if band <= channels:
            rising = place[number] - band
            for channel, weight in ((band, rising), (band - 1, 1 - rising)):
                if 0 <= channel < channels:
                    found[number, channel] = np.floor(weight * (1 << _WEIGHT) + 0.5)
    return found
