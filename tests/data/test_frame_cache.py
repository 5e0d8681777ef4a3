"""Sampled frames are kept on disk within a bound, found by what they are of, and decoded anew where damaged."""

import logging
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import moving_square, write_clip

from open_r1.data.record import Record
from open_r1.data.video import files as video_files
from open_r1.data.video.files import load_videos
from open_r1.data.video.frame_cache import FrameCache, packed, unpacked
from open_r1.data.video.types import FrameSampling, Video, VideoFrames

FRAMES = VideoFrames(np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3), (0.0, 0.5), 1.0)


def load(folder: Path, cache: FrameCache, name: str = "a.mp4", **changes: object) -> VideoFrames:
    record = Record("1", (), str(folder), (), "", where="a.jsonl:1", videos=(Video((name,)),))
    return load_videos([record], FrameSampling(**changes), cache=cache)[0][0]


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the files that are decoded, in order."""
    names, decode = [], video_files.decode_apart
    told = lambda path, *rest: names.append(Path(path).name) or decode(path, *rest)  # noqa: E731
    monkeypatch.setattr(video_files, "decode_apart", told)
    return names


def test_an_entry_holds_all_of_the_frames():
    again = unpacked(packed(FRAMES))
    np.testing.assert_array_equal(again.pixels, FRAMES.pixels)
    assert (again.seconds, again.span) == (FRAMES.seconds, FRAMES.span)


def test_a_later_epoch_reads_what_was_decoded(tmp_path, decoded):
    write_clip(tmp_path / "a.mp4", moving_square())
    first = load(tmp_path, FrameCache(tmp_path / "cache", 10**6))
    again = load(tmp_path, FrameCache(tmp_path / "cache", 10**6))  # as in another rank or run
    assert decoded == ["a.mp4"] and again.seconds == first.seconds and again.span == first.span
    np.testing.assert_array_equal(again.pixels, first.pixels)


def test_another_sampling_and_a_changed_file_are_decoded(tmp_path, decoded):
    path, cache = write_clip(tmp_path / "a.mp4", moving_square()), FrameCache(tmp_path / "cache", 10**6)
    load(tmp_path, cache)
    load(tmp_path, cache, fps=1.0)
    write_clip(path, moving_square("up"))
    changed = load(tmp_path, cache)
    assert len(decoded) == 3
    assert np.abs(changed.pixels[0].astype(int) - moving_square("up")[0]).mean() < 5


DAMAGES = [lambda data: data[:-1], lambda data: data[:5], lambda data: b"", lambda data: b"{" * 90]


@pytest.mark.parametrize("damage", DAMAGES, ids=["a byte less", "its begin", "empty", "noise"])
def test_a_damaged_entry_is_told_and_decoded_anew(tmp_path, decoded, caplog, damage):
    write_clip(tmp_path / "a.mp4", moving_square())
    cache = FrameCache(tmp_path / "cache", 10**6)
    first = load(tmp_path, cache)
    (entry,) = (tmp_path / "cache").glob("*/*.frames")
    entry.write_bytes(damage(entry.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = load(tmp_path, cache)
    assert len(decoded) == 2 and "got a damaged entry" in caplog.text and "a.mp4 is decoded again" in caplog.text
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert load(tmp_path, cache).span == first.span and len(decoded) == 2


def test_a_cache_goes_to_another_process(tmp_path, decoded):
    write_clip(tmp_path / "a.mp4", moving_square())
    cache = FrameCache(tmp_path / "cache", 10**6)
    load(tmp_path, cache)
    again = pickle.loads(pickle.dumps(cache))
    assert load(tmp_path, again).pixels.shape[0] and decoded == ["a.mp4"] and again.began == cache.began


def file(folder: Path, number: int) -> str:
    path = folder / f"{number}.mp4"
    path.write_bytes(b"x" * number)
    return str(path)


def cache_of(folder: Path, most: int) -> FrameCache:
    """A cache of a run that began before what it keeps: the clock of a file system is milliseconds late."""
    return FrameCache(folder, most, began=time.time() - 1)


def test_a_full_folder_keeps_what_this_run_uses_and_takes_no_more(tmp_path):
    size = len(packed(FRAMES))
    cache = cache_of(tmp_path / "cache", 3 * size)
    kept = [cache.put(file(tmp_path, n), Video((f"{n}.mp4",)), FrameSampling(), FRAMES) for n in range(5)]
    assert kept == [True] * 3 + [False] * 2
    assert sum(entry.stat().st_size for entry in (tmp_path / "cache").rglob("*.frames")) == 3 * size


def test_a_full_folder_is_not_looked_through_for_each_video(tmp_path, monkeypatch):
    cache, looks, entries = cache_of(tmp_path / "cache", 3 * len(packed(FRAMES))), [], FrameCache._entries
    monkeypatch.setattr(FrameCache, "_entries", lambda self: looks.append(1) or entries(self))
    for number in range(3):
        cache.put(file(tmp_path, number), Video((str(number),)), FrameSampling(), FRAMES)
    before = len(looks)
    kept = [cache.put(file(tmp_path, n), Video((str(n),)), FrameSampling(), FRAMES) for n in range(3, 23)]
    assert not any(kept) and len(looks) - before <= 2


def test_entries_of_former_runs_make_room_the_oldest_first(tmp_path):
    size, files = len(packed(FRAMES)), [file(tmp_path, n) for n in range(5)]
    former = FrameCache(tmp_path / "cache", 3 * size)
    for number in range(3):
        former.put(files[number], Video((str(number),)), FrameSampling(), FRAMES)
        entry = former._entry(files[number], Video((str(number),)), FrameSampling())
        os.utime(entry, (time.time() - 900 + number,) * 2)
    cache = cache_of(tmp_path / "cache", 3 * size)
    has = lambda number: cache.get(files[number], Video((str(number),)), FrameSampling()) is not None  # noqa: E731
    assert has(0)  # used by this run: it stays
    assert cache.put(files[3], Video(("3",)), FrameSampling(), FRAMES)
    assert [has(number) for number in range(4)] == [True, False, True, True]


def test_a_disk_that_cannot_be_written_stops_the_keeping_and_not_the_run(tmp_path, caplog):
    (tmp_path / "cache").write_text("in the way")
    cache = FrameCache(tmp_path / "cache", 10**6)
    write_clip(tmp_path / "a.mp4", moving_square())
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, cache).pixels.shape[0] and load(tmp_path, cache).pixels.shape[0]
    assert caplog.text.count("could not be written") == 1
