"""Where ONNX Runtime is no reference for products of bytes."""

from __future__ import annotations

from strop.target.detect import host
from strop.target.isa.table import multiplies_pairs

#: On x86-64 processors without VNNI it adds two products in 16 bits, which saturate unless weights have 7 bits.
SATURATES = multiplies_pairs(host())
