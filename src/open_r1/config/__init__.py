"""Flags of a run: parsed, checked and fitted to the machine before a model is loaded."""
