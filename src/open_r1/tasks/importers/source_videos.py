"""Finds the videos of a foreign row, and brings the places of videos in its text to `<video>`. (torch-free)

LLaVA-Video writes `<image>` where a row's video stands, Video-R1 names files under `path` and says in `data_type` what
they are, ms-swift lists them in `videos`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from open_r1.data.near_tags import NEAR_TAG, NEAR_VIDEO, marks_picture
from open_r1.data.row_formats import VIDEO_TAG
from open_r1.data.tables.cell_files import picture_format
from open_r1.data.video.decoding.kinds import PROBED_BYTES, video_ending
from open_r1.data.video.types import FRAME_ENDINGS
from open_r1.tasks.importers.picture_values import SourcePicture
from open_r1.tasks.importers.sources import Unusable

# a file as the source names it, or its bytes; or those of the pictures of its frames
SourceVideo = SourcePicture | tuple[SourcePicture, ...]
VIDEO_NAMES = ("videos", "video", "video_path", "video_paths", "video_file", "video_name")


def videos_in_row(row: Mapping[str, Any]) -> tuple[SourceVideo, ...]:
    """The videos that a row names. Raises Unusable for what names none.

    >>> videos_in_row({"videos": ["a.mp4"]}), videos_in_row({"data_type": "video", "path": "b.mp4"}), videos_in_row({})
    (('a.mp4',), ('b.mp4',), ())
    >>> videos_in_row({"video": ["1.jpg", "2.jpg"]})
    (('1.jpg', '2.jpg'),)
    """
    found = next((row[name] for name in VIDEO_NAMES if row.get(name) not in (None, "", [])), None)
    if found is None and row.get("data_type") == "video":
        found = row.get("path")
    if found in (None, "", []):
        return ()
    is_frames = isinstance(found, list) and all(map(_is_still, found))
    entries = found if isinstance(found, list) and not is_frames else [found]
    return tuple(map(_video, entries))


def _is_still(entry: Any) -> bool:
    file = _file(entry)
    if isinstance(file, bytes):
        return video_ending(file[:PROBED_BYTES]) is None and picture_format(file) is not None
    return isinstance(file, str) and file.lower().endswith(tuple(FRAME_ENDINGS))


def _file(entry: Any) -> Any:
    """The bytes that a table holds of a file, else its path; what is neither stays."""
    if isinstance(entry, Mapping) and ("bytes" in entry or isinstance(entry.get("path"), str)):
        return entry["bytes"] if isinstance(entry.get("bytes"), bytes) else entry.get("path")
    return entry


def _video(entry: Any) -> SourceVideo:
    file = _file(entry)
    if (file and isinstance(file, bytes)) or (isinstance(file, str) and file.strip()):
        return file
    if isinstance(file, list) and file and all(map(_is_still, file)):
        return tuple(map(_file, file))
    raise Unusable(f"a video of type {type(entry).__name__}, where a file or a list of pictures is read")


def with_video_tags(texts: Sequence[str], videos: int, images: int) -> list[str]:
    """The texts with `<video>` for every place of a video; in a row of videos alone a place of a picture is one.

    >>> with_video_tags(["<image>\\nWhat?"], 1, 0), with_video_tags(["<|video_pad|> and <VIDEO>?"], 2, 0)
    (['<video>\\nWhat?'], ['<video> and <video>?'])
    """
    if not videos:
        return list(texts)
    tagged = [NEAR_VIDEO.sub(VIDEO_TAG, text.replace("<|video_pad|>", VIDEO_TAG)) for text in texts]
    if images or any(VIDEO_TAG in text for text in tagged):
        return tagged
    return [NEAR_TAG.sub(lambda found: VIDEO_TAG if marks_picture(found) else found[0], text) for text in tagged]
