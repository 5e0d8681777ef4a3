"""Writes a generator's examples as `SPLIT.jsonl`, pictures and videos, in VLM-R1's line format."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from rich.progress import track

from open_r1.data.row_formats import IMAGE_TAG, VIDEO_TAG
from open_r1.data.video.types import VideoFrames
from open_r1.tasks.task import DrawnExample, Generator

# x264 loses next to nothing at this rate; one thread and no date of writing, so that equal frames are equal files
H264_OPTIONS = {"crf": "10", "preset": "ultrafast", "threads": "1"}


def example_rows(example: DrawnExample, split: str, index: int) -> Iterator[dict[str, Any]]:
    """The JSONL rows of example `index`, in VLM-R1's line format; with the questions' extra fields."""
    names = {"image": image_names(example, split, index), "video": video_names(example, split, index)}
    media = {key: paths[0] if len(paths) == 1 else paths for key, paths in names.items() if paths}
    for k, question in enumerate(example.questions):
        tags = {"image": IMAGE_TAG, "video": VIDEO_TAG}
        leading = "".join(tag * len(names[key]) for key, tag in tags.items() if tag not in question.question)
        yield {
            "id": f"{split}-{index * len(example.questions) + k}",
            **media,
            "conversations": [
                {"from": "human", "value": leading + question.question},
                {"from": "gpt", "value": question.answer},
            ],
            **question.extra,
        }


def image_names(example: DrawnExample, split: str, index: int) -> list[str]:
    """Paths of an example's pictures below the dataset's folder."""
    return _names(f"images/{split}_{index:06d}", len(example.images), ".png")


def video_names(example: DrawnExample, split: str, index: int) -> list[str]:
    """Paths of an example's videos below the dataset's folder."""
    return _names(f"videos/{split}_{index:06d}", len(example.videos), ".mp4")


def _names(stem: str, count: int, ending: str) -> list[str]:
    return [stem + ending] if count == 1 else [f"{stem}_{k}{ending}" for k in range(count)]


def save_video(path: Path, video: VideoFrames) -> None:
    """Writes frames of even height and width as H.264, which browsers play; equal frames give equal bytes."""
    height, width = video.pixels.shape[1:3]
    with av.open(path, "w", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("libx264", rate=round(len(video.pixels) / video.span), options=H264_OPTIONS)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for pixels in video.pixels:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


def write_split(out: Path, split: str, generator: Generator, rows: int, seed: int) -> Path:
    """Writes `out/SPLIT.jsonl` with `rows` rows, and its pictures and videos; returns its path."""
    first = generator.example(seed, split, 0)
    for folder in ("images", "videos"):
        if getattr(first, folder):
            (out / folder).mkdir(parents=True, exist_ok=True)
    per_example = len(first.questions)
    with open(out / f"{split}.jsonl", "w", encoding="utf-8") as lines:
        for index in track(range(-(-rows // per_example)), description=f"{split}: {rows} rows"):
            example = generator.example(seed, split, index)
            for name, image in zip(image_names(example, split, index), example.images, strict=True):
                image.save(out / name)
            for name, video in zip(video_names(example, split, index), example.videos, strict=True):
                save_video(out / name, video)
            for row in list(example_rows(example, split, index))[: rows - index * per_example]:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return out / f"{split}.jsonl"
