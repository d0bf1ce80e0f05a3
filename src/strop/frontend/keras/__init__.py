"""Keras frontend: ``.keras`` and whole-model ``.h5`` files to Graphs by the configuration of their layers, without Keras.

Only ``archive``, ``hdf5`` and ``walk`` import the optional package ``h5py``; what is supported is known without it.
"""

# Importing these registers their import functions.
import strop.frontend.keras.layers_core
import strop.frontend.keras.layers_recurrent
import strop.frontend.keras.layers_window  # noqa: F401
from strop.frontend.keras.registry import supported_layers

__all__ = ["supported_layers"]
