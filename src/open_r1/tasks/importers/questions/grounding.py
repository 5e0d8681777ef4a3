"""Brings the boxes of gold answers to pixels: Qwen-VL's and InternVL's marks, and JSON with `bbox_2d`. (torch-free)

All boxes of a source are looked at together: in which numbers they are written shows on their pictures (`frames`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from open_r1.data.geometry.coordinates import Box
from open_r1.rewards.parsing.absence import without_fence
from open_r1.rewards.parsing.answer import extract_answer, with_answer
from open_r1.tasks.importers.annotations.frames import Frame, choose_frame, four_numbers_of
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, LeftOut, Remark, SizeWh
from open_r1.tasks.importers.sources import Source, Unusable

BOX_FIELDS = ("bbox_2d", "bbox", "box", "box_2d")
LABEL_FIELDS = ("label", "name", "category", "class", "ref", "description", "text_content")
NO_OBJECTS = ("[]", "None")  # golds of detection without a box
METHODS_OF_TASKS = {"rec": "rec", "detection": "od_ap"}
_NUMBER = r"\s*-?\d+(?:\.\d+)?\s*"
_CORNERS = re.compile(rf"\(({_NUMBER}),({_NUMBER})\)\s*,?\s*\(({_NUMBER}),({_NUMBER})\)")
_LIST = re.compile(rf"\[({_NUMBER}),({_NUMBER}),({_NUMBER}),({_NUMBER})\]")
_MARKED = re.compile(  # a name, or the boxes behind it
    r"<(?:ref|\|object_ref_start\|)>(?P<name>.*?)<(?:/ref|\|object_ref_end\|)>"
    r"|<(?:box|\|box_start\|)>(?P<boxes>.*?)<(?:/box|\|box_end\|)>",
    re.DOTALL,
)
_BETWEEN = re.compile(r"[\s,;.:]*(?:and)?[\s,;.:]*", re.IGNORECASE)  # what may stand between marks


@dataclass(frozen=True)
class GroundedBox:
    """A box of a gold answer as it is written, with its label, "" without one."""

    label: str
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class GroundedRow:
    """A row whose gold answer is boxes, how they are declared to be written, and the size of its picture."""

    item: ImportedRow
    boxes: tuple[GroundedBox, ...]
    declared: str
    wh: tuple[int, int]


def boxes_of(answer: str, with_bare: bool = False) -> tuple[str, list[GroundedBox]]:
    """(the declared frame, boxes) of an answer that is boxes; no boxes for any other.

    `with_bare` reads four numbers in brackets as a box too. Raises Unusable for prose with marked boxes.

    >>> boxes_of("<ref>red block</ref><box>(100,200),(500,600)</box>")
    ('per_mille', [GroundedBox(label='red block', numbers=(100.0, 200.0, 500.0, 600.0))])
    >>> boxes_of('```json\\n[{"bbox_2d": [30, 40, 150, 120], "label": "block"}]\\n```')[1][0].label
    'block'
    >>> boxes_of("[1, 2, 3, 4]"), boxes_of("[1, 2, 3, 4]", with_bare=True)[1][0].numbers
    (('', []), (1.0, 2.0, 3.0, 4.0))
    """
    if _MARKED.search(answer):
        return "per_mille", _marked_boxes(answer)
    if found := _json_boxes(answer):
        return "pixels", found
    bare = _LIST.fullmatch(answer.strip().removeprefix("[").removesuffix("]")) or _LIST.fullmatch(answer.strip())
    return ("", [GroundedBox("", tuple(map(float, bare.groups())))]) if bare and with_bare else ("", [])


def _marked_boxes(answer: str) -> list[GroundedBox]:
    label, end, boxes = "", 0, []
    for found in _MARKED.finditer(answer):
        if not _BETWEEN.fullmatch(answer[end : found.start()]):
            raise Unusable("an answer of prose with boxes in it, which no method grades")
        end = found.end()
        if found["name"] is not None:
            label = found["name"].strip()
            continue
        numbers = [*_CORNERS.findall(found["boxes"]), *_LIST.findall(found["boxes"])]
        if not numbers:
            raise Unusable("a marked box without four numbers")
        boxes += [GroundedBox(label, tuple(map(float, four))) for four in numbers]
    if not _BETWEEN.fullmatch(answer[end:]):
        raise Unusable("an answer of prose with boxes in it, which no method grades")
    return boxes


def _json_boxes(answer: str) -> list[GroundedBox]:
    """The boxes of a JSON object or list of objects with a box each; [] for anything else."""
    try:
        value = orjson.loads(without_fence(answer))
    except orjson.JSONDecodeError:
        return []
    boxes = [_json_box(item) for item in (value if isinstance(value, list) else [value])]
    return [box for box in boxes if box] if all(boxes) else []


def _json_box(item: Any) -> GroundedBox | None:
    if not isinstance(item, Mapping) or "image" in item:
        return None
    numbers = next((four for name in BOX_FIELDS if (four := four_numbers_of(item.get(name)))), None)
    label = next((str(item[name]) for name in LABEL_FIELDS if item.get(name)), "")
    return GroundedBox(label, numbers) if numbers else None


def with_boxes_in_pixels(
    items: Iterable[ImportedItem], source: Source, options: ImportOptions
) -> Iterator[ImportedItem]:
    """The items, with golds that are boxes in pixels and graded as such. Raises DataError where the numbers of a
    source's boxes can be read in several ways."""
    grounded: list[GroundedRow] = []
    empty: list[ImportedRow] = []
    bare = kept = 0
    asked = options.task in METHODS_OF_TASKS
    for item in items:
        if not isinstance(item, ImportedRow) or item.row.get("accu_reward_method"):
            yield item
            continue
        try:
            found = _grounded(item, options)
        except Unusable as error:
            yield LeftOut(item.where, str(error))
            continue
        if isinstance(found, GroundedRow):
            grounded.append(found)
            continue
        if item.images and _gold(item).strip() in NO_OBJECTS:
            empty.append(item)
            continue
        if asked:
            why = (
                "boxes on one of several pictures"
                if found
                else f"a gold that is no box, as --task {options.task} asks"
            )
            yield LeftOut(item.where, why)
            continue
        bare += bool(not options.task and item.images and boxes_of(_gold(item), with_bare=True)[1])
        kept += found
        yield item
    where = str(source.path)
    if bare:
        yield Remark(where, f"{bare} golds are four numbers in brackets, kept as text; --task rec reads them as boxes")
    if kept:
        yield Remark(
            where, f"{kept} golds are boxes on one of several pictures, kept as text: nothing names the picture"
        )
    single = all(len(row.boxes) == 1 for row in grounded) and not (grounded and empty)
    method = METHODS_OF_TASKS.get(options.task) or ("rec" if single else "od_ap")
    yield from _in_pixels(grounded, method, where, options)
    yield from _without_objects(empty, method, bool(grounded) or asked)


def _without_objects(items: Sequence[ImportedRow], method: str, is_grounding: bool) -> Iterator[ImportedItem]:
    """The rows whose gold says that there is no object: of detection, or texts as any other."""
    for item in items:
        if is_grounding and method == "rec":
            yield LeftOut(item.where, "a row without a box, which rec needs: --task detection")
        else:
            yield replace(item, row={**item.row, "accu_reward_method": method}) if is_grounding else item


def _gold(item: ImportedRow) -> str:
    text = str(item.row["conversations"][-1]["value"])
    inside = extract_answer(text)
    return text if inside is None else inside


def _grounded(item: ImportedRow, options: ImportOptions) -> GroundedRow | bool:
    """The row with its boxes; else whether it has boxes, on one of several pictures. Raises Unusable."""
    declared, boxes = boxes_of(_gold(item), with_bare=options.task in METHODS_OF_TASKS)
    pictures = item.images or _named_pictures(item)
    if not boxes or len(pictures) != 1:
        return bool(boxes) and len(pictures) > 1
    names = tuple(options.pictures.stored_name(picture) for picture in item.images)
    wh = options.pictures.size_wh((names or pictures)[0])
    return GroundedRow(replace(item, images=names), tuple(boxes), item.box_frame or declared, wh)


def _named_pictures(item: ImportedRow) -> tuple[str, ...]:
    """The pictures that the questions name by `<img>a.jpg</img>`."""
    texts = [turn["value"] for turn in item.row["conversations"] if turn["from"] == "human"]
    return tuple(name for text in texts for name in re.findall(r"<img>\s*([^<>]+?)\s*</img>", text))


def _in_pixels(rows: Sequence[GroundedRow], method: str, where: str, options: ImportOptions) -> Iterator[ImportedItem]:
    """The rows with their boxes in the reading of all."""
    frames: dict[str, Frame] = {}
    for declared in dict.fromkeys(row.declared for row in rows):
        placed = [(box.numbers, row.wh) for row in rows if row.declared == declared for box in row.boxes]
        frames[declared] = choose_frame(placed, where, options.boxes, declared)
        is_stated = all(row.item.box_frame for row in rows if row.declared == declared)
        note = frames[declared].remark or ("" if is_stated else _told(frames[declared], placed, options))
        if note:
            yield Remark(where, note)
    for row in rows:
        boxes = [frames[row.declared].convert(box.numbers, row.wh) for box in row.boxes]
        try:
            yield _graded(row, boxes, method)
        except Unusable as error:
            yield LeftOut(row.item.where, str(error))


def _told(frame: Frame, placed: Sequence[tuple[Sequence[float], SizeWh]], options: ImportOptions) -> str:
    """How boxes were read that could be read in another way, "" where the user or the numbers say so."""
    if options.boxes:
        return ""
    if frame.name == "pixels" and all(side <= 1000 for box, _ in placed for side in box):
        numbers, wh = placed[0]
        other = Frame("per_mille").convert(numbers, wh)
        before, after = (f"[{', '.join(f'{round(side, 1):g}' for side in box)}]" for box in (numbers, other or ()))
        return (
            f"{len(placed)} boxes are read as corners in pixels, Qwen2.5-VL's form; --boxes per_mille reads them as 0 "
            f"to 1000 of the sides, Qwen3-VL's form: {before} on {wh[0]}x{wh[1]} would be {after}"
        )
    if frame.name != "per_mille":
        return ""
    return "boxes in marks are read as 0 to 1000 of the sides, Qwen-VL's form; --boxes pixels says otherwise"


def _graded(row: GroundedRow, boxes: Sequence[Box | None], method: str) -> ImportedRow:
    """The row with its boxes as gold of the method."""
    if None in boxes:
        raise Unusable("a box outside of its picture, or without an area")
    if method == "rec" and len(boxes) > 1:
        raise Unusable("several boxes in one answer: --task detection")
    sides = [[int(side) if side == int(side) else side for side in box] for box in boxes if box]
    if method == "rec":
        gold = json.dumps(sides[0])
    else:
        labels = [box.label for box in row.boxes]
        if not all(labels):
            raise Unusable("a box without a label, which detection needs: --task rec")
        gold = json.dumps(
            [{"bbox_2d": box, "label": label} for box, label in zip(sides, labels, strict=True)], ensure_ascii=False
        )
    turns = [dict(turn) for turn in row.item.row["conversations"]]
    text = str(turns[-1]["value"])
    turns[-1]["value"] = gold if extract_answer(text) is None else with_answer(text, gold)
    return replace(row.item, row={**row.item.row, "conversations": turns, "accu_reward_method": method})
