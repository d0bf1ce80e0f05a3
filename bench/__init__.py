"""Measurements of Strop against other runtimes; see docs/performance.md."""
