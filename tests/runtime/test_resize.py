"""Contexts at other shapes: from C, from C++ and from Python, over an engine whose rows and columns are free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from strop.errors import InputError, RuntimeFailure
from strop.runtime import sources
from strop.runtime.session import Session
from tests.runtime import synthetic as syn
from tests.runtime.test_native import run

pytestmark = syn.needs_linux


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return syn.write(tmp_path_factory.mktemp("dynamic") / "e.strop", syn.dynamic_plan())


@pytest.fixture
def session(path: Path) -> Session:
    return Session(path, threads=2)


def inputs(rows: int, columns: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows * 100 + columns)
    return {"a": rng.random((rows, columns), np.float32), "b": rng.random(rows, np.float32)}


def check(results: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(results["quadruple"], 4 * given["a"])
    np.testing.assert_array_equal(results["last"], 2 * given["a"][-1])
    np.testing.assert_array_equal(results["same"], 2 * given["b"])


def test_c_program(path: Path) -> None:
    files = [syn.HERE / "resize.c", *sources.source_files()]
    program = syn.compile_native(files, "resize-c", "-std=gnu11", "-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined", "-lpthread", "-ldl")
    assert run(program, path) == "ok\n"


@pytest.mark.slow  # the C++ standard library is built first
def test_cpp_program(path: Path) -> None:
    library = syn.runtime_path()
    flags = ("-std=c++17", "-O1", str(library), f"-Wl,-rpath,{library.parent}")
    program = syn.compile_native([syn.HERE / "resize.cpp"], "resize-cpp", *flags, language="c++")
    assert run(program, path) == "ok\n"


def test_shapes_follow_the_arrays(session: Session) -> None:
    assert str(session.inputs[0]) == "a: f32[1..8, 4..64%4]" and session.inputs[0].shape == (2, 16)
    assert session.outputs[1].most == (64,) and session.outputs[0].is_dynamic
    for rows, columns in ((2, 16), (8, 64), (1, 4), (1, 4), (3, 20), (8, 4)):
        given = inputs(rows, columns)
        check(session.run(given), given)
        quadruple, last, same = session(given["a"], given["b"])
        check({"quadruple": quadruple, "last": last, "same": same}, given)


def test_outputs_of_the_callers_own(session: Session) -> None:
    given = inputs(3, 8)
    out = {"quadruple": np.empty((3, 8), np.float32)}
    results = session.run(given, out=out)
    assert results["quadruple"] is out["quadruple"]
    check(results, given)
    with pytest.raises(InputError, match="output 'quadruple' has the wrong shape"):
        session.run(inputs(4, 8), out=out)


def test_resize_tells_the_outputs_shapes(session: Session) -> None:
    context = session.context()
    assert context.resize({"a": (5, 12), "b": (5,)}) == {"quadruple": (5, 12), "last": (12,), "same": (5,)}
    memory = context.memory
    context.resize({"a": (8, 64), "b": (8,)})
    assert context.memory == memory
    context.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        context.resize({"a": (5, 12), "b": (5,)})


def test_bindings_of_several_shapes_share_a_context(session: Session) -> None:
    context = session.context()
    bound = []
    for rows, columns in ((2, 8), (7, 64), (2, 12)):
        given = inputs(rows, columns)
        out = {"quadruple": np.empty((rows, columns), np.float32), "last": np.empty(columns, np.float32), "same": np.empty(rows, np.float32)}
        bound.append((context.bind(given, out), given, out))
    for call, given, out in [*bound, *reversed(bound)]:
        for array in out.values():
            array[...] = 0
        call()
        check(out, given)


def test_profile_at_another_shape(session: Session) -> None:
    assert len(session.profile(inputs(8, 64), runs=2)) == 4


def test_threads_have_shapes_of_their_own(session: Session) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(200):
                given = inputs(int(rng.integers(1, 9)), 4 * int(rng.integers(1, 17)))
                check(session.run(given), given)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {**g, "a": np.zeros((9, 8), np.float32)}, "axis 0 of input 'a' is 9; 'rows' takes 1 to 8"),
        (lambda g: {**g, "a": np.zeros((2, 68), np.float32)}, "axis 1 of input 'a' is 68; 'quads' takes 4 to 64 in steps of 4"),
        (lambda g: {**g, "a": np.zeros((2, 6), np.float32)}, "axis 1 of input 'a' is 6; 'quads' takes 4 to 64 in steps of 4"),
        (lambda g: {**g, "a": np.zeros((0, 8), np.float32)}, "is 0; 'rows' takes 1 to 8"),
        (lambda g: {**g, "b": np.zeros(3, np.float32)}, "input 'b' is 3, which makes 'rows' 3; axis 0 of input 'a' makes it 2"),
        (lambda g: {**g, "b": np.zeros((2, 1), np.float32)}, "input 'b' has the wrong shape"),
        (lambda g: {**g, "a": np.zeros((2, 8))}, "input 'a' has the wrong dtype"),
        (lambda g: {"a": g["a"]}, "input 'b' is missing"),
    ],
)
def test_shapes_that_are_not_served(
    session: Session, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], message: str
) -> None:
    given = inputs(2, 8)
    check(session.run(given), given)
    with pytest.raises(InputError, match=message) as caught:
        session.run(change(given))
    assert caught.value.where == session.where
    check(session.run(given), given)
