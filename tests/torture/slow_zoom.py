"""A tool for the trial that kills a run while a tool works: `zoom`, slowly, with a mark that it is at work."""

import os
import time
from contextlib import suppress
from pathlib import Path

from PIL import Image

from open_r1.tools import zoom as quick

MARK = "TORTURE_MARK"  # the environment's name of the file that is there while a tool works
SECONDS = 0.3


def zoom(images: list, frame: quick.ToolFrame, bbox_2d: list[float], label: str = "", image: int = 1) -> list:
    """Zooms in on a part of a picture: returns it cut out and enlarged.

    Args:
        bbox_2d: The box of the part, in the coordinates of the picture.
        label: What is there.
        image: The number of the picture, from 1: those of the question, then those of tools, in order.
    """
    mark = Path(f"{os.environ[MARK]}.{os.getpid()}")
    mark.touch()
    try:
        time.sleep(SECONDS)
        parts: list[str | Image.Image] = quick.zoom(images, frame, bbox_2d, label, image)
        return parts
    finally:
        with suppress(FileNotFoundError):
            mark.unlink()
