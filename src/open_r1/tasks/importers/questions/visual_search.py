"""Reads questions about small things on large pictures: V* bench, and DeepEyes' rows. (torch-free)

V* (craigwu/vstar_bench) is a folder with a JSON beside each picture: question, options of which the first is right,
names of targets and their boxes (x, y, width, height); rows of these fields with a picture are read too. Its
`test_questions.jsonl` has the options in the `text`. DeepEyes' rows (ChenShawn/DeepEyes-Datasets-47k) are verl's;
their prompts list a tool of their own and say how to call it, which `--tools zoom` does here.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from open_r1.rewards.parsing.option_texts import LETTERS
from open_r1.tasks.importers.annotations.frames import choose_frame, four_numbers_of
from open_r1.tasks.importers.fields import first_of, pictures_of, row_split
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, LeftOut, Remark, Turns
from open_r1.tasks.importers.nearby import json_of
from open_r1.tasks.importers.picture_values import SourcePicture
from open_r1.tasks.importers.pictures import ENDINGS
from open_r1.tasks.importers.questions.conversations import dialogue_row
from open_r1.tasks.importers.questions.options import option_texts, with_options
from open_r1.tasks.importers.sources import Source, Unusable

SEARCH_FIELDS = {"question", "options", "target_object", "bbox"}
SEARCH_FILES_READ = 5  # files of a folder by which its format is told
WORDED_FIELDS = {"text", "label", "category", "question_id"}
DIRECTLY = "Answer with the option's letter from the given choices directly."
TOOL_LIST, TOOL_WORDS = "<tools>", "\nThink first, call **image_zoom_in_tool**"


@dataclass(frozen=True)
class Search:
    """A question of V*: its row, picture, and boxes as they are written."""

    where: str
    row: Mapping[str, Any]
    picture: SourcePicture
    boxes: tuple[tuple[float, ...], ...]
    wh: tuple[int, int]


def is_visual_search(source: Source) -> bool:
    """Whether the JSON files of a folder, or rows, are questions with target boxes, or V*'s worded ones."""
    if source.kind == "folder":
        files = sorted(source.path.rglob("*.json"))[:SEARCH_FILES_READ]
        return any(_is_search(json_of(Source(path))) for path in files)
    return _is_search(source.first) or source.first.keys() >= WORDED_FIELDS


def _is_search(document: Any) -> bool:
    return isinstance(document, Mapping) and document.keys() >= SEARCH_FIELDS


def read_visual_search(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """A multiple-choice row for each question, its options in an order of their own; `target_boxes`, corners in
    pixels, stay for rewards. Raises DataError where the numbers of the boxes can be read in several ways."""
    found: list[Search] = []
    for where, row, beside in _documents(source):
        try:
            if isinstance(row, Mapping) and "text" in row and "question" not in row:
                yield worded_row(row, where)
            else:
                found.append(_search(row, where, beside, options))
        except Unusable as error:
            yield LeftOut(where, str(error))
    frame = choose_frame(
        [(box, one.wh) for one in found for box in one.boxes], str(source.path), options.boxes, "xywh"
    )
    if frame.remark:
        yield Remark(str(source.path), frame.remark)
    for one in found:
        corners = [frame.convert(box, one.wh) for box in one.boxes]
        if None in corners:
            yield LeftOut(one.where, "a box outside of its picture, or without an area")
        else:
            yield _chosen(one, [list(box) for box in corners if box])


def _documents(source: Source) -> Iterator[tuple[str, Any, Path | None]]:
    """(place, row, the file that it is alone in) of rows, or of the JSON files of a folder."""
    if source.kind != "folder":
        yield from ((where, row, None) for where, row in source.rows())
        return
    for path in sorted(source.path.rglob("*.json")):
        try:
            yield str(path), orjson.loads(path.read_bytes()), path
        except orjson.JSONDecodeError as error:
            yield str(path), Unusable(f"broken JSON: {error.msg}"), path


def _search(row: Any, where: str, beside: Path | None, options: ImportOptions) -> Search:
    """A question with its picture, by its field or beside its file. Raises Unusable."""
    if isinstance(row, Unusable):
        raise row
    if not _is_search(row) or not str(row["question"]).strip() or not isinstance(row["options"], list):
        raise Unusable("a row without question, options, target_object and bbox")
    listed = row["bbox"] if isinstance(row["bbox"], list) else []
    boxes = [four_numbers_of(box) for box in (listed if listed and isinstance(listed[0], list) else [listed])]
    pictures = pictures_of(row) if beside is None else _beside(beside)
    if len(pictures) != 1 or not all(boxes) or not 2 <= len(row["options"]) <= len(LETTERS):
        raise Unusable("a row without one picture, boxes of four numbers and two options or more")
    return Search(where, row, pictures[0], tuple(boxes), options.pictures.size_wh(pictures[0]))


def _beside(path: Path) -> tuple[SourcePicture, ...]:
    """The picture with the name of a file."""
    return tuple(str(near.resolve()) for end in sorted(ENDINGS) if (near := path.with_suffix(end)).is_file())


def _chosen(one: Search, boxes: list[list[float]]) -> ImportedRow:
    """The row of a question: the right option, which stands first in the source, is at a place of chance, by its
    question."""
    texts = option_texts(one.row["options"])
    order = random.Random(f"{one.row['question']} {texts}").sample(range(len(texts)), len(texts))
    shown = [texts[number] for number in order]
    names = one.row["target_object"]
    extra = {
        "accu_reward_method": "mcq",
        "options": shown,
        "targets": names if isinstance(names, list) else [names],
        "target_boxes": [[int(side) if side == int(side) else side for side in box] for box in boxes],
    }
    turns = [("human", with_options(str(one.row["question"]).strip(), shown)), ("gpt", LETTERS[order.index(0)])]
    return dialogue_row(one.where, turns, (one.picture,), one.row.get("id"), row_split(one.row), **extra)


def worded_row(row: Mapping[str, Any], where: str) -> ImportedRow:
    """A row whose `text` has question and options, and whose `label` is a letter; without the request to answer
    directly, which a prompt that asks to think contradicts. Raises Unusable."""
    text, letter = str(row.get("text") or "").replace(DIRECTLY, "").strip(), str(row.get("label") or "").strip()
    pictures = pictures_of(row)
    if not text or not (len(letter) == 1 and letter.isalpha()) or len(pictures) != 1:
        raise Unusable("a row without one picture, a text and the letter of its option")
    kept = {"category": row["category"]} if row.get("category") else {}
    turns: Turns = [("human", text), ("gpt", letter.upper())]
    return dialogue_row(where, turns, pictures, first_of(row, ("question_id",)), accu_reward_method="mcq", **kept)


def without_tool_prompt(turns: Turns) -> Turns:
    """Turns without a system turn that lists tools, and without DeepEyes' words of how to call one.

    >>> without_tool_prompt([("system", "# Tools <tools>...</tools>"), ("human", "Is it red?")])
    [('human', 'Is it red?')]
    """
    kept = [(role, text) for role, text in turns if not (role == "system" and TOOL_LIST in text)]
    return [(role, text.partition(TOOL_WORDS)[0] if role == "human" else text) for role, text in kept]
