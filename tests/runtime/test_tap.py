"""Running an engine step by step and looking in between."""

from __future__ import annotations

from ctypes import byref, c_uint64, c_void_p

import numpy as np
import pytest

from strop.errors import InputError, RuntimeFailure
from strop.runtime.tap import observe
from tests import tiny_net


@pytest.mark.parametrize("threads", [1, 3])
def test_every_step_is_seen_once_in_order_and_outputs_stay(threads: int) -> None:
    engine = tiny_net.engine()
    feed = engine.random_inputs(1)
    seen: list[int] = []
    sizes: list[int] = []

    def look(step: int, read) -> None:
        seen.append(step)
        sizes.append(read(0).size)

    got = observe(engine.context(threads=threads), feed, look)
    assert seen == list(range(len(engine.session.steps))) and min(sizes) > 0
    wanted = engine.run(feed)
    assert all(got[name].tobytes() == wanted[name].tobytes() for name in wanted)


def test_a_part_of_a_run_ends_when_all_threads_are_done() -> None:
    """Steps of one thread follow each other without a barrier; a part that ends with one is waited for all the same."""
    engine = tiny_net.engine()
    feed = engine.random_inputs(3)
    wanted = engine.run(feed)
    context = engine.context(threads=2)
    for _ in range(500):
        got = observe(context, feed, lambda step, read: None)
        assert all(got[name].tobytes() == wanted[name].tobytes() for name in wanted)


def test_what_is_read_is_what_the_last_step_wrote() -> None:
    engine = tiny_net.engine()
    feed, last = engine.random_inputs(2), len(engine.session.steps) - 1
    found: list[np.ndarray] = []

    def look(step: int, read) -> None:
        if step == last:
            (argument,) = {v[2] for v in engine.manifest["steps"][step]["values"]}
            found.append(read(argument).view(np.float32))

    outputs = observe(engine.context(threads=1), feed, look)
    assert any(found[0].tobytes() == array.tobytes() for array in outputs.values())


def test_steps_and_operands_that_are_not_there() -> None:
    engine = tiny_net.engine()
    context = engine.context(threads=1)
    library, handle, error = context._lib, context._handle, context._error
    count = len(engine.session.steps)

    def look(step: int, read) -> None:
        with pytest.raises(RuntimeFailure, match="operand 1000 of step"):
            read(1000)
        for first, end in ((0, count + 1), (2, 1), (1 << 31, (1 << 31) + 1)):
            code = library.strop_context_run_steps(handle, first, end, byref(error))
            with pytest.raises(RuntimeFailure, match=f"steps {first} to {end}"):
                library.check(code, error, "net")

    observe(context, engine.random_inputs(), look)


def test_nothing_runs_or_is_read_before_everything_is_bound() -> None:
    context = tiny_net.engine().context(threads=1)
    library, handle, error = context._lib, context._handle, context._error
    code = library.strop_context_run_steps(handle, 0, 1, byref(error))
    assert code != 0 and b"is not bound" in error.message
    data, size = c_void_p(), c_uint64()
    code = library.strop_context_operand(handle, 0, 0, byref(data), byref(size), byref(error))
    assert code != 0 and b"is not bound" in error.message


def test_inputs_are_checked_as_in_a_run() -> None:
    context = tiny_net.engine().context(threads=1)
    with pytest.raises(InputError):
        observe(context, {}, lambda step, read: None)
