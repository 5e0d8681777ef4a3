"""Finds a row's pictures, question and answer under the names that other projects use. (torch-free)"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from open_r1.data.gold_answers import solution_text
from open_r1.errors import DataError
from open_r1.tasks.importers.picture_values import SourcePicture, pictures_in
from open_r1.tasks.importers.pictures import ENDINGS, Pictures
from open_r1.tasks.importers.source_videos import VIDEO_NAMES
from open_r1.tasks.importers.sources import Unusable
from open_r1.tasks.importers.splits import SPLIT_WORDS

PICTURE_FIELDS = (  # the first that has a value; MathVista's `decoded_image` before its `image`, a path
    "decoded_image",
    "images",
    "image",
    "image_path",
    "image_paths",
    "images_path",
    "image_file",
    "image_files",
    "image_filename",
    "image_name",
    "img_filename",
    "img_path",
    "img_paths",
    "imgname",
    "imgs",
    "img",
    "picture",
    "pictures",
    "file_name",
    "filename",
    "image_local_name",
    "image_url",
    "image_urls",
)
ID_FIELDS = ("image_id", "imageId", "img_id")
COCO_NAMES = ("COCO_train2014_{:012d}", "COCO_val2014_{:012d}", "COCO_test2015_{:012d}", "{:012d}", "{}")
NEVER_PICTURES = frozenset({"problem", "solution", "question", "answer", "id", "prompt", "response", "query", "label"})
SOUNDS = ("audio", "audios")
_NUMBERED = re.compile(r"image_?(\d{1,2})")


def pictures_of(row: Mapping[str, Any], beside_videos: bool = False) -> tuple[SourcePicture, ...]:
    """The pictures of a row, from one field of PICTURE_FIELDS in any case, or from `image_1`, `image_2`, ...

    Raises Unusable for a row with a sound or, unless its reader takes these (`beside_videos`), a video.
    """
    named = {name.lower(): value for name, value in row.items() if value not in (None, "", [])}
    if moving := [name for name in (*SOUNDS, *(() if beside_videos else VIDEO_NAMES[:2])) if name in named]:
        raise Unusable(f"a row with {moving[0]}, which is no picture")
    if beside_videos:
        named = {name: value for name, value in named.items() if name not in VIDEO_NAMES}
        named |= {"path": None} if named.get("data_type") == "video" else {}
    if numbered := sorted((int(found[1]), name) for name in named if (found := _NUMBERED.fullmatch(name))):
        return tuple(picture for _, name in numbered for picture in pictures_in(named[name]))
    found = next((pictures_in(named[name]) for name in PICTURE_FIELDS if name in named), None)
    if found is None:
        return _under_another_name(named)
    if found == ("image.png",) and named.get("split") and named.get("id"):  # ScienceQA: SPLIT/ID/image.png
        return (f"{named['split']}/{named['id']}/image.png",)
    return found


def _under_another_name(named: Mapping[str, Any]) -> tuple[SourcePicture, ...]:
    """The pictures of the one other field whose value looks like pictures. Raises Unusable for several."""
    if "pixel_values" in named and not _looks_like_picture(named["pixel_values"]):
        raise Unusable("a row with pixel_values, a picture as numbers")
    names = [name for name, value in named.items() if name not in NEVER_PICTURES and _looks_like_picture(value)]
    if len(names) > 1:
        raise Unusable(f"pictures in the fields {' and '.join(names[:3])}: name one with --fields image=FIELD")
    return pictures_in(named[names[0]]) if names else ()


def pictures_by_field_or_id(
    row: Mapping[str, Any], files: Pictures, beside_videos: bool = False
) -> tuple[SourcePicture, ...]:
    """The pictures that a row names in a field, else by its id, which goes before addresses in fields of other names
    (TextVQA). Raises Unusable."""
    addresses = () if any(name.lower() in PICTURE_FIELDS for name in row) else _addresses(row)
    if addresses and first_of(row, ID_FIELDS) is not None:
        try:
            return picture_by_id(row, files)
        except Unusable:
            if len(addresses) > 1:
                raise
    return pictures_of(row, beside_videos) or picture_by_id(row, files)


def _addresses(row: Mapping[str, Any]) -> list[str]:
    """The fields that hold addresses of pictures on the web."""
    return [
        name for name, value in row.items() if isinstance(value, str) and "://" in value and _looks_like_picture(value)
    ]


def _looks_like_picture(value: Any) -> bool:
    """Whether a value is the name of a picture file, bytes, or a list of them."""
    if isinstance(value, list):
        return bool(value) and all(map(_looks_like_picture, value))
    if isinstance(value, Mapping):
        return {"bytes", "path"} <= value.keys()
    is_name = isinstance(value, str) and len(value) < 1000 and "\n" not in value
    return isinstance(value, bytes) or (is_name and PurePosixPath(value).suffix.lower() in ENDINGS)


def picture_by_id(row: Mapping[str, Any], pictures: Pictures) -> tuple[SourcePicture, ...]:
    """The picture that a row names by its id (VQAv2, GQA, TextVQA): a number in one of COCO's names, or a file's stem.

    Raises Unusable where there is no such picture.
    """
    identity = first_of(row, ID_FIELDS)
    if identity is None:
        return ()
    number = int(identity) if str(identity).isdigit() else None
    names = [str(identity)] if str(number) != str(identity) else []
    names += [] if number is None else [form.format(number) for form in COCO_NAMES]
    for name in names:
        try:
            pictures.find(name)
        except Unusable:
            continue
        return (name,)
    raise Unusable("a picture that is not there")


def first_of(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of the fields that has one, else None."""
    return next((row[name] for name in names if row.get(name) not in (None, "", [])), None)


def row_split(row: Mapping[str, Any]) -> str:
    """The split that a row names, "" for none."""
    value = row.get("split")
    return SPLIT_WORDS.get(value.lower(), value) if isinstance(value, str) else ""


def answer_text(value: Any) -> str:
    """A gold answer as text; true and false are yes and no. Raises Unusable for none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", {}) or (isinstance(value, str) and not value.strip()):
        raise Unusable("a row without an answer")
    try:
        return solution_text(value, "answer", "")
    except DataError as error:
        raise Unusable(f"an answer that is {error.problems[0].got}") from error
