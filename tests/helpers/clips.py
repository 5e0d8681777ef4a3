"""Short clips, encoded on the fly, rows that name them, and an embedded model whose chat template writes videos."""

import json
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from helpers.repository import REPO

WAYS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
VIDEO_PART = "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"


def moving_square(
    way: str = "right", frames: int = 8, size: tuple[int, int] = (64, 48), color: Sequence[int] = (220, 40, 40)
) -> np.ndarray:
    """(T, H, W, 3) uint8: a square crosses a grey ground of `size` (width, height) one `way` of WAYS."""
    width, height = size
    side, (dx, dy) = min(size) // 4, WAYS[way]
    pixels = np.full((frames, height, width, 3), 200, np.uint8)
    for number, share in enumerate(np.linspace(-1, 1, frames)):
        left, top = (round((room - side) / 2 * (1 + share * d)) for room, d in ((width, dx), (height, dy)))
        pixels[number, top : top + side, left : left + side] = color
    return pixels


def write_clip(
    path: Path, pixels: np.ndarray, rate: float = 8.0, codec: str = "libx264", form: str = "yuv420p"
) -> Path:
    """Encode frames (T, H, W, 3) at `rate` a second; the ending of `path` names the container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[1:3], form
        for frame in pixels:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    return path


def clip_rows(folder: Path, count: int = 4, rate: float = 4.0, name: str = "clips.jsonl") -> Path:
    """A file of `count` rows about clips in `folder/clips`, each with the way of its square as the gold answer."""
    rows = []
    for number in range(count):
        way, path = list(WAYS)[number % len(WAYS)], f"clips/{number}.mp4"
        write_clip(folder / path, moving_square(way, color=(220, 40 + 40 * (number % 5), 40)), rate)
        rows.append({"id": str(number), "video": path, "problem": "<video>Which way does it move?", "solution": way})
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def tiny_with_videos(folder: Path) -> Path:
    """A copy of `assets/tiny-vlm` whose chat template writes videos, and whose frames may be small."""
    shutil.copytree(REPO / "assets" / "tiny-vlm", folder, dirs_exist_ok=True)
    template, processor = folder / "chat_template.jinja", folder / "processor_config.json"
    text, end = template.read_text(), "{% elif part['type'] == 'text' %}"
    template.write_text(text.replace(end, VIDEO_PART + end))
    config = json.loads(processor.read_text())
    config["video_processor"]["size"]["shortest_edge"] = config["image_processor"]["size"]["shortest_edge"]
    processor.write_text(json.dumps(config, indent=2))
    return folder
