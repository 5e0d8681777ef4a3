"""Texts that other projects write where a picture stands, next to this project's `<image>`. (torch-free)"""

import re

_WORD = r"(?:image|img|picture|pic)"
_NUMBER = r"[\s_-]?(?P<{0}>\d{{1,3}})"
NEAR_TAG = re.compile(
    rf"<\|vision_start\|>\s?<\|image_pad\|>\s?<\|vision_end\|>"  # Qwen2-VL
    rf"|<\|?\s?{_WORD}(?:{_NUMBER.format('angle')})?\s?/?\|?>"  # <image>, <IMAGE>, <image 1>, <image/>, <|image_1|>
    rf"|<\|?(?:image_?pad|image_?token|image_?placeholder|imagehere|img_context|start_of_image)\|?>"
    rf"|\{{\{{?\s?{_WORD}(?:{_NUMBER.format('brace')})?\s?\}}?\}}"  # {image}, {image_1}
    rf"|\[{_WORD}(?:{_NUMBER.format('square')})?\]",  # [IMG], [image 1]
    re.IGNORECASE,
)


def tag_number(found: re.Match[str]) -> int | None:
    """The number that a near tag states, None for one without.

    >>> [tag_number(found) for found in NEAR_TAG.finditer("<image> <IMG_2> {image}, [image 3], <|image_1|>")]
    [None, 2, None, 3, 1]
    """
    stated = found["angle"] or found["brace"] or found["square"]
    return int(stated) if stated else None
