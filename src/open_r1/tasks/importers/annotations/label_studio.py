"""Reads exports of Label Studio, JSON, JSON-MIN and CSV, as annotated pictures and questions. (torch-free)

Numbers are percent of the picture's sides. Of several annotations of one picture the one marked as ground truth is
taken, else the newest; cancelled ones and predictions are no annotation.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from open_r1.tasks.importers.annotations.label_studio_labels import KIND, with_labels
from open_r1.tasks.importers.annotations.label_studio_regions import region_object
from open_r1.tasks.importers.items import (
    AnnotatedPicture,
    ImportedItem,
    ImportOptions,
    LeftOut,
    Remark,
    kept_objects,
    qa_row,
)
from open_r1.tasks.importers.picture_values import SourcePicture, inside_text
from open_r1.tasks.importers.pictures import ENDINGS
from open_r1.tasks.importers.sources import Source, Unusable

LONGEST_NAME = 4096  # characters of a picture's address
QUESTION_FIELDS = ("question", "problem", "query", "prompt", "text", "instruction")
OF_TASK = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "annotations"}
_PICTURE = re.compile(rf"({'|'.join(map(re.escape, sorted(ENDINGS)))})$", re.I)


def is_label_studio(source: Source) -> bool:
    """Whether rows are tasks of Label Studio: `data` with `annotations`, `completions` or `predictions`."""
    row = source.first
    return isinstance(row.get("data"), Mapping) and bool({"annotations", "completions", "predictions"} & row.keys())


def is_label_studio_min(source: Source) -> bool:
    """Whether rows are those of JSON-MIN: an id, who annotated, and lists of regions or chosen words."""
    row = source.first
    if "id" not in row or not {"annotator", "annotation_id"} & row.keys():
        return False
    return any(_is_picture(value) for value in row.values())


def read_label_studio(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures of the tasks with their objects; choices and texts about a whole picture as questions."""
    yield from with_labels(_long_form(source, options), str(source.path))


def _long_form(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    several = 0
    for where, task in source.rows():
        try:
            annotation, count = _annotation(task)
            several += count > 1
            yield from _items(where, task["data"], annotation.get("result") or [], options)
        except Unusable as error:
            yield LeftOut(where, str(error))
    if several:
        text = f"pictures with several annotations: {several}; of each the ground truth is taken, else the newest"
        yield Remark(str(source.path), text)


def read_label_studio_min(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """As `read_label_studio`, of the short form, in which each annotation is a row of its own: the newest is taken."""
    yield from with_labels(_short_form(source, options), str(source.path))


def _short_form(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    newest: dict[str, tuple[str, Mapping[str, Any]]] = {}
    several = 0
    for where, row in source.rows():
        if not isinstance(row, Mapping):
            yield LeftOut(where, "a row that is no object")
            continue
        key = str(row.get("id", where))
        several += key in newest
        if key not in newest or _age(row) >= _age(newest[key][1]):
            newest[key] = (where, row)
    for where, row in newest.values():
        try:
            yield from _items(where, row, _min_results(row), options)
        except Unusable as error:
            yield LeftOut(where, str(error))
    if several:
        yield Remark(str(source.path), f"rows of pictures with a newer one: {several}; the newest is taken")


def _annotation(task: Any) -> tuple[Mapping[str, Any], int]:
    """(the annotation that counts, how many there are). Raises Unusable without one."""
    if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
        raise Unusable("a task without data")
    notes = [note for note in task.get("annotations") or task.get("completions") or () if isinstance(note, Mapping)]
    sound = [note for note in notes if not (note.get("was_cancelled") or note.get("skipped"))]
    if not sound:
        if notes:
            raise Unusable("a task whose annotations were cancelled")
        raise Unusable("a task with predictions only" if task.get("predictions") else "a task nobody annotated")
    return max(sound, key=lambda note: (bool(note.get("ground_truth")), _age(note))), len(sound)


def _age(note: Mapping[str, Any]) -> tuple[str, int]:
    stamp = str(note.get("updated_at") or note.get("created_at") or "")
    number = note.get("id") if "result" in note else note.get("annotation_id")
    return stamp, number if isinstance(number, int) else 0


def _min_results(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regions and choices of a row of JSON-MIN as results of the long form."""
    results: list[dict[str, Any]] = []
    for name, cell in row.items():
        value = _json_cell(cell)
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for number, region in enumerate(value):
                sizes = {key: region[key] for key in ("original_width", "original_height") if key in region}
                results.append({"id": f"{name}{number}", "from_name": name, "value": region, **sizes})
        elif name not in OF_TASK and not _is_picture(value) and name not in QUESTION_FIELDS:
            choices = value.get("choices") if isinstance(value, Mapping) else [value]
            if choices and all(isinstance(choice, str) for choice in choices):
                results.append({"from_name": name, "value": {"choices": choices}})
    return results


def _json_cell(cell: Any) -> Any:
    """The value of a cell of CSV that holds JSON, else the cell."""
    if not isinstance(cell, str) or not cell.startswith(("[{", '{"')):
        return cell
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def _items(
    where: str, data: Mapping[str, Any], results: Sequence[Any], options: ImportOptions
) -> Iterator[ImportedItem]:
    """The picture with its objects, or its questions where it has none."""
    regions = merged([one for one in results if isinstance(one, Mapping) and one.get("type") != "relation"])
    image = inside_text(_image(data, regions))
    areas = [result for result in regions if _is_region(result)]
    said = [result for result in regions if not _is_region(result)]
    sizes = {size for result in areas if (size := _size(result))}
    if len(sizes) > 1:
        raise Unusable("a task whose regions state several sizes of the picture")
    size = sizes.pop() if sizes else None
    objects = yield from kept_objects((where, region_object(result, size)) for result in areas)
    if said and not areas:
        yield from _questions(where, image, data, said)
        return
    yield from (LeftOut(where, "a choice or text beside objects, which has no question") for _ in said)
    yield AnnotatedPicture(where, image, size, objects)


def merged(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Results of one id as one: a rectangle and its labels may be two of them.

    >>> merged([{"id": "a", "value": {"x": 1}}, {"id": "a", "value": {"labels": ["cat"]}}])
    [{'id': 'a', 'value': {'x': 1, 'labels': ['cat']}}]
    """
    by_id: dict[Any, dict[str, Any]] = {}
    for number, result in enumerate(results):
        key = result.get("id") or number
        known = by_id.setdefault(key, {})
        known.update({**result, **known, "value": {**known.get("value", {}), **(result.get("value") or {})}})
    return list(by_id.values())


def _is_region(result: Mapping[str, Any]) -> bool:
    value = result["value"]
    return bool({"x", "points", "rle", "format", "radiusX"} & value.keys())


def _size(result: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = result.get("original_width"), result.get("original_height")
    if not all(type(side) in (int, float) and side >= 1 for side in sides):
        return None
    if result.get("image_rotation"):
        raise Unusable("a task whose picture was turned in the tool")
    return round(sides[0]), round(sides[1])


def _image(data: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    """The picture of a task: the field that its regions name, `image`, or the only one that looks like a picture."""
    for name in (*(str(result.get("to_name")) for result in results), "image", "img", "image_url", "url", "picture"):
        if isinstance(data.get(name), str) and data[name].strip() and (_is_picture(data[name]) or name == "image"):
            return data[name]
    found = [value for value in data.values() if _is_picture(value)]
    if len(found) != 1:
        raise Unusable("a task with several pictures" if found else "a task without a picture")
    return found[0]


def _is_picture(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if value.startswith(("/data/upload/", "/data/local-files/", "data:image/")):
        return True
    path = urlsplit(value).path if "//" in value[:LONGEST_NAME] else value
    return len(value) < LONGEST_NAME and bool(_PICTURE.search(value) or _PICTURE.search(path))


def _questions(
    where: str, image: SourcePicture, data: Mapping[str, Any], said: Sequence[Mapping[str, Any]]
) -> Iterator[ImportedItem]:
    """A row for each choice or text of one answer, with the question of the task's data, else one that names it."""
    asked = next((str(data[name]) for name in QUESTION_FIELDS if isinstance(data.get(name), str)), "")
    for result in said:
        answers = _answers(result["value"])
        if len(answers) != 1:
            yield LeftOut(where, "a choice or text that is not one answer")
            continue
        name = str(result.get("from_name") or "label").replace("_", " ")
        question = asked if asked and len(said) == 1 else f"What is the {name} of the image?"
        kind = "choices" if "choices" in result["value"] else "text" if "text" in result["value"] else ""
        known = {KIND: (kind, "" if question == asked else name)} if kind else {}
        yield qa_row(where, question, answers[0], (image,), **known)


def _answers(value: Mapping[str, Any]) -> list[str]:
    if "taxonomy" in value:
        paths = [path for path in value["taxonomy"] if isinstance(path, list)]
        return [" / ".join(map(str, path)) for path in paths]
    found = value.get("choices", value.get("text", value.get("number", value.get("rating"))))
    items = found if isinstance(found, list) else [] if found is None else [found]
    return [str(item).strip() for item in items if str(item).strip()]
