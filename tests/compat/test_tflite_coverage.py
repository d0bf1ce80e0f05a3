"""docs/tflite-coverage.md: for every member of TensorFlow Lite's APIs, whether it works, is accepted with a note, or is refused."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from strop.cli import benchmark_model
from strop.compat import tflite as lite
from strop.compat.tflite import converter, interpreter
from tests.compat.test_tensorrt_coverage import instance_names

DOC = Path(__file__).parents[2] / "docs" / "tflite-coverage.md"
MEMBERS = Path(__file__).with_name("tflite_members.txt")
FATES = ("works", "accepted with a note", "refused")

#: Members that are accepted and change nothing, which the log or the documentation notes.
NOTED = {
    "Interpreter": {
        "__init__(experimental_delegates)", "__init__(experimental_op_resolver_type)", "__init__(experimental_disable_delegate_clustering)",
        "__init__(experimental_default_delegate_latest_features)", "__init__(experimental_compress_quantization_zero_points)",
        "__init__(experimental_disable_delegate_node_fusion)", "__init__(experimental_force_delegate_node_profiling)",
    },
    "Delegate": {"__init__(library)", "__init__(options)"}, "OpResolverType": {"BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"},
    "TFLiteConverter": set(converter._NO_EFFECT), "Optimize": {"EXPERIMENTAL_SPARSITY"}, "OpsSet": {"SELECT_TF_OPS", "EXPERIMENTAL_STABLEHLO_OPS"},
    "TargetSpec": {"experimental_select_user_tf_ops", "experimental_supported_backends"}, "module tf.lite.experimental": {"load_delegate"},
    "C++ InterpreterBuilder": {"AddDelegate"}, "C++ resolvers": {"BuiltinOpResolverWithoutDefaultDelegates", "BuiltinRefOpResolver", "AddBuiltin", "AddCustom", "AddAll"},
    "C++ Interpreter": {"SetAllowFp16PrecisionForFp32", "SetProfiler", "ModifyGraphWithDelegate", "EnsureTensorDataIsReadable"},
}  # fmt: skip
#: Members that are there to say why they are refused, and reasons.
REFUSED = {
    "Interpreter": {"_native_handle": "there is no TFLite interpreter below"},
    "InterpreterWithCustomOps": {"__init__(custom_op_registerers)": "custom ops are declared with strop.custom"},
    "TFLiteConverter": {
        **dict.fromkeys(converter._REFUSED, "there is no such part of Strop's converter"), "experimental_from_jax": "Jax functions are not read",
        "from_session": "sessions are not read",
    },
    "QuantizationDebugOptions": dict.fromkeys(("__init__(denylisted_ops)", "__init__(denylisted_nodes)"), "layers are not left out one by one"),
    "C++ InterpreterBuilder": {"PreserveAllTensorsExperimental": "the Python interpreter keeps tensors"},
    "C++ Interpreter": {"Cancel": "a run is not interrupted", "SetCustomAllocationForTensor": "memory is the engine's"},
}  # fmt: skip
HEADERS = "".join(p.read_text() for p in (Path(lite.__file__).with_name("include") / "tensorflow").rglob("*.h"))


def members() -> Iterator[tuple[str, str]]:
    """(class, member)."""
    owner = ""
    for line in MEMBERS.read_text().splitlines():
        if line.startswith("  "):
            yield owner, line.strip()
        elif not line.startswith("#"):
            owner = line


def there(owner: str, name: str) -> bool:
    """Whether a member exists."""
    if owner.startswith("C++"):
        section = re.search(rf"class {owner.split()[1]} .*?^}};", HEADERS, re.S | re.M)
        text = section[0] if section and owner.split()[1] != "resolvers" else HEADERS
        return re.search(rf"\b{re.escape(name)}" + ("" if name.endswith(")") else r"\b"), text) is not None
    if owner.startswith("module"):
        module: Any = {"tf.lite": lite, "tf.lite.experimental": lite.experimental}.get(owner.partition(" ")[2], lite.experimental)
        return hasattr(module, name)
    found = next(getattr(m, owner) for m in (interpreter, lite, lite.experimental) if hasattr(m, owner))
    if name.startswith("__init__("):
        return name[9:-1] in inspect.signature(found.__init__).parameters
    return hasattr(found, name) or name in instance_names(found) or name in {**converter._NO_EFFECT, **converter._REFUSED}


def fate(owner: str, name: str) -> str:
    if not there(owner, name) or name in REFUSED.get(owner, {}):
        return "refused"
    return "accepted with a note" if name in NOTED.get(owner, set()) else "works"


def flags() -> dict[str, list[str]]:
    """Of benchmark_model."""
    noted, refused = benchmark_model._NO_EFFECT.split(), list(benchmark_model._REFUSED)
    known = [o[2:] for a in benchmark_model._parser()._actions for o in a.option_strings if o.startswith("--")]
    return {"works": [n for n in known if n not in (*noted, *refused, "help")], "accepted with a note": noted, "refused": refused}


def table() -> str:
    fates: dict[str, dict[str, list[str]]] = {}
    for owner, name in members():
        fates.setdefault(owner, {}).setdefault(fate(owner, name), []).append(name)
    fates["benchmark_model"] = flags()
    counts = Counter({f: sum(len(rows.get(f, ())) for rows in fates.values()) for f in FATES})
    lines = [
        "# TensorFlow Lite coverage",
        "",
        "What `strop.compat.tflite`, the C++ headers in `strop/compat/tflite/include` and `strop benchmark_model` do with every member of",
        "`tf.lite` of TensorFlow 2.21, of LiteRT 2.3's interpreter, and with the flags of LiteRT's `benchmark_model`. Generated by",
        "`pytest tests/compat/test_tflite_coverage.py --update-golden`.",
        "",
        f"{counts['works']} work, {counts['accepted with a note']} are accepted and change nothing, which the log or the header notes, {counts['refused']} are refused:",
        "by an exception that says why, or because there is no such member.",
        "",
        "Where this interpreter differs from LiteRT's: `reset_all_variables` also resets resource variables; the shape of an input cannot have zeros;",
        "intermediate tensors can be read only where `experimental_preserve_all_tensors` asks for it; an engine (`.strop`) may be given in place of a model.",
        "",
        "| class | works | accepted with a note | refused |",
        "|---|---|---|---|",
    ]
    for owner, rows in fates.items():
        why = REFUSED.get(owner, benchmark_model._REFUSED if owner == "benchmark_model" else {})
        cells = [", ".join(f"{n} ({why[n]})" if f == "refused" and n in why else n for n in rows.get(f, ())) for f in FATES]
        lines.append(f"| {owner} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_coverage_page_is_true(request: pytest.FixtureRequest) -> None:
    made = table()
    if request.config.getoption("--update-golden"):
        DOC.write_text(made)
    assert DOC.exists() and DOC.read_text() == made, "run with --update-golden"


def test_what_the_presentation_and_its_time_use_is_there() -> None:
    for owner in ("Interpreter", "SignatureRunner", "OpResolverType", "Optimize", "RepresentativeDataset", "TargetSpec", "Analyzer", "QuantizationDebugger"):
        missing = [name for o, name in members() if o == owner and not there(o, name)]
        assert missing in ([], ["_native_handle"]), (owner, missing)


def test_names_of_notes_are_members() -> None:
    known = set(members())
    for table_ in (NOTED, REFUSED):
        for owner, names in table_.items():
            unknown = [n for n in names if (owner, n) not in known]
            assert not unknown or owner == "TFLiteConverter", (owner, unknown)
