"""PyTorch frontend: exported programs (torch.export) to Graphs.

Only ``program``, ``importer`` and ``reader`` import torch, which is an optional package; what is supported is known without it.
"""

# Importing these registers their import functions.
import strop.frontend.torch.ops_attention
import strop.frontend.torch.ops_create
import strop.frontend.torch.ops_index
import strop.frontend.torch.ops_math
import strop.frontend.torch.ops_nn
import strop.frontend.torch.ops_norm
import strop.frontend.torch.ops_pad
import strop.frontend.torch.ops_pool
import strop.frontend.torch.ops_recurrent
import strop.frontend.torch.ops_reduce
import strop.frontend.torch.ops_resize
import strop.frontend.torch.ops_shape
import strop.frontend.torch.ops_vision  # noqa: F401
from strop.frontend.rules import files
from strop.frontend.torch.registry import RULES


def supported_overloads() -> dict[str, str]:
    """Overloads of ATen and torchvision that are read whole, with the file of their import function."""
    return files(RULES)


__all__ = ["supported_overloads"]
