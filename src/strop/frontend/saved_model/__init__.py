"""TensorFlow frontend: SavedModels and frozen graphs to Graphs, without TensorFlow."""

# Importing these registers their import functions.
import strop.frontend.saved_model.ops_control
import strop.frontend.saved_model.ops_index
import strop.frontend.saved_model.ops_math
import strop.frontend.saved_model.ops_nn
import strop.frontend.saved_model.ops_shape  # noqa: F401
from strop.frontend.saved_model.registry import supported_operators

__all__ = ["supported_operators"]
