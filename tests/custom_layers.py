"""Custom layers like those of real networks: resampling by a matrix, deformable convolution, CTC decoding, an exotic activation, a gate
over channels in C, a decaying maximum in a C library, and nonsense for the errors.

Nothing is declared at import: tests that iterate the table of ops must not meet them. ``declared`` is the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import custom
from strop.codegen import toolchain
from strop.custom import dtype as dt
from strop.target.detect import parse as parse_target

WARP, DEFORM, COLLAPSE = "mediapipe::TransformTensorBilinear", "mmdeploy::DeformConv2d", "asr::CTCGreedyCollapse"
SQUAREPLUS, GATE, DECAY, DECAY_SOURCE = "mylib::Squareplus", "mylib::ChannelGate", "mylib::DecayingMax", "mylib::DecayingMaxSource"

#: A kernel by the ABI of strop_kernel.h over x[rows, n]: y = max(x, decay * the y before), row by row.
DECAY_C = r"""
#include <string.h>
#include "strop_kernel.h"

EXPORT void decaying_max(const strop_args *a, int64_t begin, int64_t end)
{
    const int64_t n = a->sym[1]; /* y: 2 dims, 2 strides; x: likewise; attributes */
    float *y = a->p[0];
    const float *x = a->p[1];
    double decay;

    memcpy(&decay, &a->sym[8], sizeof decay);
    for (int64_t row = begin; row < end; row++) {
        float held = x[row * n];

        for (int64_t i = 0; i < n; i++) {
            const float faded = held * (float)decay;

            held = i == 0 || x[row * n + i] > faded ? x[row * n + i] : faded;
            y[row * n + i] = held;
        }
    }
}
"""


def library_path(text: str = DECAY_C) -> Path:
    """A shared library with the kernel ``decaying_max``."""
    target = parse_target("host")
    source = text.replace("EXPORT", '__attribute__((visibility("default")))')
    return toolchain.link_shared(toolchain.compile_all([source], target), target)


def squareplus(x: np.ndarray[Any, Any], b: float) -> np.ndarray[Any, Any]:
    """Smooth ReLU without exponentials (Barron 2021)."""
    return np.asarray(0.5 * (x + np.sqrt(x * x + np.float32(b))), np.float32)


def declare() -> None:
    """Declares all of them."""
    _declare_numpy()
    _declare_c()
    custom.elementwise(SQUAREPLUS, lambda x, b: 0.5 * (x + custom.call("sqrt", x * x + b)), b=4.0)


def _declare_numpy() -> None:
    @custom.layer(WARP)
    class TransformTensorBilinear(custom.Layer):
        output_height: int
        output_width: int

        def shape(self, x: Any, matrix: Any) -> Any:
            return custom.Type(x.dtype, (x.shape[0], self.output_height, self.output_width, x.shape[3]))

        def compute(self, x: Any, matrix: Any) -> Any:
            h, w = x.shape[1:3]
            ys, xs = np.mgrid[: self.output_height, : self.output_width].astype(np.float32)
            m = matrix.reshape(4, 4)
            u, v = m[0, 0] * xs + m[0, 1] * ys + m[0, 3], m[1, 0] * xs + m[1, 1] * ys + m[1, 3]
            u, v = np.clip(u, 0, w - 1), np.clip(v, 0, h - 1)
            left, top = np.floor(u).astype(int), np.floor(v).astype(int)
            right, bottom = np.minimum(left + 1, w - 1), np.minimum(top + 1, h - 1)
            fu, fv = (u - left)[..., None], (v - top)[..., None]
            upper = x[:, top, left] * (1 - fu) + x[:, top, right] * fu
            lower = x[:, bottom, left] * (1 - fu) + x[:, bottom, right] * fu
            return (upper * (1 - fv) + lower * fv).astype(np.float32)

    @custom.layer(DEFORM)
    class DeformConv2d(custom.Layer):
        kernel: tuple[int, int]

        def shape(self, x: Any, offset: Any, w: Any) -> Any:
            return custom.Type(x.dtype, (x.shape[0], w.shape[0], *offset.shape[2:]))

        def compute(self, x: Any, offset: Any, w: Any) -> Any:
            n, _, h, width = x.shape
            oh, ow = offset.shape[2:]
            out = np.zeros((n, w.shape[0], oh, ow), np.float32)
            rows, cols = np.mgrid[:oh, :ow]
            for tap in range(self.kernel[0] * self.kernel[1]):
                i, j = divmod(tap, self.kernel[1])
                for b in range(n):
                    r = np.clip(np.rint(rows + i + offset[b, 2 * tap]), 0, h - 1).astype(int)
                    c = np.clip(np.rint(cols + j + offset[b, 2 * tap + 1]), 0, width - 1).astype(int)
                    out[b] += np.einsum("oc,chw->ohw", w[:, :, i, j], x[b][:, r, c])
            return out

    @custom.layer(COLLAPSE)
    class CTCGreedyCollapse(custom.Layer):
        blank: int = 0

        def shape(self, logits: Any) -> Any:
            n, t = logits.shape[:2]
            return custom.Type(dt.i64, (n, t)), custom.Type(dt.i64, (n,))

        def compute(self, logits: Any) -> Any:
            best = logits.argmax(-1)
            ids, lengths = np.full(best.shape, -1, np.int64), np.zeros(len(best), np.int64)
            for row, path in enumerate(best):
                kept = [p for k, p in enumerate(path) if p != self.blank and (k == 0 or p != path[k - 1])]
                ids[row, : len(kept)], lengths[row] = kept, len(kept)
            return ids, lengths


def _declare_c() -> None:
    @custom.layer(GATE, takes=custom.CHANNELS_LAST, fuses=True)
    class ChannelGate(custom.Layer):
        """y = x * mean of x over the channels, at every pixel."""

        def shape(self, x: Any) -> Any:
            return x

        def compute(self, x: Any) -> Any:
            return x * x.mean(1, keepdims=True, dtype=np.float32)

        def tasks(self, c: custom.Code) -> int:
            return c.inputs[0].shape[0] * c.inputs[0].shape[2]  # type: ignore[union-attr]

        def emit(self, c: custom.Code) -> str:
            (x,) = c.inputs
            assert x is not None and x.strides[1] == 1
            channels, height, width = x.shape[1:]
            store = c.store_vector("vload_n(p + i, m) * mean", 1, "n", "i", "h", "w", count="m")
            return f"""
  for (int64_t task = begin; task < end; task++) {{
    const int64_t n = task / {height}, h = task % {height};
    for (int64_t w = 0; w < {width}; w++) {{
      const float *p = &{x.at("n", 0, "h", "w")};
      vf sum = vzero();
      for (int64_t i = 0; i < {channels}; i += VL)
        sum = sum + vload_n(p + i, {channels} - i < VL ? {channels} - i : VL);
      const vf mean = vset1(vhadd(sum) / {channels});
      for (int64_t i = 0; i < {channels}; i += VL) {{
        const int64_t m = {channels} - i < VL ? {channels} - i : VL;
{store}
      }}
    }}
  }}"""

    class _Decay(custom.Layer):
        decay: float = 0.5

        def shape(self, x: Any) -> Any:
            return x

        def compute(self, x: Any) -> Any:
            y = np.array(x)
            for i in range(1, y.shape[1]):
                y[:, i] = np.maximum(y[:, i], y[:, i - 1] * np.float32(self.decay))
            return y

        def tasks(self, c: custom.Code) -> int:
            return c.outputs[0].shape[0]

    @custom.layer(DECAY, takes=custom.ROW_MAJOR, library=library_path(), symbol="decaying_max")
    class DecayingMax(_Decay):
        pass

    @custom.layer(DECAY_SOURCE, takes=custom.ROW_MAJOR, source=DECAY_C.replace("EXPORT", "static"), symbol="decaying_max")
    class DecayingMaxSource(_Decay):
        pass


@pytest.fixture(scope="module")
def declared() -> Iterator[None]:
    """All of them, while the tests of a module run."""
    declare()
    yield
    for name in custom.declared():
        custom.forget(name)
