"""``tf.lite.experimental``."""

from strop.compat.tflite.analyzer import Analyzer
from strop.compat.tflite.debugger import QuantizationDebugger, QuantizationDebugOptions
from strop.compat.tflite.delegates import load_delegate
from strop.compat.tflite.interpreter import OpResolverType

__all__ = ["Analyzer", "OpResolverType", "QuantizationDebugOptions", "QuantizationDebugger", "load_delegate"]
