"""What quantization-aware training refuses."""

from __future__ import annotations

from typing import Any

import pytest

import strop.quantize
from strop.errors import InputError, ModelError, OptionError, UnsupportedError
from strop.quantize import prepare_qat


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strop.quantize, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="the package torch is not installed") as caught:
        prepare_qat(None, ())
    assert "pip install" in str(caught.value)


def net() -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")
    return torch.nn.Linear(4, 3)


def zeros(*shape: int) -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'").zeros(*shape)


def test_options() -> None:
    x = zeros(2, 4)
    for module, inputs, options, text in (
        (net(), (x,), {"observer": "kl"}, "unknown observer"),
        (net(), (x,), {"momentum": 1.0}, "unusable momentum"),
        (net(), (3,), {}, "tensors with one batch axis"),
        (net(), "x", {}, "a sequence or a dict"),
        (7, (x,), {}, "only PyTorch modules"),
    ):
        with pytest.raises(OptionError, match=text):
            prepare_qat(module, inputs, **options)


def test_op_without_a_meaning() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")

    class Odd(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return torch.cumsum(x, 1)

    with pytest.raises(UnsupportedError, match="has no meaning for training"):
        prepare_qat(Odd(), (zeros(2, 3),))


def test_calls() -> None:
    qat = prepare_qat(net(), (zeros(2, 4),)).eval()
    with pytest.raises(ModelError, match="no range is known yet"):
        qat(zeros(2, 4))
    with pytest.raises(InputError, match="the arguments do not fit"):
        qat(zeros(2, 4), zeros(2, 4))
