"""The progress of a build as phases of an IProgressMonitor: one phase for the build, and in it one per stage."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from strop.engine.stages import STAGES

_WHOLE = "Building engine"


class Cancelled(Exception):
    """A progress monitor ended the build."""


class Phases:
    """The callback of a build, and the block around it, which opens and closes phases. Without a monitor it does nothing.

    A step counts from 0 to one less than the phase's number of steps; what a stage does without saying how much there is is one step.
    """

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor
        self._stage = ""
        self._steps = 0
        self._done = 0

    def __enter__(self) -> Phases:
        if self._monitor is not None:
            self._monitor.phase_start(_WHOLE, None, len(STAGES))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._monitor is not None:
            try:
                self._close(ended=kind is None)
            finally:
                self._monitor.phase_finish(_WHOLE)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Called by the build: ``total`` 0 when a stage begins.

        Raises:
            Cancelled: the monitor said so.
        """
        if self._monitor is None:
            return
        if stage != self._stage:
            self._close()
            self._stage = stage
        if total and total != self._steps:
            self._finish()
            self._open(total)
        if total and done:
            self._tell(stage, min(done, total) - 1)

    def _open(self, steps: int) -> None:
        self._steps = steps
        self._monitor.phase_start(self._stage, _WHOLE, steps)

    def _finish(self) -> None:
        if self._steps:
            self._steps = 0
            self._monitor.phase_finish(self._stage)

    def _close(self, *, ended: bool = True) -> None:
        """Ends the stage that is open."""
        if not self._stage:
            return
        try:
            if ended and not self._steps:
                self._open(1)
                self._tell(self._stage, 0)
        finally:
            self._finish()
            self._stage = ""
        if ended:
            self._done = min(self._done + 1, len(STAGES))
            self._tell(_WHOLE, self._done - 1)

    def _tell(self, phase: str, step: int) -> None:
        if not self._monitor.step_complete(phase, step):
            raise Cancelled
