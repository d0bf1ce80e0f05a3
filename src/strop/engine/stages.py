"""Names of the stages, and what ends a build early on purpose."""

from __future__ import annotations

#: In order; also the values of ``--stop-after``.
STAGES = ("frontend", "optimize", "quantize", "lower", "tune", "codegen", "engine")


class Stopped(Exception):
    """The build ended after the stage it was asked to stop after. Not an error."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"stopped after {stage}")
        self.stage = stage
