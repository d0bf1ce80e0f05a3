"""Names of the stages, and what ends a build early on purpose."""

from __future__ import annotations

from typing import Any

from strop.trace import Trace

#: In order; also the values of ``--stop-after``.
STAGES = ("frontend", "optimize", "quantize", "lower", "tune", "codegen", "engine")


class Stopped(Exception):
    """The build ended after the stage it was asked to stop after. Not an error."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"stopped after {stage}")
        self.stage = stage


class Stage:
    """Times a stage, and ends the build after it when asked to."""

    def __init__(self, trace: Trace, name: str) -> None:
        self._trace, self._name = trace, name
        self._timer = trace.stage(name)

    def __enter__(self) -> None:
        self._timer.__enter__()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self._timer.__exit__(kind, value, traceback)
        if kind is None and self._trace.stop_after == self._name:
            raise Stopped(self._name)
