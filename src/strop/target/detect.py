"""The table of targets and the host's place in it."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

from strop import knobs
from strop.errors import TargetError
from strop.target import aarch64, cuda, x86_64
from strop.target.base import Target, host_cores, unknown

#: Processors.
TARGETS: dict[str, Target] = {t.name: t for t in (*x86_64.TARGETS, *aarch64.TARGETS)}
#: Processors and GPUs.
ALL: dict[str, Target] = {**TARGETS, **{t.name: t for t in cuda.TARGETS}}
_ALIASES = {"x86_64": "x86-64", "x86_64-v3": "x86-64-v3", "x86_64-v4": "x86-64-v4", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}

#: Optional features, by the names of compilers and the runtime: what the operating system calls them.
_OPTIONAL = {
    "avx512vnni": "avx512_vnni", "avx512vbmi": "avx512vbmi", "avxvnni": "avx_vnni", "dotprod": "asimddp", "i8mm": "i8mm", "avx512bf16": "avx512_bf16",
    "bf16": "bf16",
}  # fmt: skip


def parse(name: str) -> Target:
    """The target called ``name``; ``host`` is the best one this machine runs. TargetError when unknown.

    Optional features follow the name, ``x86-64-v4+avx512vnni``; those of the host are found by themselves. Behind the name and features of a
    GPU there may be the processor beside it: ``cuda:sm_90+x86-64-v3``.
    """
    if name == "host":
        return host()
    word, *extras = name.split("+")
    found = ALL.get(_ALIASES.get(word, word))
    if found is not None and cuda.is_gpu(found):
        beside = next((k for k, extra in enumerate(extras) if extra == "host" or _ALIASES.get(extra, extra) in TARGETS), len(extras))
        if beside < len(extras):
            found = replace(found, host=parse("+".join(extras[beside:])))
        extras = extras[:beside]
    if found is None or not set(extras) <= set(found.optional):
        raise unknown(name, [*ALL, *(f"{t.name}+{extra}" for t in ALL.values() for extra in t.optional)])
    found = replace(found, extras=tuple(extras))
    return _with_host_caches(found) if found.arch == _arch() else found


def host() -> Target:
    """The best target this machine can run, with its caches and cores."""
    pretended = knobs.ISA.get()
    if pretended and pretended != "host":
        return parse(pretended)
    arch, have = _arch(), cpu_features()
    for target in TARGETS.values():
        if target.arch == arch and set(target.requires) <= have:
            extras = tuple(f for f in target.optional if _OPTIONAL[f] in have)
            return _with_host_caches(replace(target, extras=extras))
    raise TargetError("this machine is none of the known targets", got=arch, expected=", ".join(TARGETS))


def beside(target: Target) -> Target:
    """The processor that works beside a GPU: the one that its target names, or this machine's."""
    return target.host or host()


def runs_here(target: Target) -> bool:
    """True when this machine's processor has what the target requires; a GPU is no processor."""
    if target.arch != _arch():
        return False
    return {*target.requires, *(_OPTIONAL[f] for f in target.extras)} <= cpu_features()


def cpu_features() -> frozenset[str]:
    """CPU features as the operating system names them; empty when it does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _arch() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def _with_host_caches(target: Target) -> Target:
    sizes = {1: target.l1, 2: target.l2, 3: target.l3}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            text = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and level in sizes and text[:-1].isdigit():
            sizes[level] = int(text[:-1]) * {"K": 1024, "M": 1024**2}.get(text[-1], 1)
    return replace(target, cores=host_cores(), l1=sizes[1], l2=sizes[2], l3=sizes[3])
