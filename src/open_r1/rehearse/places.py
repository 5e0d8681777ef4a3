"""Where in the code an operation comes from: the line of ours, and the line of the library that it called."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

TORCH, HERE = str(Path(torch.__file__).parent), str(Path(__file__).parent)
PACKAGE = str(Path(__file__).parent.parent)
DECORATORS = ("contextlib.py", "trl/extras/profiling.py", "transformers/utils/generic.py")


@dataclass(frozen=True)
class Place:
    """The innermost line of this package and the innermost one of any other but torch ("file.py:12", None: none);
    `in_layer`: within a transformer layer."""

    ours: str | None
    library: str | None
    in_layer: bool

    def __str__(self) -> str:
        return " < ".join(filter(None, (self.library, self.ours))) or "torch"


def short_name(file: str) -> str:
    """A file as it is named below `site-packages`, or below this package.

    >>> short_name("/x/site-packages/trl/trainer/utils.py"), short_name(PACKAGE + "/rollout/prompts.py")
    ('trl/trainer/utils.py', 'rollout/prompts.py')
    """
    if file.startswith(PACKAGE):
        return file[len(PACKAGE) + 1 :]
    return file.rpartition("site-packages/")[2]


def place_of_call() -> Place:
    """The place that is being executed, without the frames of torch and of this room."""
    ours = library = None
    in_layer, frame = False, sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((TORCH, HERE)) and not file.endswith(DECORATORS):
            line = f"{short_name(file)}:{frame.f_lineno}"
            if file.startswith(PACKAGE):
                ours = ours or line
            else:
                library = library or (line if ours is None else None)
            in_layer = in_layer or is_layer(frame)
        frame = frame.f_back
    return Place(ours, library, in_layer)


def is_layer(frame: FrameType) -> bool:
    """Whether a frame is a method of a transformer layer."""
    return isinstance(frame.f_locals.get("self"), GradientCheckpointingLayer)
