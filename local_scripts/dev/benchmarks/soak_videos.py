"""Streams rows of clips through `load_videos` for long, and prints resident memory, open files and processes.

    python local_scripts/dev/benchmarks/soak_videos.py --rows 10000 --seconds 30 [--cache_gb 1]

A few clips are encoded; each row names a hard link of its own, so that every file is another one. Exit status 1 where
memory or open files grew in the second half.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from open_r1.data.record import Record
from open_r1.data.video.decoding.processes import end_decoders
from open_r1.data.video.files import load_videos
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.types import FrameSampling, Video

BATCH = 8  # rows that are loaded together
CLIPS = 4  # that differ in their pixels
RATE = 25  # frames a second
GROWTH_MB, GROWTH_FILES = 32.0, 0  # that are allowed in the second half


def write_noise(path: Path, seconds: int, size: tuple[int, int], seed: int) -> None:
    """A clip of slowly moving noise, which is costly to encode as that of a camera is."""
    width, height = size
    ground = np.random.default_rng(seed).integers(0, 256, (height, width + seconds * RATE, 3), np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": "50", "crf": "40"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for at in range(seconds * RATE):
            picture = np.ascontiguousarray(ground[:, at : at + width])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def rows_of(folder: Path, count: int, clips: Sequence[Path]) -> Iterator[list[Record]]:
    """Batches of rows, each with a file of its own; the files of a batch are removed behind it."""
    for first in range(0, count, BATCH):
        batch = []
        for number in range(first, min(first + BATCH, count)):
            name = f"row-{number}.mp4"
            os.link(clips[number % len(clips)], folder / name)
            batch.append(Record(str(number), (), str(folder), (), "", where=f"row {number}", videos=(Video((name,)),)))
        yield batch
        for record in batch:
            Path(folder, record.videos[0].paths[0]).unlink()


def resident_mb(pid: int | str) -> float:
    """Resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def children() -> list[int]:
    """The processes that this one started."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def state() -> tuple[float, float, int, int]:
    """(MB of this process, MB of those that decode, open files here, processes)."""
    pids = children()
    return resident_mb("self"), sum(map(resident_mb, pids)), len(list(Path("/proc/self/fd").iterdir())), len(pids)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=30, help="of a clip")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache_gb", type=float, default=0.0)
    args = parser.parse_args()
    print("rows  rows/s  here MB  decoders MB  open files  processes", flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder, seen = Path(place), []
        clips = [folder / f"clip-{number}.mp4" for number in range(CLIPS)]
        for number, clip in enumerate(clips):
            write_noise(clip, args.seconds, (args.width, args.height), number)
        cache = FrameCache(folder / "cache", int(args.cache_gb * 1e9)) if args.cache_gb else None
        began, done = time.monotonic(), 0
        for batch in rows_of(folder, args.rows, clips):
            frames = load_videos(batch, FrameSampling(), workers=args.workers, cache=cache)
            done += len(frames)
            if done % max(BATCH, args.rows // 20 // BATCH * BATCH) == 0 or done == args.rows:
                seen.append(state())
                here, there, files, processes = seen[-1]
                speed = done / (time.monotonic() - began)
                print(f"{done:5d}  {speed:6.1f}  {here:7.1f}  {there:11.1f}  {files:10d}  {processes:9d}", flush=True)
        end_decoders()
    settled = seen[len(seen) // 2 :]
    grown = max(one[0] + one[1] for one in settled) - settled[0][0] - settled[0][1]
    more = max(one[2] for one in settled) - settled[0][2]
    print(f"in the second half: {grown:+.1f} MB at most, {more:+d} open files")
    return int(grown > GROWTH_MB or more > GROWTH_FILES)


if __name__ == "__main__":
    sys.exit(main())
