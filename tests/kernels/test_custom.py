"""Custom layers as kernels: emitted C and C sources in every layout, with and without an epilogue, against numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from strop import custom
from strop.ir.op import Sample
from strop.kernels.c import custom as kernels
from strop.kernels.table import refusal
from strop.target.detect import TARGETS, runs_here
from tests import custom_layers
from tests.kernels import regions
from tests.kernels.harness import check_all

HERE = [t for t in TARGETS.values() if runs_here(t)]


@pytest.fixture(autouse=True, scope="module")
def declared() -> Iterator[None]:
    custom_layers.declare()

    @custom.layer("test::Mix", fuses=True)
    class Mix(custom.Layer):
        """y[i, j, k] = scale * (x[i, j, k] + w[k]), one task per i."""

        scale: float = 2.0

        def shape(self, x: Any, w: Any) -> Any:
            return x

        def compute(self, x: Any, w: Any) -> Any:
            return (np.float32(self.scale) * (x + w)).astype(x.dtype)

        def tasks(self, c: Any) -> int:
            return int(c.outputs[0].shape[0])

        def emit(self, c: Any) -> str:
            x, w = c.inputs
            store = c.store(f"{self.scale}f * ({x.at('i', 'j', 'k')} + {w.at('k')})", "i", "j", "k")
            _, height, width = x.shape
            return (
                f"for (int64_t i = begin; i < end; i++) for (int64_t j = 0; j < {height}; j++) "
                f"for (int64_t k = 0; k < {width}; k++) {store}"
            )

    yield
    for name in custom.declared():
        custom.forget(name)


def sample(name: str, *shapes: tuple[int, ...], **attributes: Any) -> Sample:
    rng = np.random.default_rng(5)
    return Sample(custom.make(name, attributes), tuple(rng.standard_normal(s).astype(np.float32) for s in shapes))


@pytest.mark.parametrize("target", HERE, ids=str)
def test_emitted_c_in_every_layout(target: Any) -> None:
    mix, rng = sample("test::Mix", (3, 4, 21), (21,), scale=0.5), np.random.default_rng(0)
    cases = [
        regions.anchored(mix, layout, rng, epilogue, constants)
        for layout in regions.LAYOUTS for epilogue in (False, True) for constants in (False, True)
    ]  # fmt: skip
    assert all(refusal(kernels.KERNEL, region, target) is None for region, _ in cases)
    check_all(kernels.KERNEL, cases, target)


@pytest.mark.parametrize("channels", [1, 7, 16, 40])
def test_vector_stores(channels: int) -> None:
    gate, rng = sample(custom_layers.GATE, (2, channels, 3, 5)), np.random.default_rng(0)
    cases = [regions.anchored(gate, "last", rng, epilogue) for epilogue in (False, True)]
    check_all(kernels.KERNEL, [c for c in cases if c[0].operand(0).view.strides[1] == 1], HERE[0])


def test_a_source() -> None:
    case = regions.anchored(sample(custom_layers.DECAY_SOURCE, (5, 9), decay=0.3), "dense", np.random.default_rng(0))
    check_all(kernels.KERNEL, [case], HERE[0])


def test_who_takes_what() -> None:
    rng = np.random.default_rng(0)
    mix = regions.anchored(sample("test::Mix", (3, 4, 21), (21,)), "dense", rng)[0]
    fused = regions.anchored(sample(custom_layers.DECAY_SOURCE, (5, 9)), "dense", rng, epilogue=True)[0]
    library = regions.anchored(sample(custom_layers.DECAY, (5, 9)), "dense", rng)[0]
    numpy = regions.anchored(sample(custom_layers.COLLAPSE, (2, 5, 9)), "dense", rng)[0]
    all_three = (kernels.KERNEL, kernels.LIBRARY, kernels.CALLBACK)
    said = [[refusal(kernel, region, HERE[0]) for kernel in all_three] for region in (mix, fused, library, numpy)]
    assert said[0] == [None, "the custom layer has no shared library", "the custom layer has native code"]
    assert said[1] == ["the custom layer does not apply what follows it", "the custom layer has no shared library", *said[1][:1]]
    assert said[2] == ["the custom layer has no C code", None, "the custom layer has native code"]
    assert said[3] == ["the custom layer has no C code", "the custom layer has no shared library", None]
