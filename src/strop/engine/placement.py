"""What of an engine for a GPU runs on the processor beside it, and why: told after every build."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strop.errors import PlacementWarning

_MOST_NAMES = 12


@dataclass(frozen=True)
class Fallback:
    """A step that runs on the processor, because the GPU has no kernel for it.

    Attributes:
        index: number of the step.
        step: the layer it computes.
        kind: the op that anchors it, ``elementwise``, or ``copy (reason)``.
        kernel: algorithm and parameters.
        layers: names of the model's nodes that it computes.
        target: the processor.
        reason: why the GPU does not do it.
    """

    index: int
    step: str
    kind: str
    kernel: str
    layers: tuple[str, ...]
    target: str
    reason: str


def fallbacks(manifest: Mapping[str, Any]) -> tuple[Fallback, ...]:
    """The steps that run on the processor beside the GPU, in order."""
    target = str(manifest.get("target"))
    found = []
    for index, record in enumerate(manifest.get("steps", [])):
        side = record.get("side", target)
        if side != target:
            found.append(Fallback(index, record["name"], record["kind"], record["kernel"], tuple(record["source"]), side, record["reason"]))
    return tuple(found)


def told(found: tuple[Fallback, ...], steps: int) -> str:
    """One line about them; empty when there are none."""
    if not found:
        return ""
    return f"placement: {len(found)} of {steps} steps run on the processor {found[0].target}, as the GPU has no kernel for them: {_listed([f.step for f in found])}"


def announce(manifest: Mapping[str, Any]) -> None:
    """A PlacementWarning to who called the build, if there is something to tell."""
    text = told(fallbacks(manifest), len(manifest["steps"]))
    if text:
        warnings.warn(text, PlacementWarning, stacklevel=3)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES)
