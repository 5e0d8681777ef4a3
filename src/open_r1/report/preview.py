"""Write a page of some rows as a person should see them: pictures with their gold places drawn, questions, answers.

The page fetches nothing, and only the script that plays film strips runs; texts are escaped by jinja2. (torch-free)
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from open_r1.data.images import open_image, size_fields
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.prompt_tokens import DEFAULT_SAMPLING
from open_r1.data.record import Record
from open_r1.data.video.types import FrameSampling
from open_r1.errors import DataError, UsageError, data_error
from open_r1.report.films import STRIP_VIDEOS, film_strips, script_of
from open_r1.report.page import script_and_style, script_hash
from open_r1.report.templates import PAGES
from open_r1.rewards.base import Outline
from open_r1.rewards.drawing import gold_outlines
from open_r1.rewards.places import place_problems

PREVIEW_ROWS = 12  # rows on the page
LONGEST_PREVIEW_SIDE = 800  # px of a picture on the page
PREVIEW_PICTURES = 4  # of a row
PREVIEW_TEXT = 4000  # characters of a question or an answer
NEAR = 50  # rows after the chosen one, among which one with a picture not yet shown is looked for


@dataclass(frozen=True)
class ShownPicture:
    """A picture on the page; `shapes` are (corners "x,y x,y ...", label, x and y of the label) in its pixels."""

    source: str
    alt: str
    size: tuple[int, int]
    shapes: tuple[tuple[str, str, float, float], ...]


def write_preview(data: Sequence[Record], out: Path, frames: FrameSampling = DEFAULT_SAMPLING) -> Path:
    """Write the page of PREVIEW_ROWS rows, evenly spread over the data; returns `out`. `frames`: how their videos are
    sampled. Raises DataError where the file cannot be written."""
    style, cards = preview_style(), [row_card(record, frames) for record in sample_records(data)]
    script = script_of(cards)
    page = PAGES.get_template("preview.html").render(
        cards=cards,
        script=script,
        script_hash=script_hash(script),
        rows=len(data),
        style=Markup(style),  # nosec B704 # files of this package
        style_hash=script_hash(style),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            file.write(page.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        got, remedy = f"{out}: {error.strerror}", "name another file"
        raise data_error("--preview", "file", got, "a file that can be written", remedy) from error
    return out


def sample_records(data: Sequence[Record], count: int = PREVIEW_ROWS) -> list[Record]:
    """At most `count` rows, evenly spread; where a picture was shown already, a row soon after with another one."""
    places = np.linspace(0, len(data), min(count, len(data)), endpoint=False).astype(int).tolist()
    if not places:
        return []
    chosen: dict[int, Record] = {}
    shown: set[tuple] = set()
    for place, following in zip(places, [*places[1:], len(data)], strict=True):
        for at in range(place, min(following, place + NEAR)):
            record = data[at]
            media = (record.images, record.videos)
            if at == place or media not in shown:
                chosen[place] = record
            if media not in shown:
                break
        shown.add((chosen[place].images, chosen[place].videos))
    return list(chosen.values())


@cache
def preview_style() -> str:
    """The style of the report, with what is the preview's own."""
    return script_and_style()[1] + PAGES.loader.get_source(PAGES, "preview.css")[0]


def row_card(record: Record, frames: FrameSampling = DEFAULT_SAMPLING) -> dict[str, object]:
    """What the page says of a row."""
    outlines, notes = _gold_places(record)
    pictures = []
    for number in range(min(len(record.images), PREVIEW_PICTURES)):
        try:
            here = [one for one in outlines if one.image == number and one.points]
            pictures.append(_picture(record, number, here))
        except DataError:  # a note of `_gold_places` already, for every picture of the row
            continue
    try:
        films = film_strips(record, frames)
    except DataError as error:
        films = []
        notes += [f"{one.field}: got {one.got}, expected {one.expected}; {one.remedy}" for one in error.problems]
    if len(record.videos) > STRIP_VIDEOS:
        notes.append(f"{len(record.videos) - STRIP_VIDEOS} more videos are not shown")
    if len(record.images) > PREVIEW_PICTURES:
        notes.append(f"{len(record.images) - PREVIEW_PICTURES} more pictures are not shown")
    return {
        "where": record.where,
        "method": record.accu_reward_method or "default",
        "pictures": pictures,
        "films": films,
        "question": _cut("\n\n".join(turn.text for turn in record.turns)),
        "answer": _cut(record.solution),
        "notes": notes,
    }


def _gold_places(record: Record) -> tuple[tuple[Outline, ...], list[str]]:
    """(the outlines of the gold, what is wrong with it on its picture)."""
    try:
        sized = record.with_extra(**size_fields(record))
        problems = place_problems(sized)
        outlines = () if problems else gold_outlines(sized)
    except DataError as error:
        outlines, problems = (), error.problems
    except UsageError as error:
        return (), [f"the gold cannot be drawn: {error}"]
    return outlines, [f"{one.field}: got {one.got}, expected {one.expected}; {one.remedy}" for one in problems]


def _picture(record: Record, number: int, outlines: Sequence[Outline]) -> ShownPicture:
    image = open_image(record.folder, record.images[number], where=record.where)
    image.thumbnail((LONGEST_PREVIEW_SIDE, LONGEST_PREVIEW_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=85)
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    drawn = f"{len(outlines)} gold outline{'s' * (len(outlines) != 1)} drawn" if outlines else "nothing drawn"
    alt = f"{record.images[number]} of {record.where}, {drawn}"
    return ShownPicture(uri, alt, image.size, tuple(_shape(one, image.size) for one in outlines))


def _shape(one: Outline, size: tuple[int, int]) -> tuple[str, str, float, float]:
    width, height = size
    corners = [(round(x * width, 1), round(y * height, 1)) for x, y in one.points]
    x, y = min(x for x, _ in corners), min(y for _, y in corners)
    text = max(size) / 26  # as high as a label's letters
    return " ".join(f"{x:g},{y:g}" for x, y in corners), (one.label or "")[:40], x, max(y - text / 4, text)


def _cut(text: str) -> str:
    more = len(text) - PREVIEW_TEXT
    return text if more <= 0 else f"{text[:PREVIEW_TEXT]} ... ({more} more characters)"
