"""A training run seen from outside: what /proc says of its process, and the step that its metrics have reached."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

REPO = Path(__file__).resolve().parents[2]
MB = 2**20
GONE = (FileNotFoundError, ProcessLookupError)  # a process that ended while it was looked at


@dataclass(frozen=True)
class Sample:
    """`rss`, `anon` (not backed by a file) and `pss` of the process, `children` RSS of all below it, in bytes.

    `files` leaves out fonts, which matplotlib opens at its first drawing and keeps.
    """

    seconds: float
    step: int
    rss: int
    anon: int
    pss: int
    children: int
    files: int
    threads: int


def anew(folder: Path) -> Path:
    """An empty folder; what an earlier trial left there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def make_digits(folder: Path, rows: int) -> None:
    """The quickstart's data."""
    script = REPO / "local_scripts" / "make_dataset.py"
    command = [sys.executable, script, "digits", "--out", folder, "--rows", rows, "--heldout_rows", 1, "--seed", 0]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)


def quickstart(data: Path, out: Path, steps: int, *flags: object) -> list[str]:
    """The command of `run_scripts/quickstart.sh`; later flags win."""
    command = [sys.executable, REPO / "src" / "open_r1" / "grpo_jsonl.py"]
    command += ["--model_name_or_path", REPO / "assets" / "tiny-vlm", "--task_type", "digits"]
    command += ["--data_file_paths", data / "train.jsonl", "--image_folders", data, "--output_dir", out]
    command += ["--seed", 0, "--max_steps", steps, "--num_generations", 8, "--per_device_train_batch_size", 64]
    command += ["--max_completion_length", 40, "--learning_rate", 1e-4, "--lr_scheduler_type", "linear"]
    command += ["--warmup_steps", 5, "--beta", 0, "--gradient_checkpointing", "false", "--save_strategy", "no"]
    return [str(part) for part in (*command, *flags)]


def watch(
    command: Sequence[str],
    out: Path,
    env: Mapping[str, str] | None = None,
    every: float = 1.0,
    seen: Callable[[Sample], None] = lambda sample: None,
) -> tuple[int, list[Sample]]:
    """Run a training command into `out` until it ends: its exit status, and a sample each `every` seconds.

    What it prints goes to `out`.log beside the folder.
    """
    samples, began = [], time.monotonic()
    counted = count_lines(out / "metrics.jsonl")
    threads = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(out.with_name(f"{out.name}.log"), "w", encoding="utf-8") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **threads, **(env or {})})
        try:
            while child.poll() is None:
                with suppress(*GONE, KeyError):  # the sizes of one that has just ended are gone
                    samples.append(sample(child.pid, time.monotonic() - began, next(counted)))
                    seen(samples[-1])
                time.sleep(every)
        finally:
            child.kill()
    return child.wait(), samples


def count_lines(path: Path) -> Iterator[int]:
    """How many whole lines a growing file has, each time it is asked."""
    lines = position = 0
    while True:
        if path.exists():
            with open(path, "rb") as file:
                file.seek(position)
                new = file.read()
            lines, position = lines + new.count(b"\n"), position + len(new)
        yield lines


def sample(pid: int, seconds: float, step: int) -> Sample:
    """What /proc says now. Raises KeyError, FileNotFoundError or ProcessLookupError where the process is gone."""
    status = sizes(pid, "status")
    below = sum(sizes(child, "status").get("VmRSS", 0) for child in descendants(pid))
    files = sum(not name.endswith(".ttf") for name in open_files(pid))
    threads = len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    pss = sizes(pid, "smaps_rollup")["Pss"]
    return Sample(seconds, step, status["VmRSS"], status["RssAnon"], pss, below, files, threads)


def sizes(pid: int, name: str) -> dict[str, int]:
    """The sizes in a file of /proc, in bytes; none where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
    except GONE:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {key: int(value.split()[0]) * 1024 for key, value in pairs}


def open_files(pid: int) -> list[str]:
    """What the file descriptors of a process stand for."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found.append(str(link.readlink()))
    return found


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(*GONE):
            children = [int(child) for child in file.read_text().split()]
            found += [one for child in children for one in (child, *descendants(child))]
    return found


def between(samples: Sequence[Sample], first: int, last: int) -> list[Sample]:
    """The samples of steps `first` to `last`. Raises ValueError where there are none."""
    found = [s for s in samples if first <= s.step <= last]
    if not found:
        raise ValueError(f"no sample of steps {first} to {last}; sample more often")
    return found


def middle(samples: Sequence[Sample], name: str) -> float:
    """The median of a size."""
    return median(getattr(s, name) for s in samples)


def least(samples: Sequence[Sample], name: str) -> int:
    """The smallest of a count: what is open only for a moment, as while saving, does not matter."""
    return min(getattr(s, name) for s in samples)
