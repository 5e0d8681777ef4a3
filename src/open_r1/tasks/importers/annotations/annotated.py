"""Rows of a task from annotated pictures: their objects brought to the upright picture, then asked about. (torch-free)

`annotated_rows` is what the door calls, once for all pictures: which labels are absent from a picture, and how often
each occurs, is known of the whole data set.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pycocotools import mask as coco

from open_r1.data.geometry.masks import read_segmentation
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.errors import UsageError
from open_r1.tasks.importers.annotations.annotated_tasks import MAKERS, LabelledPicture
from open_r1.tasks.importers.annotations.frames import inside
from open_r1.tasks.importers.annotations.outlines import box_around
from open_r1.tasks.importers.items import AnnotatedObject, AnnotatedPicture, ImportedRow, LeftOut, Remark, SizeWh
from open_r1.tasks.importers.picture_facts import PictureFacts, picture_facts, scaled, turned
from open_r1.tasks.importers.pictures import Pictures
from open_r1.tasks.importers.sources import Unusable

# The task of training (--task_type) for the rows of each task of the importer.
TRAINING_TASKS = {"rec": "rec", "detection": "od", "counting": "counting", "seg": "seg", "point": "default"}


@dataclass
class Placing:
    """Brings objects to the upright picture as it is stored, and counts what it had to do."""

    done: Counter[str] = field(default_factory=Counter)

    def place(self, picture: AnnotatedPicture, facts: PictureFacts) -> AnnotatedPicture:
        """The picture with objects in pixels of its upright file. Raises Unusable where that cannot be known."""
        stated, objects = picture.size_wh, picture.objects
        if facts.orientation != 1 and stated == facts.stored_wh != facts.wh:
            self.done["turned from the stored pixels with their picture, as its EXIF says"] += len(objects)
            objects = tuple(turned(one, facts) for one in objects)
        elif facts.orientation != 1 and stated in (facts.wh, None) and facts.wh == facts.stored_wh:
            self.done["taken to be in the upright picture, where EXIF turns it (look at --preview)"] += len(objects)
        elif stated not in (facts.wh, None):
            if not _is_scaled(stated, facts.wh):
                raise Unusable("its picture has another shape than the source states")
            factor = facts.wh[0] / stated[0], facts.wh[1] / stated[1]
            self.done["scaled, as their pictures are stored in another size than the source states"] += len(objects)
            objects = tuple(scaled(one, factor) for one in objects)
        return replace(picture, size_wh=facts.wh, objects=objects)


def _is_scaled(stated: SizeWh, wh: SizeWh) -> bool:
    """Whether two sizes have the same aspect, but for the rounding of a pixel.

    >>> _is_scaled((300, 200), (600, 401)), _is_scaled((300, 200), (200, 300)), _is_scaled((0, 0), (200, 300))
    (True, False, False)
    """
    return min(stated) > 0 and abs(wh[0] * stated[1] - wh[1] * stated[0]) <= max(*stated, *wh)


def annotated_rows(
    pictures: Sequence[AnnotatedPicture], task: str, files: Pictures
) -> Iterator[ImportedRow | LeftOut | Remark]:
    """The rows of all pictures for `task` ("": the one that fits), what is left out, and what was decided.

    `files` finds the pictures that the sources name.
    """
    placing, spelling, ready = Placing(), Spelling(), []
    for picture in pictures:
        try:
            facts = facts_of(picture.image, files)
            placed = placing.place(picture, facts)
        except Unusable as error:
            yield LeftOut(picture.where, str(error))
            continue
        objects = []
        for one in placed.objects:
            sound = sound_object(one, facts.wh, f"{picture.where}:{one.id}" if one.id else picture.where)
            if isinstance(sound, LeftOut):
                yield sound
            else:
                objects.append(replace(sound, label=spelling.of(sound.label)))
        ready.append(LabelledPicture(placed.where, placed.image, facts.wh, tuple(objects), placed.split))
    where = pictures[0].where.rpartition(":")[0] or pictures[0].where if pictures else ""
    yield from (Remark(where, f"objects {what}: {count}") for what, count in placing.done.items() if count)
    if task and task not in MAKERS:
        raise UsageError(f"--task: got {task} for annotated pictures, expected one of {', '.join(MAKERS)}")
    chosen, why = (task, "") if task else default_task(ready)
    if why:
        yield Remark(where, why)
    empty = sum(not picture.objects for picture in ready)
    if empty and chosen in ("detection", "counting"):
        yield Remark(where, f"pictures without an object: {empty}; they are taken to be empty")
    labels = Counter(one.label for picture in ready for one in picture.objects)
    yield from MAKERS[chosen](ready, [label for label, _ in labels.most_common()])


def facts_of(picture: str | bytes, files: Pictures) -> PictureFacts:
    """The size and orientation of a picture as the source names it. Raises Unusable where it cannot be opened."""
    if facts := picture_facts(files.find(picture)):
        return facts
    raise Unusable("a file that is no picture")


@dataclass
class Spelling:
    """One spelling for each label: "Dog" and "dog " are the same to the rewards."""

    known: dict[str, str] = field(default_factory=dict)

    def of(self, label: str) -> str:
        plain = " ".join(label.split())
        return self.known.setdefault(plain.casefold(), plain)


def sound_object(one: AnnotatedObject, wh: SizeWh, where: str) -> AnnotatedObject | LeftOut:
    """The object with its box cut at the picture's edge, its points on it; the reason where it is no use."""
    if not one.label.strip():
        return LeftOut(where, "an object without a label")
    if IMAGE_TAG in one.label or any(IMAGE_TAG in sentence for sentence in one.sentences):
        return LeftOut(where, f"an object whose label holds {IMAGE_TAG}")
    if one.box is None and one.points and not one.polygons and one.rle is None:
        on_it = all(0 <= x <= wh[0] and 0 <= y <= wh[1] for x, y in one.points)
        return one if on_it else LeftOut(where, "a point outside of its picture")
    box = one.box or (box_around([c for part in one.polygons for c in part]) if one.polygons else None)
    if one.rle is not None:
        try:
            mask = read_segmentation(one.rle, (wh[1], wh[0]))
        except ValueError:
            return LeftOut(where, "a mask that does not belong to a picture of its size")
        x, y, w, h = coco.toBbox(mask).tolist()
        box = box or (x, y, x + w, y + h)
    if box is None:
        return LeftOut(where, "an object without box, outline or point")
    cut = inside(box, wh)
    return replace(one, box=cut) if cut else LeftOut(where, "a box outside of its picture, or without an area")


def default_task(pictures: Sequence[LabelledPicture]) -> tuple[str, str]:
    """(the task that fits the objects, why): `rec`, or `point` where all objects are points."""
    objects = [one for picture in pictures for one in picture.objects]
    if objects and all(one.box is None and one.rle is None for one in objects):
        return "point", "task point: all objects are points"
    if any(one.sentences for one in objects):
        return "rec", "task rec: the source has sentences that mean one object each"
    others = "detection, counting, and seg where objects have outlines"
    return "rec", f"task rec: one box each is what a model learns soonest; --task makes others: {others}"
