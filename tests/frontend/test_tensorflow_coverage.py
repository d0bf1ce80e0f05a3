"""docs/tensorflow-coverage.md lists what is registered; needs no TensorFlow and no h5py."""

from __future__ import annotations

from pathlib import Path

from strop.frontend.keras import supported_layers
from strop.frontend.saved_model import supported_operators

PAGE = Path(__file__).parents[2] / "docs" / "tensorflow-coverage.md"
HEAD = """# TensorFlow and Keras coverage

{ops} ops of TensorFlow (SavedModels and frozen graphs) and {layers} layers of Keras, by the file under `src/strop/frontend/saved_model` or
`src/strop/frontend/keras` that holds their import function. Ops that only run when something goes wrong or in training (`Assert`, `NoOp`, `SaveV2`) are
not looked at. Everything else is refused by name. Every line is compared with what TensorFlow and Keras gave, by `tests/frontend/test_saved_model_ops.py`,
`test_saved_model.py` and `test_keras.py`. This page is written by `pytest tests/frontend/test_tensorflow_coverage.py --update-golden`.
"""


def page() -> str:
    ops, layers = supported_operators(), supported_layers()
    parts = [HEAD.format(ops=len(ops), layers=len(layers))]
    for title, rows in (("TensorFlow ops", ops), ("Keras layers", layers)):
        parts.append(f"## {title}\n")
        families: dict[str, list[str]] = {}
        for name, family in rows.items():
            families.setdefault(family, []).append(name)
        for family, names in sorted(families.items()):
            parts += [f"### {family}.py", ", ".join(f"`{name}`" for name in names) + "\n"]
    return "\n".join(parts)


def test_the_page_is_up_to_date(update_golden: bool) -> None:
    if update_golden:
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_there_is_much() -> None:
    assert len(supported_operators()) >= 200 and len(supported_layers()) >= 80
