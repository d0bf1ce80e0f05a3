"""TensorFlow Lite's Python API on Strop: ``from strop.compat import tflite`` in the place of ``tf.lite``.

``strop.compat.tflite.interpreter`` is what ``tflite_runtime.interpreter`` and ``ai_edge_litert.interpreter`` are. ``python -m strop.compat run
script.py`` runs a script with all these names replaced. TensorFlow is not needed. docs/tflite-coverage.md says what works, member by member.
"""

from strop.compat.tflite.interpreter import Interpreter, OpResolverType

__all__ = ["Interpreter", "OpResolverType"]
