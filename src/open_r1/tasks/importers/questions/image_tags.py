"""Brings the places of pictures in a text to this project's form: `<image>` in the order of the row's pictures."""

import re
from collections.abc import Sequence

from open_r1.data.near_tags import NEAR_TAG, marks_picture, tag_number
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.tasks.importers.picture_values import SourcePicture
from open_r1.tasks.importers.sources import Unusable

_NAMED = re.compile(r"<img>\s*(?P<name>[^<>]{1,1000}?)\s*</img>", re.IGNORECASE)  # Qwen-VL


def with_image_tags(
    texts: Sequence[str], pictures: Sequence[SourcePicture]
) -> tuple[list[str], tuple[SourcePicture, ...]]:
    """(texts, pictures): every place of a picture is `<image>`, the pictures stand in the order of their tags.

    `<image 2>` is the second of `pictures`, as often as it stands; a place without a number takes the next one;
    `<img>a.jpg</img>` names its own. Raises Unusable where places and pictures do not agree.

    >>> with_image_tags(["<image 2> or <image 1>?"], ["a.png", "b.png"])
    (['<image> or <image>?'], ('b.png', 'a.png'))
    >>> with_image_tags(["Picture 1: <img>d.jpg</img> where?", "[IMG] n?"], ["a.png"])
    (['Picture 1: <image> where?', '<image> n?'], ('d.jpg', 'a.png'))
    """
    order: list[SourcePicture] = []
    used: set[int] = set()
    unnumbered = iter(range(len(pictures)))

    def placed(found: re.Match[str]) -> str:
        if found["name"]:
            order.append(found["name"])
            return IMAGE_TAG
        if not marks_picture(found):
            return found[0]
        number = tag_number(found)
        index = next(unnumbered, len(pictures)) if number is None else number - 1
        if not 0 <= index < len(pictures):
            raise Unusable(f"a place for a picture, as {found[0]}, that the row does not have")
        used.add(index)
        order.append(pictures[index])
        return IMAGE_TAG

    tagged = [_PLACE.sub(placed, text) for text in texts]
    if order and len(used) < len(pictures):
        raise Unusable("more pictures than places for them")
    return tagged, tuple(order or pictures)


_PLACE = re.compile(f"{_NAMED.pattern}|{NEAR_TAG.pattern}", re.IGNORECASE)
