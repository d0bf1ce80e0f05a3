"""Candidates that are calls of NVIDIA's libraries, for targets that allow it (``cuda:sm_90+libraries``)."""
