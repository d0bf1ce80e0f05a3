"""The machine instruction that a vector instruction promises is in its assembly."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from strop.codegen.toolchain import assembly
from strop.target.detect import TARGETS
from strop.target.isa.table import ISAS
from tests.target import instr_calls

BY_ISA = {isa: next(t for t in TARGETS.values() if t.isa == isa) for isa in ISAS}


def bodies(listing: str) -> dict[str, str]:
    """Assembly of each function by its name."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in listing.splitlines():
        label = re.match(r"^_?(t_\w+|strop_\w+):", line)
        if label:
            current = found.setdefault(label.group(1), [])
        current.append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


@pytest.mark.parametrize("isa", [n for n, i in ISAS.items() if any(x.expect for x in i.table.values())])
def test_promised_mnemonics(isa):
    promised = [i for i in ISAS[isa].table.values() if i.expect]
    assert promised
    texts = bodies(assembly(instr_calls.source(ISAS[isa], promised), BY_ISA[isa]))
    missing = [f"{i.name}: no {i.expect} in\n{texts[f't_{i.name}']}" for i in promised if i.expect not in texts[f"t_{i.name}"]]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(("isa", "feature"), [(name, feature) for name, isa in ISAS.items() for feature in isa.variants])
def test_promised_mnemonics_of_optional_features(isa: str, feature: str) -> None:
    instrs = list(ISAS[isa].variants[feature].values())
    target = replace(BY_ISA[isa], extras=(feature,))
    texts = bodies(assembly(instr_calls.source(ISAS[isa].using((feature,)), instrs), target))
    for instr in instrs:
        assert instr.expect is not None and instr.expect in texts[f"t_{instr.name}"], (feature, texts)


def test_no_calls_into_libm_from_vector_math():
    names = ("vexp", "vexpm1", "vlog", "vlog1p", "vtanh", "verf", "vfloor", "vceil", "vtrunc", "vround")
    for isa, target in BY_ISA.items():
        instrs = [ISAS[isa].table[n] for n in names]
        for name, text in bodies(assembly(instr_calls.source(ISAS[isa], instrs), target)).items():
            assert not re.search(r"\b(callq?|jmp|bl)\s+\w*(expf|logf|tanhf|erff|floorf|ceilf|truncf|roundevenf)", text), (isa, name)
