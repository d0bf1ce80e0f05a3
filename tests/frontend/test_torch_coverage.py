"""docs/torch-coverage.md lists what is registered; needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from strop.frontend.torch import supported_overloads

PAGE = Path(__file__).parents[2] / "docs" / "torch-coverage.md"
HEAD = """# PyTorch coverage

Overloads that are read whole, {count} of them, by the file under `src/strop/frontend/torch` that holds their import function. PyTorch decomposes all
others first, mostly into these; what is left then is refused by name, with its module and source line. `strop::` operators stand for the recurrent
layers of a module (`whole.py`). Every line is compared with PyTorch by `tests/frontend/test_torch_ops.py`. This page is written by
`pytest tests/frontend/test_torch_coverage.py --update-golden`.
"""


def page() -> str:
    families: dict[str, list[str]] = {}
    for name, family in supported_overloads().items():
        families.setdefault(family, []).append(name.removesuffix(".default"))
    parts = [HEAD.format(count=len(supported_overloads()))]
    for family, names in sorted(families.items()):
        parts += [f"## {family}.py", ", ".join(f"`{name}`" for name in names) + "\n"]
    return "\n".join(parts)


def test_the_page_is_up_to_date(update_golden: bool) -> None:
    if update_golden:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_there_is_much() -> None:
    assert len(supported_overloads()) >= 300
