"""ONNX frontend: ``read_onnx`` makes a Graph of a model, ``survey`` judges its nodes without building anything."""

from strop.frontend.onnx.importer import supported_op_types
from strop.frontend.onnx.reader import read_onnx, survey
from strop.frontend.verdicts import Verdict

__all__ = ["Verdict", "read_onnx", "supported_op_types", "survey"]
