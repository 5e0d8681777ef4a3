"""Write `Attention` as one HTML page to step through: pictures, frames under heat maps, coloured tokens. (torch-free)

The page fetches nothing, and only its own style and script run. Its size is linear in the number of completion tokens:
a byte for each cell of a picture, and the text tokens with most attention.
"""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from open_r1.data.video.types import VideoFrames
from open_r1.report.heat import HIGH, LOW, Attention, HeatMap, levels, mapped_pictures, step_frames
from open_r1.report.templates import PAGES

MOST_TEXT = 64  # tokens of text that are coloured for each completion token
LONGEST_SIDE = 1024  # pixels of a picture in the page
FRAME_SIDE = 320  # pixels of a video's frame


def write_attention_page(
    path: Path,
    attention: Attention,
    pictures: Sequence[Image.Image],
    facts: Mapping[str, str],
    videos: Sequence[VideoFrames] = (),
) -> None:
    """Write the page, with `facts` (model, question, ...) at its top. All text is shown as plain text."""
    seen = zip(mapped_pictures(attention, pictures, videos), attention.maps, strict=True)
    sides = [LONGEST_SIDE] * len(pictures) + [FRAME_SIDE] * (len(attention.maps) - len(pictures))
    content = {
        "facts": [*facts.items(), ("attention", attention.source)],
        "tokens": attention.tokens,
        "asked": attention.prompt_tokens,
        "order": attention.order,
        "pictures": [attention_picture(*pair, side) for pair, side in zip(seen, sides, strict=True)],
        "films": films(attention, videos),
        "shares": shares(attention),
        "text": [strongest(row) for row in np.concatenate([attention.prompt, attention.completion], axis=1)],
        "colours": [LOW, HIGH],
    }
    page = PAGES.get_template("attention.html").render(content=content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(with_content_hashes(page), encoding="utf-8")


def films(attention: Attention, videos: Sequence[VideoFrames]) -> list[dict[str, Any]]:
    """Of each video the number of its first map, and the times that each of its steps shows."""
    first, made = len(attention.images), []
    for video, weights in zip(videos, attention.videos, strict=True):
        steps = step_frames(len(video.seconds), weights.shape[1])
        times = [", ".join(f"{video.seconds[at]:.2f}" for at in frames) + " s" for frames in steps]
        made.append({"first": first, "times": times})
        first += len(times)
    return made


def attention_picture(image: Image.Image, heat_map: HeatMap, side: int) -> dict[str, Any]:
    """An image of at most `side` pixels a side and its heat maps, one byte a cell, for the page."""
    _, rows, columns = heat_map.weights.shape
    cells = (255 * heat_map.levels()).round().astype(np.uint8)
    small, file = image.convert("RGB"), io.BytesIO()
    small.thumbnail((side, side))
    small.save(file, "WEBP", quality=90)
    return {
        "source": f"data:image/webp;base64,{_base64(file.getvalue())}",
        "size": image.size,
        "grid": (rows, columns),
        "cells": _base64(cells.tobytes()),
    }


def shares(attention: Attention) -> list[dict[str, Any]]:
    """The shares of each completion token's attention, which sum to 1."""
    parts = attention.on_images, attention.prompt.sum(axis=1), attention.completion.sum(axis=1), attention.rest
    return [
        {
            "pictures": pictures.round(4).tolist(),
            "prompt": round(prompt, 4),
            "said": round(completion, 4),
            "rest": round(rest, 4),
        }
        for pictures, prompt, completion, rest in zip(parts[0], *(part.tolist() for part in parts[1:]), strict=True)
    ]


def strongest(weights: np.ndarray, most: int = MOST_TEXT) -> list[tuple[int, int]]:
    """(index, level of 255) of the largest weights, by index, without zeros.

    >>> strongest(np.array([0.1, 0.0, 0.4, 0.2]), most=2)
    [(2, 255), (3, 193)]
    """
    top = np.sort(np.argsort(-weights, kind="stable")[:most])
    level = (255 * levels(weights)[top]).round().astype(int)
    return [(at, value) for at, value in zip(top.tolist(), level.tolist(), strict=True) if value]


def with_content_hashes(page: str) -> str:
    """The page with the hashes (SHA-256) of its style and script in its Content-Security-Policy."""
    for kind in ("style", "script"):
        text = re.search(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)[1]
        page = page.replace(f"{kind}-digest", f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}", 1)
    return page


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
