"""TensorFlow Lite frontend: .tflite files to Graphs.

Only ``model`` and ``custom`` import the optional packages ``tflite`` and ``flatbuffers``; what is supported is known without them.
"""

# Importing these registers their import functions.
import strop.frontend.tflite.ops_control
import strop.frontend.tflite.ops_index
import strop.frontend.tflite.ops_math
import strop.frontend.tflite.ops_nn
import strop.frontend.tflite.ops_recurrent
import strop.frontend.tflite.ops_reduce
import strop.frontend.tflite.ops_scatter
import strop.frontend.tflite.ops_shape
import strop.frontend.tflite.ops_space  # noqa: F401
from strop.frontend.tflite.registry import supported_operators

__all__ = ["supported_operators"]
