"""Arrays that do not fit a built engine: one error that names the input, what it got and what it wants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strop.errors import InputError, OptionError
from tests import tiny_net
from tests.errors.command import run

GOOD = np.zeros(tiny_net.INPUT_SHAPE, np.float32)

BAD = {
    "missing": ({}, "input 'x' is missing"),
    "another name": ({"image": GOOD}, "input 'x' is missing"),
    "one too many": ({"x": GOOD, "mask": GOOD}, "no input has this name"),
    "float64": ({"x": GOOD.astype(np.float64)}, "input 'x' has the wrong dtype"),
    "integers": ({"x": GOOD.astype(np.int64)}, "input 'x' has the wrong dtype"),
    "rank 3": ({"x": GOOD[0]}, "input 'x' has the wrong shape"),
    "rank 5": ({"x": GOOD[None]}, "input 'x' has the wrong shape"),
    "batch of 2": ({"x": np.zeros((2, 3, 8, 8), np.float32)}, "input 'x' has the wrong shape"),
    "channels last": ({"x": np.zeros((1, 8, 8, 3), np.float32)}, "input 'x' has the wrong shape"),
    "ragged": ({"x": [[1.0, 2.0], [3.0]]}, "input 'x' is not an array"),
    "text": ({"x": "hello"}, "input 'x' has the wrong dtype"),
}


@pytest.mark.parametrize("case", BAD)
def test_named_inputs(case: str) -> None:
    inputs, message = BAD[case]
    with pytest.raises(InputError, match=message) as error:
        tiny_net.engine().run(inputs)  # type: ignore[arg-type]
    expected = error.value.expected or ""
    assert "x: f32[1, 3, 8, 8]" in expected or expected in ("float32", "(1, 3, 8, 8)")


@pytest.mark.parametrize("count", [0, 2])
def test_positional_inputs(count: int) -> None:
    with pytest.raises(InputError, match="wrong number of inputs") as error:
        tiny_net.engine()(*[GOOD] * count)
    assert error.value.got == str(count)


def test_the_engine_still_runs_afterwards() -> None:
    engine = tiny_net.engine()
    before = engine(GOOD)
    with pytest.raises(InputError):
        engine(GOOD[0])
    np.testing.assert_array_equal(engine(GOOD), before)


def test_impossible_threads() -> None:
    for threads in (0, -1, 1000):
        with pytest.raises(OptionError, match="number of threads"):
            tiny_net.engine().context(threads=threads)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (GOOD.astype(np.float64), "wrong dtype"),
        (GOOD[0], "wrong shape"),
        (np.zeros((1, 3, 8, 9), np.float32), "wrong shape"),
    ],
)
def test_on_the_command_line(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    done = run("run", tiny_net.engine_file(), "-i", f"x={tmp_path / 'x.npy'}", "-o", tmp_path / "out.npz")
    assert done.code == 1 and message in done.err
    assert not (tmp_path / "out.npz").exists()


def test_an_unknown_name_on_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GOOD)
    done = run("run", tiny_net.engine_file(), "-i", f"x={tmp_path / 'x.npy'}", "-i", f"y={tmp_path / 'x.npy'}")
    assert done.code == 1 and "no input has this name" in done.err and "'y'" in done.err
