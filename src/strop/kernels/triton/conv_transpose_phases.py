"""Transposed convolutions as convolutions of stride 1, one per phase of the result (``kernels/c/transpose_phases.py``): a launch of ``conv_gemm`` each."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from strop.kernels.base import Packed, Region
from strop.kernels.c.transpose_phases import Phase, phases_of
from strop.kernels.triton.conv_gemm import KERNEL as CONV
from strop.kernels.triton.emit import GpuEmitted, Launch, Writer
from strop.kernels.triton.parts import GpuKernel, Pointers, standard
from strop.kernels.triton.product import Params, StreamParams
from strop.target.base import Target

_known: WeakKeyDictionary[Region, list[Phase] | str] = WeakKeyDictionary()


class ConvTransposePhases(GpuKernel[Params]):
    """See the module's text."""

    name = "conv_transpose_phases"

    def takes(self, region: Region, target: Target) -> str | None:
        if region.symbols:
            return "its code is made for fixed shapes"
        phases = _phases(region)
        if isinstance(phases, str):
            return phases
        return next((reason for p in phases if (reason := CONV.takes(p.region, target)) is not None), None)

    def space(self, region: Region, target: Target) -> list[Params]:
        widest = max(_apart(region), key=lambda p: p.region.operand(1).view.count).region
        return [p for p in CONV.space(widest, target) if p.split == 1 and not isinstance(p, StreamParams)]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        return sum(CONV.cost(p.region, params, target) for p in _apart(region))

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        pointers = standard(region, [("x", 0)])
        return pointers.emitted([_launch(number, phase, params, target, pointers) for number, phase in enumerate(_apart(region))])


def _launch(number: int, phase: Phase, params: Params, target: Target, pointers: Pointers) -> Launch:
    """A phase, over the pointers of the whole: they are moved to its first elements, and what is packed for it has a name of its own."""
    emitted, w = CONV.launches(phase.region, params, target), Writer()
    (launch,) = emitted.launches
    moved = {"x": phase.x, "y": phase.y, **{f"e{k}": shift for k, shift in enumerate(phase.extras)}}
    made = {f"e{k}": Packed(array) for k, array in phase.made.items()}
    for name, dtype, pointer in zip(emitted.names, emitted.dtypes, emitted.pointers, strict=True):
        own = made.get(name, pointer)
        if isinstance(own, Packed):
            w(f"{name} = {pointers.packed(f'{name}_{number}', dtype, own)}")
        elif moved[name]:
            w(f"{name} += {moved[name]}")
    return replace(launch, body="\n".join(filter(None, [w.text(), launch.body])))


def _phases(region: Region) -> list[Phase] | str:
    if region not in _known:
        _known[region] = phases_of(region)
    return _known[region]


def _apart(region: Region) -> list[Phase]:
    phases = _phases(region)
    assert not isinstance(phases, str), phases
    return phases


KERNEL = ConvTransposePhases()
