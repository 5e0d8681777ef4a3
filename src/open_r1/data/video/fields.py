"""Reads the videos that a row names, the part of them that is shown, and how many frames of it. (torch-free)"""

import math
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from open_r1.data.field_names import VIDEO_FIELDS
from open_r1.data.gold_answers import shown_json
from open_r1.data.video.types import FRAME_ENDINGS, Video
from open_r1.errors import data_error

MOST_SECONDS = 10_000_000  # at which a video may begin or end: later ones are no numbers for FFmpeg
# field of a row -> (field of a `Video`, what it is, an example)
VIDEO_OPTIONS = {
    "video_start": ("start", "a second, 0 to 10,000,000", "2.5"),
    "video_end": ("end", "a second above 0, at most 10,000,000", "10"),
    "fps": ("fps", "frames a second above 0", "2"),
    "nframes": ("nframes", "a whole number of frames, 1 or more", "16"),
}
_FORM = "a path, or a list of the pictures of its frames"


def videos_of(row: Mapping[str, Any], where: str) -> tuple[Video, ...]:
    """The videos that a row's fields name, in order. Raises DataError for what names none.

    >>> videos_of({"video": "a.mp4", "video_end": 5}, "")
    (Video(paths=('a.mp4',), of_frames=False, start=None, end=5.0, fps=None, nframes=None),)
    >>> [video.paths for video in videos_of({"video": ["1.jpg", "2.jpg"]}, "")]
    [('1.jpg', '2.jpg')]
    """
    given = [key for key in VIDEO_FIELDS if row.get(key) not in (None, [])]
    if not given:
        return ()
    if len(given) > 1:
        remedy = "put all paths into 'videos'"
        raise data_error(where, "video", "both 'video' and 'videos'", "one of the two", remedy)
    entries = _entries(row[given[0]], given[0], where)
    videos = [one_video(entry, given[0], where) for entry in entries]
    options = {name: _for_each(row, name, len(videos), where) for name in VIDEO_OPTIONS}
    return tuple(
        with_shown_part(video, {name: values[place] for name, values in options.items()}, where)
        for place, video in enumerate(videos)
    )


def _entries(value: object, key: str, where: str) -> list[Any]:
    """The videos of a field's value: one path, a list of them, or, under `video`, the pictures of one."""
    if not isinstance(value, list):
        return [value]
    stills = [entry for entry in value if _is_still(entry)]
    if not stills:
        return value
    if len(stills) < len(value):
        expected = "videos alone, or the pictures of one video's frames alone"
        raise data_error(where, key, shown_json(value), expected, "write frames as a list: [[...], ...]")
    if key == "videos":
        remedy = "write the frames of each video as a list of its own: [[...], ...]"
        raise data_error(where, key, f"{shown_json(value)}, pictures", f"of each video {_FORM}", remedy)
    return [value]


def _is_still(entry: object) -> bool:
    return isinstance(entry, str) and PurePath(entry).suffix.lower() in FRAME_ENDINGS


def one_video(entry: object, name: str, where: str) -> Video:
    """The video that a path or a list of frame pictures names. Raises DataError (field `name`) for what is none."""
    paths = entry if isinstance(entry, list) else [entry]
    if not paths or not all(isinstance(path, str) and path.strip() for path in paths):
        remedy = "write paths relative to the image folder"
        raise data_error(where, name, shown_json(entry), _FORM, remedy)
    if isinstance(entry, list) and not all(map(_is_still, paths)):
        expected = f"the pictures of its frames, ending in {', '.join(sorted(FRAME_ENDINGS))}"
        raise data_error(where, name, shown_json(entry), expected, "write a path for each video, not a list")
    return Video(tuple(paths), of_frames=isinstance(entry, list))


def _for_each(row: Mapping[str, Any], name: str, videos: int, where: str) -> list[Any]:
    """A value of an option for each video: one for all, or a list of as many."""
    value = row.get(name)
    if not isinstance(value, list):
        return [value] * videos
    if len(value) != videos:
        got, remedy = f"{len(value)} values for {videos} video(s)", "write one value, or one for each video"
        raise data_error(where, name, got, "as many values as videos", remedy)
    return value


def with_shown_part(video: Video, options: Mapping[str, Any], where: str) -> Video:
    """The video with what a row's options say of it. Raises DataError for values that no video could have."""
    read: dict[str, Any] = {}
    for name, value in options.items():
        field, expected, example = VIDEO_OPTIONS[name]
        if value is None:
            continue
        if not _FITS[name](value):
            raise data_error(where, name, shown_json(value), expected, f"write a number, such as {example}")
        read[field] = value if name == "nframes" else float(value)
    start, end = read.get("start"), read.get("end")
    if start is not None and end is not None and start >= end:
        got, remedy = f"{start:g} to {end:g}", "correct video_start or video_end"
        raise data_error(where, "video_start", got, "a begin before its end", remedy)
    if "fps" in read and "nframes" in read and not video.of_frames:
        got = f"{read['fps']:g}, and nframes {read['nframes']}"
        raise data_error(where, "fps", got, "a rate or a number of frames", "remove one of the two")
    return Video(video.paths, video.of_frames, **read)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_FITS: dict[str, Callable[[Any], bool]] = {
    "video_start": lambda value: _is_number(value) and 0 <= value <= MOST_SECONDS,
    "video_end": lambda value: _is_number(value) and 0 < value <= MOST_SECONDS,
    "fps": lambda value: _is_number(value) and value > 0,
    "nframes": lambda value: type(value) is int and value > 0,
}


def part_video(part: Mapping[str, Any], name: str, where: str) -> Video | None:
    """The video that a content part names, None where it is one of the row's own. Raises DataError for what is odd."""
    given = {key for key, value in part.items() if value is not None}  # a table gives all parts the same keys
    if odd := given - {"type", "video", *VIDEO_OPTIONS}:
        expected = '{"type": "video"[, "video": path or frames, "fps": ...]}'
        remedy = "rewrite the part: --video_max_pixels and --video_max_frames bound videos"
        raise data_error(where, f"{name}.{sorted(odd)[0]}", shown_json(part[sorted(odd)[0]]), expected, remedy)
    options = {key: part[key] for key in VIDEO_OPTIONS if part.get(key) is not None}
    if part.get("video") is None:
        if options:
            key = next(iter(options))
            remedy = f"write {key!r} beside the row's 'video', or the path into the part"
            raise data_error(where, f"{name}.{key}", shown_json(options[key]), "the path of a video beside it", remedy)
        return None
    return with_shown_part(one_video(part["video"], f"{name}.video", where), options, where)


def video_paths(videos: tuple[Video, ...]) -> tuple[str, ...]:
    """The paths of all files of videos, in order."""
    return tuple(path for video in videos for path in video.paths)
