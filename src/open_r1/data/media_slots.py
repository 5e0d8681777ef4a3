"""Which of a row's pictures and videos stands at each of its tags. (torch-free)"""

from collections.abc import Sequence
from typing import TypeVar

from open_r1.data.gold_answers import CONVERT
from open_r1.data.row_formats import IMAGE_TAG, VIDEO_TAG, Slot
from open_r1.data.video.types import Video
from open_r1.errors import data_error

_NAMES = {IMAGE_TAG: "image", VIDEO_TAG: "video"}
_File = TypeVar("_File", str, Video)


def images_in_order(images: tuple[str, ...], slots: Sequence[Slot], videos: int, where: str) -> tuple[str, ...]:
    """Images in the order of their tags; a row without tags of images keeps the order of its field. Raises DataError
    where tags and images differ in number."""
    remedy = "add or remove tags or images, or remove all tags to show the images first"
    if videos and not images:
        remedy = f"write {VIDEO_TAG} for the place of a video, or convert the file: {CONVERT}"
    return _in_order(images, slots, IMAGE_TAG, remedy, where)


def videos_in_order(videos: tuple[Video, ...], slots: Sequence[Slot], where: str) -> tuple[Video, ...]:
    """Videos in the order of their tags, as images; in a row without any video `<video>` is text."""
    if not videos and not any(slot.is_part for slot in slots if slot.tag == VIDEO_TAG):
        return ()
    remedy = "add or remove tags or videos, or remove all tags to show the videos first"
    return _in_order(videos, slots, VIDEO_TAG, remedy, where)


def _in_order(files: tuple[_File, ...], slots: Sequence[Slot], tag: str, remedy: str, where: str) -> tuple[_File, ...]:
    own = [slot.file for slot in slots if slot.tag == tag]
    if not own:
        return files
    if (tags := own.count(None)) != len(files):
        name = _NAMES[tag]
        got = f"{tags} {tag} tag(s) for {len(files)} {name}(s)"
        raise data_error(where, tag, got, f"as many tags as {name}s, or no tag at all", remedy)
    queue = iter(files)
    return tuple(next(queue) if file is None else file for file in own)
