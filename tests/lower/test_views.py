"""View algebra against numpy: a reshape, transpose or slice that is a view names the same elements in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from strop.ir import dtype as dt
from strop.kernels.base import View
from strop.lower import views


def elements(view: View, offset: int = 0) -> np.ndarray:
    """Memory positions that the view names."""
    flat = np.arange(offset, offset + max(1, view.span))
    return as_strided(flat, view.shape, [s * 8 for s in view.strides])


def factored(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    """A random shape of ``count`` elements."""
    dims = []
    while count > 1:
        divisors = [d for d in range(2, count + 1) if count % d == 0]
        dims.append(int(rng.choice(divisors)))
        count //= dims[-1]
        if rng.random() < 0.2:
            dims.append(1)
    return tuple(dims) or (1,)


@pytest.mark.parametrize("seed", range(200))
def test_reshape_is_exact_or_refused(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.choice([12, 24, 36, 60]))
    shape = factored(rng, count)
    view = View.dense(shape, dt.f32, tuple(int(a) for a in rng.permutation(len(shape))))
    wanted = factored(rng, count)
    found = views.reshaped(view, wanted)
    if found is not None:
        np.testing.assert_array_equal(elements(found), elements(view).reshape(wanted))
    else:  # numpy, too, would have to copy
        array = as_strided(np.zeros(view.span, np.int8), view.shape, view.strides)
        assert not np.shares_memory(array.reshape(wanted), array)


def test_row_major_takes_every_shape():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        view = View.dense(factored(rng, 48), dt.f32)
        assert views.reshaped(view, factored(rng, 48)) is not None


def test_slices_and_transposes():
    view = View.dense((4, 6, 5), dt.f32, (2, 0, 1))
    part, offset = views.sliced(view, 1, 1, 2, step=3)
    np.testing.assert_array_equal(elements(part, offset), elements(view)[:, 1:6:3])
    turned = views.transposed(view, (2, 0, 1))
    np.testing.assert_array_equal(elements(turned), elements(view).transpose(2, 0, 1))


def test_flattening_channels_last_needs_a_copy():
    image = View.dense((1, 8, 4, 4), dt.f32, views.channels_last(4))
    assert views.reshaped(image, (1, 128)) is None
    assert views.reshaped(image, (1, 8, 16)) is not None
    assert views.reshaped(image, (1, 2, 4, 4, 4)) is not None
