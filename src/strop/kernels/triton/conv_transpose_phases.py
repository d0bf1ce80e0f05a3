"""Transposed convolutions as convolutions of stride 1, one per phase of the result (``kernels/c/transpose_phases.py``): a launch of ``conv_gemm`` each,
or one for all where phases are alike but for their weights and lie evenly spaced, as the rows do of a filter that is as wide as its stride."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from strop.ir.op import Array
from strop.kernels.base import Packed, Region
from strop.kernels.c.transpose_phases import Phase, phases_of, taken_apart
from strop.kernels.triton.conv_gemm import KERNEL as CONV
from strop.kernels.triton.emit import GpuEmitted, Launch, Writer
from strop.kernels.triton.parts import LAUNCH, GpuKernel, Pointers, standard
from strop.kernels.triton.product import Params, StreamParams
from strop.target.base import Target


class ConvTransposePhases(GpuKernel[Params]):
    """See the module's text."""

    name = "conv_transpose_phases"

    def takes(self, region: Region, target: Target) -> str | None:
        phases = phases_of(region)
        if isinstance(phases, str):
            return phases
        return next((reason for p in phases if (reason := CONV.takes(p.region, target)) is not None), None)

    def space(self, region: Region, target: Target) -> list[Params]:
        widest = max(taken_apart(region), key=lambda p: p.region.operand(1).view.count).region
        return [p for p in CONV.space(widest, target) if p.split == 1 and not isinstance(p, StreamParams)]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        phases = taken_apart(region)
        alone = sum(CONV.cost(p.region, params, target) for p in phases)
        return alone - LAUNCH * (len(phases) - 1) if _spacing(phases) is not None else alone

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        pointers, phases = standard(region, [("x", 0)]), taken_apart(region)
        emitted = [CONV.launches(phase.region, params, target) for phase in phases]
        step = _spacing(phases)
        if step is not None:
            return pointers.emitted([_together(phases, emitted, step, pointers)])
        return pointers.emitted([_alone(number, *both, pointers) for number, both in enumerate(zip(phases, emitted, strict=True))])


def _moved(phase: Phase) -> dict[str, int]:
    """Elements from the first of each pointer to the phase's first."""
    return {"x": phase.x, "y": phase.y, **{f"e{k}": shift for k, shift in enumerate(phase.extras)}}


def _spacing(phases: list[Phase]) -> dict[str, int] | None:
    """Elements from a phase to the next by pointer, if it is the same everywhere and the phases differ in nothing else but weights."""
    if len({p.region.signature() for p in phases}) > 1 or any(p.made.keys() != phases[0].made.keys() for p in phases) or len(phases) == 1:
        return None
    steps = [{name: end - start for (name, start), end in zip(_moved(a).items(), _moved(b).values(), strict=True)} for a, b in pairwise(phases)]
    return steps[0] if all(step == steps[0] for step in steps) else None


def _alone(number: int, phase: Phase, emitted: GpuEmitted, pointers: Pointers) -> Launch:
    """A phase, over the pointers of the whole: they are moved to its first elements, and what is packed for it has a name of its own."""
    w, moved = Writer(), _moved(phase)
    made = {f"e{k}": Packed(array) for k, array in phase.made.items()}
    for name, dtype, pointer in zip(emitted.names, emitted.dtypes, emitted.pointers, strict=True):
        own = made.get(name, pointer)
        if isinstance(own, Packed):
            w(f"{name} = {pointers.packed(f'{name}_{number}', dtype, own)}")
        elif moved[name]:
            w(f"{name} += {moved[name]}")
    (launch,) = emitted.launches
    return replace(launch, body="\n".join(filter(None, [w.text(), launch.body])))


def _together(phases: list[Phase], emitted: list[GpuEmitted], step: dict[str, int], pointers: Pointers) -> Launch:
    """All phases, numbered by the grid's second axis."""
    w, moved, first = Writer(), _moved(phases[0]), emitted[0]
    made = {f"e{k}": Packed(array) for k, array in phases[0].made.items()}
    w("phase = tl.program_id(1)")
    for place, (name, dtype) in enumerate(zip(first.names, first.dtypes, strict=True)):
        if name in made:
            w(f"{name} = {pointers.packed(f'{name}_0', dtype, made[name])}")
            continue
        packed = [p for e in emitted if isinstance(p := e.pointers[place], Packed)]
        if packed:
            pointers.packed(name, dtype, Packed(partial(_stacked, tuple(packed))))
            w(f"{name} += phase * {packed[0].array.size}")
        elif moved[name] or step[name]:
            w(f"{name} += phase * {step[name]}{f' + {moved[name]}' if moved[name] else ''}")
    (launch,) = first.launches
    return replace(launch, body=f"{w.text()}\n{launch.body}", grid=(launch.grid[0], len(phases), launch.grid[2]))


def _stacked(parts: tuple[Packed, ...]) -> Array:
    return np.stack([part.array for part in parts])


KERNEL = ConvTransposePhases()
