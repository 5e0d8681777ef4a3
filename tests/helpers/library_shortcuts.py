"""What libraries compute at each call and nothing reads, computed once or not at all: a sixth of a short run."""

import importlib.metadata
from functools import cache


def take_shortcuts() -> None:
    """Take them in this process, and in its forks.

    transformers writes out each configuration that it reads, compared with new ones of its class, for a line of a log
    whose level is off; accelerate parses deepspeed's metadata whenever it unwraps a model.
    """
    from transformers import GenerationConfig, PreTrainedConfig

    for kind in (PreTrainedConfig, GenerationConfig):
        kind.__repr__ = object.__repr__
    importlib.metadata.metadata = cache(importlib.metadata.metadata)
