"""The part of PyCUDA that TensorRT programs use for memory, on the processor."""
