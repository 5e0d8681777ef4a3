"""Coordinate frames, masks and polygons."""
