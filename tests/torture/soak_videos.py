"""10,000 rows of clips of 30 seconds: memory, open files and threads stay what they were while a run decodes them.

    python tests/torture/soak_videos.py OUT [--steps 300] [--rows 10000]

GRPO with the embedded model of clips, watched from outside each second. The clips are eight files of 30 s at 25 frames
a second, 112 pixels a side, with a name for each row (hard links), as ten thousand of them take an hour to encode; a
step decodes four, each under a name that the run has not seen. OUT/soak_videos/samples.json holds what was seen. Takes
about 15 minutes on one core.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rows import write
from soak import handles, memory, tell
from watching import REPO, anew, quickstart, watch

from open_r1.data.video.types import VideoFrames
from open_r1.tasks.export import save_video

TEST = "tests/torture/soak_videos.py"
SECONDS, RATE, SIDE, SQUARE = 30, 25, 112, 28
FILES = 8
GROUPS = 4  # a step; 4 completions each


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300, help="100 or more")
    parser.add_argument("--rows", type=int, default=10_000)
    args = parser.parse_args(argv)
    if args.steps < 100:
        parser.error(f"--steps: got {args.steps}, expected 100 or more")
    folder = anew(args.out / "soak_videos")
    run = folder / "run"
    make_clips(folder / "data", args.rows)
    status, samples = watch(command(folder / "data", run, args.steps), run, seen=tell)
    (folder / "samples.json").write_text(json.dumps([asdict(s) for s in samples]), encoding="utf-8")
    if status:
        sys.exit(f"the run ended with status {status}; see {run}.log")
    windows = (args.steps // 3, args.steps // 2), (args.steps - args.steps // 6, args.steps)
    checked = [check(samples, windows, "A long run over clips", TEST) for check in (memory, handles)]
    write(args.out, "soak_videos", [row for row, _ in checked])
    for row, kept in checked:
        print("kept  " if kept else "BROKEN", row.happens, "|", row.figure, file=sys.stderr)
    return 0 if all(kept for _, kept in checked) else 1


def command(data: Path, run: Path, steps: int) -> list[str]:
    """The quickstart's command with the model of clips; a step has GROUPS groups of 4."""
    flags = ("--model_name_or_path", REPO / "assets" / "tiny-vlm-motion", "--task_type", "motion")
    sizes = ("--num_generations", 4, "--per_device_train_batch_size", 4 * GROUPS, "--max_completion_length", 16)
    return quickstart(data, run, steps, *flags, *sizes)


def make_clips(folder: Path, rows: int) -> None:
    """Rows about clips in which a square goes round, each with a file name of its own."""
    (folder / "videos").mkdir(parents=True)
    for number in range(FILES):
        save_video(folder / f"{number}.mp4", square_on_its_way(number))
    with open(folder / "train.jsonl", "w", encoding="utf-8") as lines:
        for row in range(rows):
            name = f"videos/{row:05}.mp4"
            (folder / name).hardlink_to(folder / f"{row % FILES}.mp4")
            asked = [{"from": "human", "value": "<video>How often?"}, {"from": "gpt", "value": str(row % 4 + 1)}]
            lines.write(json.dumps({"id": row, "video": name, "conversations": asked}) + "\n")


def square_on_its_way(number: int) -> VideoFrames:
    """A clip of SECONDS, in a colour of its own."""
    count = SECONDS * RATE
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    picture[:SQUARE, :SQUARE] = np.random.default_rng(number).integers(100, 256, size=3)
    pixels = np.stack([np.roll(picture, (k, 2 * k), axis=(0, 1)) for k in range(count)])
    return VideoFrames(pixels, tuple(k / RATE for k in range(count)), float(SECONDS))


if __name__ == "__main__":
    sys.exit(main())
