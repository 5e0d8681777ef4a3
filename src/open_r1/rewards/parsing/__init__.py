"""Parsers of model text: from a completion to an answer."""
