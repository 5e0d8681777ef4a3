"""Flags and the machine: what a run is told, checked before a model is loaded."""
