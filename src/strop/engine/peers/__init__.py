"""Other runtimes to measure against: one script per runtime, run by ``runner.py`` in a process and environment of its own."""
