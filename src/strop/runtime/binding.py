"""Arrays that were bound once: what a call costs least with."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref

from strop.runtime.error_struct import ErrorStruct


class Binding:
    """Runs a context on the arrays that were bound; see Context.bind. May be called as often as the context may be used.

    Raises:
        RuntimeFailure: the context is closed or in use by another thread.
    """

    __slots__ = ("__weakref__", "_arguments", "_check", "_error", "_held", "_run")

    def __init__(
        self,
        run: Callable[..., int],
        check: Callable[[int, ErrorStruct], None],
        handle: object,
        slots: tuple[object, object],
        held: object,
    ) -> None:
        """What one call does.

        Args:
            run: takes the context's handle, the pointers to inputs and to outputs, and an error; returns its code.
            check: raises what a code other than 0 stands for.
            handle: the context's.
            slots: arrays of pointers to inputs and to outputs.
            held: what must live as long.
        """
        self._run = run
        self._check = check
        self._error = ErrorStruct()
        self._held = held
        self._arguments = (handle, *slots, byref(self._error))

    def __call__(self) -> None:
        """Computes the outputs from what the inputs hold now."""
        code = self._run(*self._arguments)
        if code:
            self._check(code, self._error)

    def retire(self, run: Callable[..., int]) -> None:
        """From now on calls do this."""
        self._run = run
