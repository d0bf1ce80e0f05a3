"""ONNX frontend: ``read_onnx`` makes a Graph of a model, ``survey`` and ``judge`` say what becomes of its nodes without
building anything."""

from strop.frontend.onnx.importer import supported_op_types
from strop.frontend.onnx.reader import judge, read_onnx, survey
from strop.frontend.verdicts import Verdict

__all__ = ["Verdict", "judge", "read_onnx", "supported_op_types", "survey"]
