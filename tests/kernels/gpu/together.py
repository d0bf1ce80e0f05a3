"""Runs programs that wait for each other with Triton's interpreter, which otherwise runs them one after the other: in turns, a thread each."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

interpreter = pytest.importorskip("triton.runtime.interpreter", reason="the package triton is not installed")

#: Readings of counters that a program may make before it is said to wait for ever.
_MOST = 100_000


class _Turns:
    """One program runs at a time; a waiting one gives way to another, chosen at random."""

    def __init__(self, programs: Sequence[tuple[int, ...]]) -> None:
        self.programs, self.alive, self.turn = programs, list(range(len(programs))), 0
        self.changed, self.rng, self.failures = threading.Condition(), random.Random(1), list[BaseException]()
        self.own = threading.local()

    def begin(self, number: int) -> None:
        self.own.number, self.own.left = number, _MOST
        self._wait()

    def _wait(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.turn == self.own.number)
        interpreter.interpreter_builder.grid_idx = self.programs[self.own.number]

    def give_way(self) -> None:
        """Called where a program looks whether it may go on."""
        self.own.left -= 1
        assert self.own.left and not self.failures, f"program {self.programs[self.own.number]} waits for ever"
        self._next()
        self._wait()

    def end(self) -> None:
        self.alive.remove(self.own.number)
        if self.alive:
            self._next()

    def _next(self) -> None:
        with self.changed:
            self.turn = self.rng.choice(self.alive)
            self.changed.notify_all()


_RUNNING: list[_Turns] = []


def waiting() -> None:
    """A program reads a counter that others count up."""
    if _RUNNING:
        _RUNNING[-1].give_way()


class _Scopes:
    """Where the language is the interpreter's: once for every module of functions, until the last program is done."""

    def __init__(self) -> None:
        self.patch, self.scopes = interpreter._patch_lang, dict[int, Any]()

    def of(self, function: Any) -> _Scopes:
        if id(function.__globals__) not in self.scopes:
            self.scopes[id(function.__globals__)] = self.patch(function)
        return self

    def restore(self) -> None:
        """What the interpreter calls when one program is done."""

    def end(self) -> None:
        interpreter._patch_lang = self.patch
        for scope in reversed(self.scopes.values()):
            scope.restore()


def run(function: Any, grid: tuple[int, int, int], parameters: Sequence[Any]) -> None:
    """All programs of a grid; the first failure of one is raised."""
    turns, builder, scopes = _Turns(list(product(*map(range, grid)))), interpreter.interpreter_builder, _Scopes()

    def work(number: int) -> None:
        turns.begin(number)
        try:
            function[(1, 1, 1)](*parameters)
        except BaseException as error:
            turns.failures.append(error)
        turns.end()

    interpreter._patch_lang = scopes.of
    builder.set_grid_dim = lambda *_: setattr(builder, "grid_dim", grid)
    builder.set_grid_idx = lambda *_: setattr(builder, "grid_idx", turns.programs[turns.own.number])
    _RUNNING.append(turns)
    try:
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(turns.programs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        _RUNNING.pop()
        scopes.end()
        del builder.set_grid_dim, builder.set_grid_idx
    if turns.failures:
        raise turns.failures[0]
