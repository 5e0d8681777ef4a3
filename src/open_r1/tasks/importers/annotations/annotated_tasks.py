"""The questions and golds of each task about annotated pictures, in the form that the tasks of training expect."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from open_r1.tasks.importers.annotations.coco import Instance, InstanceFilter, Picture, instance_names, picture_rows
from open_r1.tasks.importers.items import AnnotatedObject, ImportedRow, LeftOut, qa_row
from open_r1.tasks.rec import REFERRING_QUESTION

ALL_LABELS = 10  # with at most so many labels in the data set, a detection question names all of them
ABSENT_LABELS = 3  # with more, so many that the picture lacks, beside those that it has
COUNTED = 4  # labels of a picture that are counted, one that it lacks among them
MIN_SEG_SHARE = 1e-2  # of a picture that a mask covers, or 1024 pixels where that is less
POINT_QUESTION = "Point to {name} in the image: give its x and y as [x, y]."
COUNT_QUESTION = 'How many objects of the kind "{label}" are there in the image?'
DETECT_QUESTION = "Find every {labels} in the image and give the box of each with its label."
SEG_REASONS = {
    "crowds": "a crowd",
    "unreadable masks": "an object without a readable outline",
    "below min_area": "a mask of too few pixels",
    "ambiguous": "an object that no short expression means alone",
    "below min_ceiling": "an outline that no polynomial describes",
}


@dataclass(frozen=True)
class LabelledPicture:
    """A picture whose objects are in pixels of its upright file of size `wh`, (width, height)."""

    where: str
    image: str | bytes
    wh: tuple[int, int]
    objects: tuple[AnnotatedObject, ...]
    split: str = ""

    def row(self, question: str, answer: str, method: str, **fields: Any) -> ImportedRow:
        """A row of this picture."""
        facts = {"accu_reward_method": method, "image_wh": list(self.wh)}
        return qa_row(self.where, question, answer, (self.image,), self.split, **facts, **fields)


RowMaker = Callable[[Sequence[LabelledPicture], Sequence[str]], Iterator[ImportedRow | LeftOut]]


def rec_rows(pictures: Sequence[LabelledPicture], labels: Sequence[str]) -> Iterator[ImportedRow | LeftOut]:
    """A row for each sentence of an object, or for its name where it has one that means it alone."""
    for picture in pictures:
        if not picture.objects:
            yield LeftOut(picture.where, "a picture without an object")
        for one, name in zip(picture.objects, object_names(picture), strict=True):
            if one.box is None:
                yield LeftOut(_place(picture, one), "a point, which has no box: --task point")
            elif not (sentences := one.sentences or ((name,) if name else ())):
                yield LeftOut(_place(picture, one), SEG_REASONS["ambiguous"])
            else:
                for sentence in sentences:
                    question = REFERRING_QUESTION.format(sentence=sentence.strip().removesuffix("."))
                    yield picture.row(question, json.dumps(plain_numbers(one.box)), "rec", category=one.label)


def point_rows(pictures: Sequence[LabelledPicture], labels: Sequence[str]) -> Iterator[ImportedRow | LeftOut]:
    """A row for each object of one point whose name means it alone."""
    for picture in pictures:
        if not picture.objects:
            yield LeftOut(picture.where, "a picture without an object")
        for one, name in zip(picture.objects, object_names(picture), strict=True):
            target = one.points if one.points else ()
            if len(target) != 1:
                yield LeftOut(_place(picture, one), "an object that is not one point")
            elif not (sentences := one.sentences or ((name,) if name else ())):
                yield LeftOut(_place(picture, one), SEG_REASONS["ambiguous"])
            else:
                answer = json.dumps(plain_numbers(target[0]))
                for sentence in sentences:
                    yield picture.row(POINT_QUESTION.format(name=sentence), answer, "point_distance")


def detection_rows(pictures: Sequence[LabelledPicture], labels: Sequence[str]) -> Iterator[ImportedRow | LeftOut]:
    """A row for each picture: the boxes of all objects of the labels that it asks for, "None" without any."""
    for picture in pictures:
        bad = {one.label for one in picture.objects if one.box is None or one.is_crowd}
        asked = [label for label in asked_labels(picture, labels) if label not in bad]
        if not asked:
            yield LeftOut(picture.where, "a picture whose labels all have a crowd, or an object without a box")
            continue
        found = sorted(
            (plain_numbers(one.box), one.label) for one in picture.objects if one.label in asked and one.box
        )
        boxes = [{"bbox_2d": box, "label": label} for box, label in found]
        question = DETECT_QUESTION.format(labels=" and every ".join(asked))
        yield picture.row(question, json.dumps(boxes, ensure_ascii=False) if boxes else "None", "od_ap", labels=asked)


def counting_rows(pictures: Sequence[LabelledPicture], labels: Sequence[str]) -> Iterator[ImportedRow | LeftOut]:
    """Rows for some labels of each picture, and for one that it lacks; labels with a crowd cannot be counted."""
    for picture in pictures:
        crowds = {one.label for one in picture.objects if one.is_crowd}
        present = list(dict.fromkeys(one.label for one in picture.objects if one.label not in crowds))
        absent = [label for label in labels if label not in present and label not in crowds]
        asked = chosen(present, COUNTED - 1, picture.where) + chosen(absent, 1, picture.where)
        if not asked:
            yield LeftOut(picture.where, "a picture of crowds only, which cannot be counted")
        for label in asked:
            number = sum(one.label == label for one in picture.objects)
            yield picture.row(COUNT_QUESTION.format(label=label), str(number), "default", category=label)


def seg_rows(pictures: Sequence[LabelledPicture], labels: Sequence[str]) -> Iterator[ImportedRow | LeftOut]:
    """A row for the outline of each object that one name means, as `coco.picture_rows` makes them."""
    for picture in pictures:
        masks = [_segmentation(one) for one in picture.objects]
        if not any(masks):
            yield LeftOut(picture.where, "a picture without an outline: --task rec, detection or counting")
            continue
        width, height = picture.wh
        least = min(InstanceFilter.min_area, int(MIN_SEG_SHARE * width * height))
        rows, skipped = picture_rows(_coco_picture(picture), replace(InstanceFilter(), min_area=least))
        for reason, count in sorted(skipped.items()):
            yield from (LeftOut(picture.where, SEG_REASONS.get(reason, reason)) for _ in range(count))
        for row in rows:
            fields = {key: row[key] for key in ("segmentation", "category", "ceiling", "basis")}
            question, answer = (turn["value"] for turn in row["conversations"])
            yield picture.row(question.removeprefix("<image>"), answer, "mask_iou", **fields)


MAKERS: dict[str, RowMaker] = {
    "rec": rec_rows,
    "point": point_rows,
    "detection": detection_rows,
    "counting": counting_rows,
    "seg": seg_rows,
}


def object_names(picture: LabelledPicture) -> list[str | None]:
    """A name for each object that means it alone in its picture; None where there is none (`coco.instance_names`)."""
    return instance_names(_coco_picture(picture))


def _coco_picture(picture: LabelledPicture) -> Picture:
    instances = []
    for number, one in enumerate(picture.objects):
        x1, y1, x2, y2 = one.box or (*one.points[0], *one.points[0])
        sides = (x1, y1, x2 - x1, y2 - y1)
        segmentation = _segmentation(one)
        instances.append(
            Instance(number, one.label.replace("_", " "), sides, sides[2] * sides[3], one.is_crowd, segmentation)
        )
    return Picture("", (picture.wh[1], picture.wh[0]), tuple(instances))


def _segmentation(one: AnnotatedObject) -> Any:
    """COCO's form of an outline: a run-length code, or flat lists of corners; None without one."""
    if one.rle is not None:
        return one.rle
    return [[side for corner in polygon for side in corner] for polygon in one.polygons if len(polygon) > 2] or None


def asked_labels(picture: LabelledPicture, labels: Sequence[str]) -> list[str]:
    """The labels that a detection question names: all of a data set with few, else those present and some absent."""
    if len(labels) <= ALL_LABELS:
        return sorted(labels)
    present = {one.label for one in picture.objects}
    absent = [label for label in labels if label not in present]
    return sorted([*present, *chosen(absent, ABSENT_LABELS, picture.where)])


def chosen(names: Sequence[str], count: int, where: str) -> list[str]:
    """At most `count` of the names, always the same ones for a place in a file, whatever the file's folder.

    >>> chosen(["a", "b", "c"], 2, "/data/x.json:1") == chosen(["a", "b", "c"], 2, "x.json:1"), chosen([], 2, "x")
    (True, [])
    """
    drawn_by = PurePath(where).name
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{drawn_by} {name}".encode()).digest())
    return ranked[:count]


def plain_numbers(numbers: Sequence[float]) -> list[float]:
    """Numbers rounded to 0.01, whole ones without a fraction.

    >>> plain_numbers((30.0, 40.456))
    [30, 40.46]
    """
    return [int(number) if float(number).is_integer() else round(float(number), 2) for number in numbers]


def _place(picture: LabelledPicture, one: AnnotatedObject) -> str:
    return f"{picture.where}:{one.id}" if one.id else picture.where
