"""Tests of the measurements: statistics, processes, tables, charts, the gate."""
