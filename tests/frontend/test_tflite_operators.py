"""docs/tflite-operators.md lists the builtin operators of the schema: which are read, and which are not."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed: pip install 'strop[tflite]'")

from strop.frontend.tflite import supported_operators
from strop.frontend.tflite.model import OPERATORS

PAGE = Path(__file__).parents[2] / "docs" / "tflite-operators.md"
HEAD = """# Operators of TensorFlow Lite

{read} of the {all} builtin operators of the schema are read, by the file under `src/strop/frontend/tflite` that holds their import function; `strop ops --tflite` prints
them, and every one is compared with numpy by `tests/frontend/test_tflite_ops.py`. Custom operators are read where `strop.custom` declares them, and MediaPipe's `Convolution2DTransposeBias`. Everything else is
refused by name. What is written, and how, is in [tflite.md](tflite.md). This page is written by
`pytest tests/frontend/test_tflite_operators.py --update-golden`.

## Read
"""
#: What is not read: by what a name begins with, or is.
REASONS = {
    "of STABLEHLO, which LiteRT's converters lower to the others": ("STABLEHLO_", "DILATE", "REDUCE_WINDOW"),
    "of complex numbers": ("RFFT2D", "REAL", "IMAG", "COMPLEX_ABS"),
    "of text, and tables": ("HASHTABLE", "LSH_PROJECTION", "SKIP_GRAM", "CONCAT_EMBEDDINGS", "EMBEDDING_LOOKUP_SPARSE"),
    "of random numbers": ("RANDOM_", "MULTINOMIAL"),
    "of bits": ("BITCAST",),
    "not operators, or without a kernel in LiteRT": ("CALL", "CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"),
}

def _reason(name: str) -> str:
    (found,) = (reason for reason, starts in REASONS.items() if any(name == s or (s.endswith(("_", "HASHTABLE")) and name.startswith(s)) for s in starts))
    return found


def page() -> str:
    read, every = supported_operators(), sorted(set(OPERATORS.values()))
    assert set(read) <= set(every)
    families: dict[str, list[str]] = {}
    for name, family in read.items():
        families.setdefault(family, []).append(name)
    parts = [HEAD.format(read=len(read), all=len(every))]
    for family, names in sorted(families.items()):
        parts += [f"### {family}.py", ", ".join(f"`{name}`" for name in names) + "\n"]
    parts += ["## Not read\n", "| kind | operators |", "|---|---|"]
    for reason in REASONS:
        names = [name for name in every if name not in read and _reason(name) == reason]
        parts.append(f"| {reason} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(parts) + "\n"


def test_the_page_is_up_to_date(update_golden: bool) -> None:
    if update_golden:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_there_is_much() -> None:
    assert len(supported_operators()) >= 135
