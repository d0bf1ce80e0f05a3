"""Trained models on labelled data: how well an engine does what the network was trained for."""
