"""`Attention` -> one HTML page to step and play through: pictures under heat, tokens coloured. (torch-free)

Nothing is fetched, and only the page's own style and script may act. Its size grows with the number of completion
tokens alone: a byte for each cell of a picture, and of text the tokens that were looked at most.
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

from open_r1.report.heat import HIGH, LOW, Attention, levels
from open_r1.report.templates import PAGES

MOST_TEXT = 64  # tokens of text that are coloured for each completion token
LONGEST_SIDE = 1024  # pixels of a picture in the page


def write_attention_page(
    path: Path, attention: Attention, pictures: Sequence[Image.Image], facts: Mapping[str, str]
) -> None:
    """Write the page; `facts` (model, question, ...) stand above it. All text is shown as text."""
    content = {
        "facts": [*facts.items(), ("attention", attention.source)],
        "tokens": attention.tokens,
        "asked": attention.asked,
        "pictures": [attention_picture(*pair) for pair in zip(pictures, attention.images, strict=True)],
        "shares": shares(attention),
        "text": [strongest(row) for row in np.concatenate([attention.prompt, attention.said], axis=1)],
        "colours": [LOW, HIGH],
    }
    page = PAGES.get_template("attention.html").render(content=content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sealed(page), encoding="utf-8")


def attention_picture(image: Image.Image, weights: np.ndarray) -> dict[str, Any]:
    """An image and its heat maps (C, rows, columns), a byte a cell, step after step."""
    count, rows, columns = weights.shape
    cells = (255 * levels(weights.reshape(count, -1))).round().astype(np.uint8)
    small, file = image.convert("RGB"), io.BytesIO()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    small.save(file, "WEBP", quality=90)
    return {
        "source": f"data:image/webp;base64,{_base64(file.getvalue())}",
        "size": image.size,
        "grid": (rows, columns),
        "cells": _base64(cells.tobytes()),
    }


def shares(attention: Attention) -> list[dict[str, Any]]:
    """What each completion token looked at, in shares of 1."""
    parts = attention.on_images, attention.prompt.sum(axis=1), attention.said.sum(axis=1), attention.rest
    return [
        {"pictures": seen.round(4).tolist(), "prompt": round(asked, 4), "said": round(said, 4), "rest": round(rest, 4)}
        for seen, asked, said, rest in zip(parts[0], *(part.tolist() for part in parts[1:]), strict=True)
    ]


def strongest(weights: np.ndarray, most: int = MOST_TEXT) -> list[tuple[int, int]]:
    """(index, level of 255) of the largest weights, by index; what is 0 of 255 is left out.

    >>> strongest(np.array([0.1, 0.0, 0.4, 0.2]), most=2)
    [(2, 255), (3, 193)]
    """
    top = np.sort(np.argsort(-weights, kind="stable")[:most])
    level = (255 * levels(weights)[top]).round().astype(int)
    return [(at, value) for at, value in zip(top.tolist(), level.tolist(), strict=True) if value]


def sealed(page: str) -> str:
    """The page with the SHA-256 of its style and of its script in its Content-Security-Policy."""
    for kind in ("style", "script"):
        text = re.search(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)[1]
        page = page.replace(f"{kind}-digest", f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}", 1)
    return page


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
