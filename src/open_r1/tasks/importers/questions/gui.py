"""Reads sets of GUI clicks: ScreenSpot, ScreenSpot-Pro, OS-Atlas, SeeClick. (torch-free)"""

from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.tasks.importers.annotations.frames import choose_frame, four_numbers_of
from open_r1.tasks.importers.fields import pictures_of
from open_r1.tasks.importers.items import ImportedItem, ImportOptions, LeftOut, Remark
from open_r1.tasks.importers.questions.conversations import dialogue_row
from open_r1.tasks.importers.sources import Source, Unusable

CLICK_QUESTION = 'Where should one click for this: "{instruction}"? Answer with the point [x, y].'
ELEMENT_LISTS = ("elements", "element")
KEPT_OF_CLICKS = ("data_type", "data_source", "ui_type", "platform", "application", "group")


def is_gui_set(source: Source) -> bool:
    """Whether rows are instructions with the box of their target on a screenshot, or screenshots with them."""
    return bool(_targets(source.first)) and "problem" not in source.first


def _targets(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The instructions of a row with their boxes."""
    if "instruction" in row and "bbox" in row:
        return [row]
    listed = next((row[name] for name in ELEMENT_LISTS if isinstance(row.get(name), list)), [])
    return [one for one in listed if isinstance(one, Mapping) and "instruction" in one and "bbox" in one]


def read_gui_set(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """A row for each instruction; a click within the box of its target is right. Raises DataError where the numbers
    of the boxes can be read in several ways."""
    found: list[tuple[str, Mapping[str, Any], tuple, tuple[float, ...], tuple[int, int]]] = []
    for where, row in source.rows():
        targets = _targets(row) if isinstance(row, Mapping) else []
        if not targets:
            yield LeftOut(where, str(row) if isinstance(row, Unusable) else "a row without an instruction and a box")
        for number, target in enumerate(targets, 1):
            place = f"{where}:{number}" if target is not row else where
            try:
                pictures = pictures_of(row)
                numbers = four_numbers_of(target["bbox"])
                if len(pictures) != 1 or not numbers or not str(target["instruction"] or "").strip():
                    raise Unusable("a row without one picture, an instruction and a box of four numbers")
                found.append((place, {**row, **target}, pictures, numbers, options.pictures.size_wh(pictures[0])))
            except Unusable as error:
                yield LeftOut(place, str(error))
    frame = choose_frame(
        [(numbers, wh) for *_, numbers, wh in found], str(source.path), options.boxes, _declared(source)
    )
    if frame.remark:
        yield Remark(str(source.path), frame.remark)
    for place, target, pictures, numbers, wh in found:
        box = frame.convert(numbers, wh)
        if box is None:
            yield LeftOut(place, "a box outside of its picture, or without an area")
            continue
        question = CLICK_QUESTION.format(instruction=str(target["instruction"]).strip())
        kept = {name: target[name] for name in KEPT_OF_CLICKS if target.get(name)}
        turns = [("human", question), ("gpt", str([int(side) if side == int(side) else side for side in box]))]
        yield dialogue_row(place, turns, pictures, target.get("id"), accu_reward_method="point_in_box", **kept)


def _declared(source: Source) -> str:
    """How the set's own text declares its boxes: ScreenSpot-Pro corners, ScreenSpot x, y, width, height."""
    row = source.first
    if any(name in row for name in ELEMENT_LISTS):
        return "fractions"
    if "img_size" in row or "ui_type" in row:
        return "pixels"
    return "xywh" if "img_filename" in row else ""
