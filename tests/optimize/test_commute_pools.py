"""Average pools and 1x1 convolutions stand in the cheaper order."""

from __future__ import annotations

import numpy as np
import pytest

from strop.ops.conv import Conv
from strop.ops.pool import AveragePool
from strop.optimize import commute_pools
from tests.optimize.harness import Case, labels

POINT = Conv((1, 1), (0, 0, 0, 0), (1, 1), 1)


def pool(kernel: int, stride: int, pad: int = 0, counts: bool = True, ceil: bool = False) -> AveragePool:
    return AveragePool((kernel, kernel), (stride, stride), (pad,) * 4, (1, 1), ceil, counts)


def weights(b: Case, o: int, c: int, k: int = 1):
    return b.const(b.rng.standard_normal((o, c, k, k)).astype(np.float32))


@pytest.mark.parametrize("bias", [False, True])
def test_a_pool_that_strides_comes_first(bias: bool) -> None:
    b = Case(2, 8, 6, 6)
    more = [b.const(b.rng.standard_normal(5).astype(np.float32))] if bias else []
    y = b.add(pool(2, 2), b.add(POINT, b.x, weights(b, 5, 8), *more))
    graph = b.after(commute_pools, y)
    assert labels(graph) == ["average_pool", "conv"]


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_narrow_convolution_comes_first(bias: bool, counts: bool) -> None:
    b = Case(2, 8, 6, 7)
    more = [b.const(b.rng.standard_normal(3).astype(np.float32))] if bias else []
    y = b.add(POINT, b.add(pool(3, 1, 1, counts), b.x), weights(b, 3, 8), *more)
    graph = b.after(commute_pools, y)
    assert labels(graph) == (["conv", "average_pool", "reshape", "add"] if bias else ["conv", "average_pool"])


def stays(b: Case, *outputs: object) -> bool:
    before = labels(b.graph)
    return labels(b.after(commute_pools, *outputs)) == before  # type: ignore[arg-type]


def test_unless_the_value_between_is_read_elsewhere() -> None:
    b = Case(1, 8, 6, 6)
    y = b.add(POINT, b.x, weights(b, 5, 8))
    assert stays(b, b.add(pool(2, 2), y), b.fn("tanh", y))


def test_unless_padding_would_scale_the_bias() -> None:
    b = Case(1, 8, 6, 6)
    y = b.add(POINT, b.x, weights(b, 5, 8), b.const(np.ones(5, np.float32)))
    assert stays(b, b.add(pool(3, 2, 1), y))


def test_unless_the_convolution_reads_neighbours_or_strides() -> None:
    for conv, k in ((Conv((1, 1), (1, 1, 1, 1), (1, 1), 1), 3), (Conv((2, 2), (0, 0, 0, 0), (1, 1), 1), 1)):
        b = Case(1, 8, 8, 8)
        assert stays(b, b.add(pool(2, 2), b.add(conv, b.x, weights(b, 5, 8, k))))


def test_unless_the_convolution_is_wide() -> None:
    b = Case(1, 8, 6, 6)
    assert stays(b, b.add(POINT, b.add(pool(3, 1, 1), b.x), weights(b, 5, 8)))


def test_unless_little_is_saved() -> None:
    b = Case(1, 64, 3, 3)
    y = b.add(POINT, b.x, weights(b, 1, 64))
    assert stays(b, b.add(AveragePool((3, 1), (1, 1), (1, 0, 0, 0), (1, 1), False, False), y))
