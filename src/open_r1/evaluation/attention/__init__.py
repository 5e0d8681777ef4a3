"""Attention of each completion token, projected onto the pictures of its prompt."""
