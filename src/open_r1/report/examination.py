"""Examines a dataset: opens every picture and video, scores every gold answer, and lists the defects. (torch-free)"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Column, Table

from open_r1.data.images import open_image, original_size, with_sizes
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.data.record import Record
from open_r1.data.summary import Statistics, add_shape, count_records, size_class
from open_r1.data.video.files import load_videos
from open_r1.data.video.requests import UnreadRequests, unmet_requests
from open_r1.data.video.types import FrameSampling, Video, VideoShape
from open_r1.errors import DataError, Problem, UsageError, shorten
from open_r1.rewards.gold import gold_score
from open_r1.rewards.judge.gold import JudgedRows
from open_r1.rewards.places import PlaceStatistics, has_places, place_problems


def check_image(folder: str, path: str, where: str) -> tuple[int, int] | DataError:
    """(width, height) in pixels of an image that decodes to its end, else its DataError."""
    try:
        open_image(folder, path, where=where)
        return original_size(folder, path, where=where)
    except DataError as error:
        return error


def check_gold(record: Record) -> list[Problem]:
    """The problem of a gold answer that does not score the maximum of its reward; empty where it does."""
    method = record.accu_reward_method or "default"
    try:
        score, best = gold_score(record, method)
    except DataError as error:
        return list(error.problems)
    except ValueError as error:
        got = f"{shorten(record.solution)} ({error})"
        return [_gold_problem(record, got, f"an answer that method '{method}' can read")]
    if score >= best - 1e-6:
        return place_problems(record)
    got = f"{shorten(record.solution)}, which earns {score:g}"
    return [_gold_problem(record, got, f"the full {best:g} with method '{method}'")]


def _gold_problem(record: Record, got: str, expected: str) -> Problem:
    return Problem(record.where, "solution", got, expected, "correct the answer, or choose another reward method")


def check_video(folder: str, video: Video, where: str, frames: FrameSampling) -> VideoShape | DataError:
    """The shape of the sampled frames of a video that decodes, else its DataError."""
    try:
        ((read,),) = load_videos([Record("", (), folder, (), "", where=where, videos=(video,))], frames, workers=1)
    except DataError as error:
        return error
    height, width = read.pixels.shape[1:3]
    return VideoShape(width, height, read.seconds, read.span)


def examine(
    data: RecordDataset, problems: Sequence[Problem], frames: FrameSampling | None = None
) -> tuple[list[Problem], Statistics]:
    """(problems, statistics): `problems` of the scan and those of images, videos and gold answers, by file and line;
    `frames`: how videos are sampled."""
    stats, defects = Statistics(), list(problems)
    places = count_records(shown_progress(data, "reading rows"), stats)
    for result in shown_progress(_check_images(places), "opening images", len(places)):
        if isinstance(result, DataError):
            defects += result.problems
        else:
            stats.longest_sides[size_class(max(result))] += 1
    defects += examine_videos(data, stats, frames or FrameSampling())
    lying, judged, unread = PlaceStatistics(), JudgedRows(), UnreadRequests()
    for record in shown_progress(data, "scoring gold answers"):
        sized = (with_sizes(record) if has_places(record) else None) or record
        found = check_gold(sized)
        unread.add(record)
        defects += found
        lying.add(sized, is_sound=not found)
        if not found:
            judged.add(sized)
    stats.hints = (*lying.hints(), *judged.hints(), *unread.hints())
    return in_file_order(defects), stats


def examine_videos(data: Iterable[Record], stats: Statistics, frames: FrameSampling) -> list[Problem]:
    """Opens every video, and counts it; the defects of those that cannot be shown."""
    if not stats.videos_per_row.keys() - {0}:
        return []
    defects: list[Problem] = []
    places: dict[tuple[str, Video], str] = {}
    for record in data:
        for video in record.videos:
            places.setdefault((record.folder, video), record.where)
    stats.unique_videos = len(places)
    stats.video_files = len({(folder, video.paths) for folder, video in places})
    opened = zip(places.items(), _check_videos(places, frames), strict=True)
    for ((_, video), where), result in shown_progress(opened, "opening videos", len(places)):
        if isinstance(result, DataError):
            defects += result.problems
        else:
            add_shape(stats, result)
            stats.unmet += unmet_requests(video, result, frames, where)
    return defects


def _check_videos(places: Mapping[tuple[str, Video], str], frames: FrameSampling) -> Iterator[VideoShape | DataError]:
    """`check_video` of all videos, in threads that each ask a process of their own."""
    items = iter(places.items())
    with ThreadPoolExecutor(4) as pool:
        while batch := list(islice(items, 256)):
            yield from pool.map(lambda item: check_video(*item[0], item[1], frames), batch)


def _check_images(places: Mapping[tuple[str, str], str]) -> Iterator[tuple[int, int] | DataError]:
    """`check_image` of all images, in threads; in batches, since a million waiting futures would fill the memory."""
    items = iter(places.items())
    with ThreadPoolExecutor(4) as pool:
        while batch := list(islice(items, 1024)):
            yield from pool.map(lambda item: check_image(*item[0], item[1]), batch)


def shown_progress(items: Iterable, title: str, total: int | None = None) -> Iterable:
    """The items, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(items, title, total, console=console, transient=True, disable=not console.is_terminal)


def in_file_order(problems: Sequence[Problem]) -> list[Problem]:
    """Problems sorted by file, then by line; those without a line come first."""
    files = {name: i for i, name in enumerate(dict.fromkeys(problem.where.rpartition(":")[0] for problem in problems))}

    def place(problem: Problem) -> tuple[int, int]:
        name, _, line = problem.where.rpartition(":")
        return (files[name], int(line)) if line.isdigit() else (-1, 0)

    return sorted(problems, key=place)


def problem_table(problems: Sequence[Problem]) -> Table:
    """The table of defects, one row for each, or for each kind."""
    columns = ("got", "expected", "what to do")
    table = Table(Column("where", no_wrap=True), Column("field", no_wrap=True), *columns, show_lines=True)
    for p in problems:
        table.add_row(*map(escape, (p.where, p.field, p.got, p.expected, p.remedy)))
    return table


def write_defects(problems: Sequence[Problem], file: Path) -> None:
    """Writes each defect as a JSON line, with where, field, got, expected and remedy. Raises UsageError."""
    try:
        file.write_bytes(b"".join(orjson.dumps(asdict(problem)) + b"\n" for problem in problems))
    except OSError as error:
        raise UsageError(
            f"--all_defects: got {file}, expected a file that can be written ({error.strerror})"
        ) from error
