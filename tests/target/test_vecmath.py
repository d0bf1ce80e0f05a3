"""Accuracy of the vector functions against float64, densely and at special values, on every instruction set the host runs."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from strop.codegen import toolchain
from strop.target.detect import TARGETS, runs_here
from strop.target.isa.table import ISAS

HERE = [t for t in TARGETS.values() if runs_here(t)]
_erf = np.vectorize(math.erf, otypes=[np.float64])

#: name -> (exact meaning, allowed units in the last place, values at special arguments)
FUNCTIONS = {
    "vexp": (np.exp, 1.1, [(-np.inf, 0.0), (np.inf, np.inf), (0.0, 1.0), (89.0, np.inf), (-105.0, 0.0), (88.72283, None), (-103.0, None)]),
    "vexpm1": (np.expm1, 1.5, [(-np.inf, -1.0), (np.inf, np.inf), (0.0, 0.0), (1e-40, 1e-40), (89.0, np.inf), (88.72, None)]),
    "vlog": (np.log, 1.1, [(0.0, -np.inf), (-0.0, -np.inf), (-1.0, np.nan), (np.inf, np.inf), (1.0, 0.0), (1e-42, None), (-np.inf, np.nan)]),
    "vlog1p": (np.log1p, 1.1, [(-1.0, -np.inf), (-1.5, np.nan), (np.inf, np.inf), (0.0, 0.0), (3e38, None), (1e-40, 1e-40)]),
    "vtanh": (np.tanh, 2.5, [(np.inf, 1.0), (-np.inf, -1.0), (0.0, 0.0), (-0.0, -0.0), (1e-40, 1e-40), (30.0, 1.0)]),
    "verf": (_erf, 3.2, [(np.inf, 1.0), (-np.inf, -1.0), (0.0, 0.0), (-0.0, -0.0), (1e-30, None), (30.0, 1.0)]),
    "vsin": (np.sin, 1.7, [(np.inf, np.nan), (0.0, 0.0), (1e30, None), (3.1415927, None)]),
    "vcos": (np.cos, 1.7, [(-np.inf, np.nan), (0.0, 1.0), (1e30, None), (1.5707964, None)]),
}


def _library(target):
    names = [*FUNCTIONS, "vpow"]
    text = "".join(
        f'__attribute__((visibility("default"))) void f_{n}(const float *x, const float *z, float *y, int64_t n) {{\n'
        f"  for (int64_t i = 0; i < n; i += VL) vstore(y + i, {n}(vload(x + i){', vload(z + i)' * (n == 'vpow')}));\n}}\n"
        for n in names
    )
    head = "#include <math.h>\n#include <stdint.h>\n"
    unit = head + ISAS[target.isa].prologue(text) + text
    return ctypes.CDLL(str(toolchain.link_shared(toolchain.compile_all([unit], target), target)))


def _call(lib, name, x, z=None):
    size = -(-len(x) // 64) * 64
    padded = [np.ones(size, np.float32) for _ in range(3)]
    padded[0][: len(x)] = x
    if z is not None:
        padded[1][: len(z)] = z
    pointers = [ctypes.c_void_p(p.ctypes.data) for p in padded]
    getattr(lib, f"f_{name}")(*pointers, ctypes.c_int64(size))
    return padded[2][: len(x)]


def _ulps(got, want):
    """Error in units in the last place of the exact result; 0 where equal infinities or NaN, infinite where those differ."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        unit = np.exp2(np.floor(np.log2(np.clip(np.abs(want), 2.0**-126, 2.0**127))) - 23)
        error = np.abs(got.astype(np.float64) - want) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    odd = ~np.isfinite(rounded) | ~np.isfinite(got)
    error[odd] = np.inf
    error[odd & same] = 0
    return error


def _samples():
    bits = np.arange(0, 2**32, 8209, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = [np.linspace(-lim, lim, 60001, dtype=np.float32) for lim in (1.0, 5.0, 20.0, 110.0)]
    return np.concatenate([bits, *near])


@pytest.fixture(scope="module", params=HERE, ids=str)
def lib(request):
    return _library(request.param)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(lib, name):
    exact, allowed, _ = FUNCTIONS[name]
    x = _samples()
    with np.errstate(all="ignore"):
        want = exact(x.astype(np.float64))
    error = _ulps(_call(lib, name, x), want)
    worst = int(error.argmax())
    assert error[worst] <= allowed, f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(lib, name):
    exact, allowed, table = FUNCTIONS[name]
    x = np.array([*(a for a, _ in table), np.nan], np.float32)
    got = _call(lib, name, x)
    assert np.isnan(got[-1]), "NaN must stay NaN"
    for argument, result, wanted in zip(x, got, (w for _, w in table)):
        if wanted is None:
            want = np.asarray(exact(np.float64(argument)))[None]
            assert _ulps(np.array([result]), want)[0] <= allowed, (name, argument, result, want)
        else:
            np.testing.assert_array_equal(result, np.float32(wanted), err_msg=f"{name}({argument})")
            assert np.signbit(result) == np.signbit(np.float32(wanted)) or np.isnan(wanted), (name, argument)


def test_pow(lib):
    rng = np.random.default_rng(5)
    base = np.abs(_samples()[::3])
    base = base[np.isfinite(base) & (base > 0)]
    exponent = rng.uniform(-40, 40, len(base)).astype(np.float32)
    exponent[::4] = rng.uniform(-1, 1, len(exponent[::4]))
    with np.errstate(all="ignore"):
        want = np.power(base.astype(np.float64), exponent.astype(np.float64))
    error = _ulps(_call(lib, "vpow", base, exponent), want)
    worst = int(error.argmax())
    assert error[worst] <= 0.6, f"pow({base[worst]!r}, {exponent[worst]!r}) is off by {error[worst]:.2f} ulp"


def test_pow_special_values(lib):
    inf, nan = np.inf, np.nan
    values = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, inf, -inf, nan, 3.0, -8.0, 1e-42], np.float32)
    base, exponent = (a.ravel() for a in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        want = np.power(base.astype(np.float64), exponent.astype(np.float64))
    error = _ulps(_call(lib, "vpow", base, exponent), want)
    assert error.max() <= 1.0, list(zip(base[error > 1], exponent[error > 1]))


def test_sigmoid_from_exp_is_accurate(lib):
    x = np.linspace(-87, 40, 40001, dtype=np.float32)
    got = np.float32(1) / (np.float32(1) + _call(lib, "vexp", -x))
    assert _ulps(got, 1 / (1 + np.exp(-x.astype(np.float64)))).max() <= 2.5
