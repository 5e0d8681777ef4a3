"""Statistics of a dataset (counts, image sizes, prompt lengths) and the table that shows them. (torch-free)"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.markup import escape
from rich.table import Table

from open_r1.data.record import Record
from open_r1.data.video.types import VideoShape
from open_r1.errors import MAX_SHOWN, Problem, summarized

_SECONDS = (1, 5, 10, 30, 60, 180, 600)  # bounds of the histogram of seconds
_SIDES = (28, 112, 224, 448, 896, 1792)  # px, bounds of the size histogram

HISTOGRAMS = {"seconds of a video", "frames of a video", "longer side (px)"}  # shown by size, others by frequency


@dataclass
class Statistics:
    """Counts over the rows; filled by `count_records`."""

    rows: int = 0
    images_per_row: Counter[int] = field(default_factory=Counter)
    turns_per_row: Counter[int] = field(default_factory=Counter)
    extra_fields: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    longest_sides: Counter[str] = field(default_factory=Counter)  # of unique images
    unique_images: int = 0
    videos_per_row: Counter[int] = field(default_factory=Counter)
    video_seconds: Counter[str] = field(default_factory=Counter)  # of unique videos, as shown
    video_frames: Counter[int] = field(default_factory=Counter)
    unique_videos: int = 0  # parts of one file, and samplings of it, apart
    video_files: int = 0  # files, and lists of pictures
    unmet: list[Problem] = field(default_factory=list)  # what rows ask of their videos and do not get
    video_tokens: tuple[int, ...] = ()  # of the videos of the measured rows, each
    tokens: tuple[int, ...] = ()  # prompt tokens of the measured rows
    hints: tuple[str, ...] = ()  # what looks wrong over all rows, as sentences


def count_records(records: Iterable[Record], stats: Statistics) -> dict[tuple[str, str], str]:
    """Counts rows into `stats`; returns for (folder, path) of each unique image the first line that names it."""
    places: dict[tuple[str, str], str] = {}
    for record in records:
        stats.rows += 1
        stats.images_per_row[len(record.images)] += 1
        stats.videos_per_row[len(record.videos)] += 1
        stats.turns_per_row[len(record.turns)] += 1
        stats.extra_fields.update(record.extra.keys())
        stats.methods[record.accu_reward_method or "(none named)"] += 1
        for path in record.images:
            places.setdefault((record.folder, path), record.where)
    stats.unique_images = len(places)
    return places


def size_class(side: int) -> str:
    """Histogram class of an image by its longer side in pixels.

    >>> size_class(20), size_class(640), size_class(4000)
    ('< 28', '448-895', '>= 1792')
    """
    return _class_within(_SIDES, side)


def seconds_class(seconds: float) -> str:
    """Histogram class of a video by the seconds that it shows.

    >>> seconds_class(0.5), seconds_class(30), seconds_class(4000)
    ('< 1 s', '30-59 s', '>= 600 s')
    """
    return _class_within(_SECONDS, seconds, " s")


def _class_within(bounds: Sequence[int], value: float, unit: str = "") -> str:
    """The class of a value in a histogram with these bounds."""
    place = bisect_right(bounds, value)
    if 0 < place < len(bounds):
        return f"{bounds[place - 1]}-{bounds[place] - 1}{unit}"
    return f">= {bounds[-1]}{unit}" if place else f"< {bounds[0]}{unit}"


def add_shape(stats: Statistics, shape: VideoShape) -> None:
    """Counts the sampled frames and seconds of a video."""
    stats.video_frames[len(shape.seconds)] += 1
    stats.video_seconds[seconds_class(shape.span)] += 1


def summary_table(stats: Statistics) -> Table:
    """The statistics, one line each."""
    table = Table(title="dataset", show_header=False)
    table.add_row("rows", str(stats.rows))
    table.add_row("unique images", str(stats.unique_images))
    counters = {
        "images a row": stats.images_per_row,
        "prompt turns a row": stats.turns_per_row,
        "longer side (px)": stats.longest_sides,
        "method of the row": stats.methods,
        "extra fields": stats.extra_fields,
    }
    if stats.unique_videos:
        of_files = f"of {stats.video_files} files or lists of pictures"
        table.add_row("unique videos", f"{stats.unique_videos} ({of_files}; parts and samplings of one apart)")
        counters |= {
            "videos a row": stats.videos_per_row,
            "seconds of a video": stats.video_seconds,
            "frames of a video": stats.video_frames,
        }
    for name, counter in counters.items():
        shown = counter.most_common(12)
        shares = (f"{key}: {count}" for key, count in (sorted(shown, key=_rising) if name in HISTOGRAMS else shown))
        table.add_row(name, escape(", ".join(shares)) or "none")
    if stats.tokens:
        table.add_row("prompt tokens", f"{_levels(stats.tokens)} (of {len(stats.tokens)} rows)")
    if stats.video_tokens:
        table.add_row("tokens a video", f"{_levels(stats.video_tokens)} (of {len(stats.video_tokens)} videos)")
    return table


def _rising(share: tuple[str | int, int]) -> tuple[int, bool]:
    """The place of a class in a histogram: by its lower bound, `< B` before `B-C`.

    >>> sorted([("1-4 s", 1), (">= 600 s", 2), ("< 1 s", 3)], key=_rising)
    [('< 1 s', 3), ('1-4 s', 1), ('>= 600 s', 2)]
    """
    name = str(share[0])
    return int(re.search(r"\d+", name)[0]), not name.startswith("<")


def warning_lines(texts: Sequence[str], unmet: Sequence[Problem]) -> list[str]:
    """At most MAX_SHOWN warnings of each kind, and how many more there are; unmet requests of a kind are one line."""
    lines = [*texts[:MAX_SHOWN]]
    if len(texts) > MAX_SHOWN:
        lines.append(f"... and {len(texts) - MAX_SHOWN:,} more about ids")
    kinds = summarized(unmet)
    lines += map(str, kinds[:MAX_SHOWN])
    if len(kinds) > MAX_SHOWN:
        lines.append(f"... and {len(kinds) - MAX_SHOWN:,} more kinds of requests of videos that are not met")
    return lines


def _levels(numbers: Sequence[int]) -> str:
    levels = np.percentile(numbers, (50, 90, 99, 100)).round().astype(int)
    return ", ".join(f"{name} {level}" for name, level in zip(("50%", "90%", "99%", "max"), levels, strict=True))
