"""`Record`, one training or evaluation example, and the parser that makes it of a JSON row. (torch-free)"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, TypeVar

from open_r1.data.field_names import VIDEO_FIELDS
from open_r1.data.gold_answers import gold_problems, shown_json
from open_r1.data.media_keys import media_problems, names_frame
from open_r1.data.media_slots import images_in_order, videos_in_order
from open_r1.data.near_paths import relative_below
from open_r1.data.row_formats import ROW_FORMATS, VIDEO_TAG, Dialogue, Turn, row_format, slots_of
from open_r1.data.rubric import rubric_problems
from open_r1.data.text_marks import mark_problems, unfilled
from open_r1.data.video.fields import VIDEO_OPTIONS, video_paths, videos_of
from open_r1.data.video.types import Video
from open_r1.data.written_pictures import written_pictures
from open_r1.errors import DataError, Problem, data_error, shorten

SURVEY_RATE, SURVEY_SAMPLES = "survey_rate", "survey_samples"  # share of right completions of a survey; of how many
_COMMON = {"id", "image", "images", "accu_reward_method"}
_TURN_TEXT = {"from", "value", "role", "content"}
_T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """One training or evaluation example.

    `turns` hold the prompt only: the last assistant turn of the row became `solution`. `images` are paths relative
    to `folder`, in the order of their `<image>` tags (a row without any tag shows its images first, in the first
    user turn).
    """

    id: str
    images: tuple[str, ...]
    folder: str
    turns: tuple[Turn, ...]
    solution: str
    extra: Mapping[str, Any] = field(default_factory=dict)  # every other field of the row, for the rewards
    where: str = ""  # "train.jsonl:17"
    accu_reward_method: str | None = None
    videos: tuple[Video, ...] = ()  # in the order of their `<video>` tags

    @property
    def name_and_line(self) -> str:
        """The row's file without the folder, and its line: what is drawn by it is the same wherever the file lies.

        >>> Record("1", (), "", (), "", where="/data/clips/train.jsonl:17").name_and_line
        'train.jsonl:17'
        """
        return PurePath(self.where).name

    def with_extra(self, **fields: Any) -> "Record":
        """A copy whose `extra` also holds `fields` (such as image sizes, which need the open images)."""
        return replace(self, extra={**self.extra, **fields})


def parse_row(
    row: object,
    where: str,
    line: int,
    folder: str = "",
    method: str | None = None,
    check_file: Callable[[str, str, str], Problem | None] | None = None,
    gold_named: bool = False,
) -> Record:
    """Makes a Record of one decoded JSON line; raises DataError with every problem of the row.

    `line` becomes the id of a row without one, `method` the reward method of a row without its own;
    `check_file(path, where, field)` returns the problem of the path of an image or video, or None; `gold_named`:
    `solution` is the user's choice among several gold answers.

    >>> parse_row({"problem": "1+1?", "solution": 2, "level": "easy"}, "a.jsonl:3", 3)
    Record(id='3', images=(), folder='', turns=(Turn(role='user', text='1+1?'),), solution='2', \
extra={'level': 'easy'}, where='a.jsonl:3', accu_reward_method=None, videos=())
    """
    if not isinstance(row, dict):
        raise data_error(
            where, "line", shorten(row), "one JSON object a line", "write each row as {...} on its own line"
        )
    problems: list[Problem] = []
    identity = _attempt(problems, _identity, row, line, where)
    row_method = _attempt(problems, _method, row, where)
    problems += _survey_problems(row, where)
    if (row_method or method) == "llm":  # other methods leave the field alone
        problems += rubric_problems(row, where)
    images = _attempt(problems, _images, row, where)
    shape = _attempt(problems, row_format, row, where)
    dialogue = _attempt(problems, ROW_FORMATS[shape], row, where) if shape else None
    dialogue = _attempt(problems, _with_system, dialogue, row, where) if dialogue else None
    videos = () if _names_source(row, images, dialogue) else _attempt(problems, videos_of, row, where)
    if dialogue is not None and not gold_named:
        problems += gold_problems(row, dialogue.fields, where)
    if dialogue is not None and images is not None and videos is not None:
        videos = _attempt(problems, videos_in_order, videos, dialogue.slots, where) or videos
        images = _attempt(problems, images_in_order, images, dialogue.slots, len(videos), where) or images
        if any(path[0] in "/f" for path in images):
            images = tuple(relative_below(path, folder) for path in images)
        videos = tuple(_below(video, folder) for video in videos)
    if images is not None and videos is not None:
        problems += media_problems(_others(row, images, videos), where, images + video_paths(videos), folder)
        problems += _turn_media(row, where)
    if dialogue is not None:
        if images == ():
            problems += written_pictures(dialogue.turns, where)
        # what is refused counts as there: no turn is told as well that its row names none
        shown = 1 if videos is None else len(videos) or sum(slot.is_part for slot in dialogue.slots)
        problems += mark_problems(dialogue.turns, where, 1 if images is None else len(images), shown)
        if unfilled_gold := unfilled(dialogue.solution):
            problems.append(Problem(where, "solution", *unfilled_gold))
    if check_file is not None:
        files = {"image": images or (), "video": video_paths(videos or ())}
        checks = (check_file(path, where, field) for field, paths in files.items() for path in paths)
        problems += filter(None, checks)
    if problems:
        raise DataError(problems)
    read = {*_COMMON, *dialogue.fields, *((*VIDEO_FIELDS, *VIDEO_OPTIONS) if videos else ())}
    read |= {key for key in (*VIDEO_FIELDS, *VIDEO_OPTIONS) if row.get(key) in (None, [])}  # of a row without videos
    extra = {key: value for key, value in row.items() if key not in read}
    return Record(
        identity, images, folder, dialogue.turns, dialogue.solution, extra, where, row_method or method, videos
    )


def _with_system(dialogue: Dialogue, row: dict, where: str) -> Dialogue:
    """The dialogue with the row's `system` as its system turn. Raises DataError for no text, and for another one."""
    text, turns = row.get("system"), dialogue.turns
    if text in (None, "", [], {}) or (isinstance(text, str) and not text.strip()):
        return dialogue
    if not isinstance(text, str):
        raise data_error(where, "system", shown_json(text), "the text of the system turn", "write it as text")
    if turns[0].role == "system" and turns[0].text.strip() != text.strip():
        got = f"{shorten(text, 60)}, and {shorten(turns[0].text, 60)} as a system turn"
        raise data_error(where, "system", got, "one system turn", "remove the field, or that turn")
    fields = ("system", *dialogue.fields)
    if turns[0].role == "system":
        return dialogue._replace(fields=fields)
    slots = slots_of(text) + dialogue.slots
    return dialogue._replace(turns=(Turn("system", text), *turns), slots=slots, fields=fields)


def _turn_media(row: dict, where: str) -> Iterator[Problem]:
    """The problem of each key of a turn that holds a picture: only content parts name pictures within turns."""
    name = "conversations" if row.get("conversations") is not None else "messages"
    turns = row.get(name)
    for number, turn in enumerate(turns if isinstance(turns, list) else ()):
        if not isinstance(turn, dict) or len(turn) < 3:
            continue
        others = {key: value for key, value in turn.items() if key not in _TURN_TEXT}
        for problem in _media_of_turn(others, where) if others else ():
            remedy = f"write its path under 'image' of the row, beside {name!r}"
            yield replace(problem, field=f"{name}[{number}].{problem.field}", remedy=remedy)


def _media_of_turn(fields: dict, where: str) -> Iterator[Problem]:
    """The problems of a turn's fields; `image` and `images`, which a row may have, are as foreign as others here."""
    for key in ("image", "images"):
        if fields.get(key):
            got = f"a picture in a turn, {shorten(fields[key], 60)}"
            yield Problem(where, key, got, "pictures under 'image' or 'images' of the row", "")
    yield from media_problems(fields, where, ())


def _attempt(problems: list[Problem], read: Callable[..., _T], *args: Any) -> _T | None:
    """`read(*args)`, or None with its error added to `problems`, so that one defect does not hide the next."""
    try:
        return read(*args)
    except DataError as error:
        problems.extend(error.problems)
        return None


def _identity(row: dict, line: int, where: str) -> str:
    value = row.get("id")
    if isinstance(value, str) and value:
        return value
    if value is None:
        return str(line)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise data_error(where, "id", shown_json(value), "text or an integer", "write the id as text, or remove it")


def _method(row: dict, where: str) -> str | None:
    value = row.get("accu_reward_method")
    if value is None or (isinstance(value, str) and value):
        return value
    expected = "the name of a reward method"
    raise data_error(where, "accu_reward_method", shown_json(value), expected, "write its name, or remove the field")


def _survey_problems(row: dict, where: str) -> Iterator[Problem]:
    """The problem of a success rate that `open_r1.survey` did not write; it stays an extra field of the record."""
    rate = row.get(SURVEY_RATE)
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1):
        got, remedy = shown_json(rate), "remove the field, or survey the rows again"
        yield Problem(where, SURVEY_RATE, got, "a success rate from 0 to 1, as a survey writes it", remedy)


def _images(row: dict, where: str) -> tuple[str, ...]:
    one, many = row.get("image"), row.get("images")
    if one is not None and many is not None:
        raise data_error(where, "image", "both 'image' and 'images'", "one of the two", "put all paths into 'images'")
    name, value = ("images", many) if one is None else ("image", one)
    paths = [] if value is None else value if isinstance(value, list) else [value]
    for path in paths:
        if not isinstance(path, str) or not path.strip():
            expected = "a path or a list of paths"
            raise data_error(where, name, shown_json(path), expected, "write paths relative to the image folder")
    return tuple(paths)


def _names_source(row: dict, images: tuple[str, ...] | None, dialogue: Dialogue | None) -> bool:
    """Whether a row's video is where its picture comes from: it says which frame that is, and shows no video."""
    shown = dialogue is not None and any(slot.tag == VIDEO_TAG for slot in dialogue.slots)
    return bool(images) and not shown and names_frame(row)


def _below(video: Video, folder: str) -> Video:
    """The video with paths relative to the folder, where they lie below it."""
    if not any(path[0] in "/f" for path in video.paths):
        return video
    return replace(video, paths=tuple(relative_below(path, folder) for path in video.paths))


def _others(row: dict, images: tuple[str, ...], videos: tuple[Video, ...]) -> dict:
    """The fields of a row beside those that name its videos."""
    return {key: value for key, value in row.items() if key not in VIDEO_FIELDS or (not videos and images)}
