"""Tools that a model calls in the middle of its answer."""
