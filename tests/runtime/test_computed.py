"""Sizes that steps find, in the runtime by itself: threads, nothing found, other shapes, numbers outside their range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strop.errors import InputError
from strop.runtime.session import Session
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_outputs_are_as_long_as_what_was_found(tmp_path: Path, threads: int) -> None:
    session = Session(syn.write(tmp_path / "e.strop", syn.computed_plan()), threads=threads)
    assert [t.is_computed for t in session.outputs] == [True, True] and session.outputs[0].most == (8,)
    context = session.context()
    rng = np.random.default_rng(threads)
    for rows in (2, 8, 1, 5, 8, 3):
        for x in (rng.standard_normal(rows), -np.ones(rows), np.ones(rows), rng.standard_normal(rows)):
            x = x.astype(np.float32)
            double, some = context(x)
            np.testing.assert_array_equal(double, 2 * x[x > 0])
            np.testing.assert_array_equal(some, 4 * x[x > 0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_number_outside_its_range_ends_the_run(tmp_path: Path, threads: int) -> None:
    context = Session(syn.write(tmp_path / "e.strop", syn.computed_plan(3)), threads=threads).context()
    for _ in range(20):
        with pytest.raises(InputError, match="step 'keep' finds 4 for 'kept', which is planned for 0 to 3"):
            context(np.ones(4, np.float32))
        np.testing.assert_array_equal(context(np.array([1, -1, 2], np.float32))[1], [4, 8])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_steps_are_jumped_over(tmp_path: Path, threads: int) -> None:
    session = Session(syn.write(tmp_path / "e.strop", syn.jump_plan()), threads=threads)
    context = session.context()
    for sign in (1, -1, 1, 1, -1, -1):
        x = np.full(4, sign, np.float32)
        y, z = np.full(4, 7, np.float32), np.zeros(4, np.float32)
        context.run({"x": x}, out={"y": y, "z": z})
        np.testing.assert_array_equal(z, 2 * x)
        np.testing.assert_array_equal(y, 2 * x if sign > 0 else np.full(4, 7))
    times = {t.name: t.nanoseconds for t in session.profile({"x": -np.ones(4, np.float32)}, runs=3)}
    assert times["y"] == 0 and times["z"] < 1 << 40


def test_profile_and_rooms(tmp_path: Path) -> None:
    session = Session(syn.write(tmp_path / "e.strop", syn.computed_plan()), threads=2)
    times = session.profile({"x": np.ones(8, np.float32)}, runs=3)
    assert [t.name for t in times] == ["keep", "double", "again", "last"]
    context = session.context()
    x = np.array([3, -1, 4, -1, 5, -9, 2, -6], np.float32)
    context.resize({"x": (8,)})
    out = context.new_outputs()
    assert [a.shape for a in out.values()] == [(8,), (8,)]
    got = context.run({"x": x}, out=out)
    assert got["double"].tolist() == [6, 8, 10, 4] and np.shares_memory(got["double"], out["double"])
    run = context.bind({"x": x}, out)
    x[0] = -3
    run()
    assert context.output_shapes() == {"double": (3,), "some": (3,)} and out["some"][:3].tolist() == [16, 20, 8]


@pytest.mark.parametrize("given", [np.empty(4, np.float32), np.empty(8, np.float64), np.empty((2, 4), np.float32), np.empty(16, np.float32)[::2]])
def test_arrays_without_room(tmp_path: Path, given: np.ndarray) -> None:
    context = Session(syn.write(tmp_path / "e.strop", syn.computed_plan()), threads=1).context()
    x = np.ones(8, np.float32)
    context.resize({"x": (8,)})
    with pytest.raises(InputError, match="'double' cannot be written into the given array"):
        context.run({"x": x}, out={"double": given})
    with pytest.raises(InputError, match="'double' cannot be written into the given array"):
        context.bind({"x": x}, {**context.new_outputs(), "double": given})


def test_a_c_program_asks_for_the_shape_after_the_run(tmp_path: Path) -> None:
    engine = syn.write(tmp_path / "e.strop", syn.computed_plan())
    program = syn.compile_native(
        [syn.HERE / "computed.c", *syn.sources.source_files()], "computed", "-std=gnu11", "-lpthread", "-ldl"
    )
    done = syn.subprocess.run([str(program), str(engine)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["room", "32", "found", "2", "10", "14", "found", "0"]
