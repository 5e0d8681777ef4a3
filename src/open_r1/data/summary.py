"""Statistics of a dataset (counts, image sizes, prompt lengths) and the table that shows them. (torch-free)"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from rich.markup import escape
from rich.table import Table

from open_r1.data.record import Record

_SIDES = (28, 112, 224, 448, 896, 1792)  # px, bounds of the size histogram


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
    tokens: tuple[int, ...] = ()  # prompt tokens of the measured rows
    hints: tuple[str, ...] = ()  # what looks wrong over all rows, as sentences


def count_records(records: Iterable[Record], stats: Statistics) -> dict[tuple[str, str], str]:
    """Counts rows into `stats`; returns for (folder, path) of each unique image the first line that names it."""
    places: dict[tuple[str, str], str] = {}
    for record in records:
        stats.rows += 1
        stats.images_per_row[len(record.images)] += 1
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
    place = bisect_right(_SIDES, side)
    if 0 < place < len(_SIDES):
        return f"{_SIDES[place - 1]}-{_SIDES[place] - 1}"
    return f">= {_SIDES[-1]}" if place else f"< {_SIDES[0]}"


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
    for name, counter in counters.items():
        shares = (f"{key}: {count}" for key, count in counter.most_common(12))
        table.add_row(name, escape(", ".join(shares)) or "none")
    if stats.tokens:
        levels = np.percentile(stats.tokens, (50, 90, 99, 100)).round().astype(int)
        shares = ", ".join(f"{name} {level}" for name, level in zip(("50%", "90%", "99%", "max"), levels, strict=True))
        table.add_row("prompt tokens", f"{shares} (of {len(stats.tokens)} rows)")
    return table
