"""Damaged image files and bombs, each opened in a process that may die: a picture within limits, or a refused row.

    python tests/torture/images.py OUT [--files 2000]

The files are those of `tests/helpers/damaged_images.py`. A child opens a batch, and names each
file before it opens it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from rows import Row, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
BATCH = 250
MAX_SECONDS, MAX_MB = 2.0, 1500  # of CPU time for one file; of memory for a process


def child(names: Iterable[str]) -> None:
    """Opens each named file (a number, or a bomb's name) and writes a line of JSON about it."""
    from helpers.damaged_images import BOMBS, damaged, open_outcome

    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            kind, data = damaged(int(name)) if name.isdigit() else (name, BOMBS[name]())
            print(json.dumps({"begins": name, "kind": kind}), flush=True)
            said, seconds = timed(open_outcome, Path(folder), data)
            for _ in range(2 if seconds > MAX_SECONDS else 0):  # a busy machine makes any file slow once
                seconds = min(seconds, timed(open_outcome, Path(folder), data)[1])
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(json.dumps({"name": name, "kind": kind, "said": said, "seconds": seconds, "peak_mb": peak_mb}))


def timed(opened: Callable[[Path, bytes], str], folder: Path, data: bytes) -> tuple[str, float]:
    """What became of a file, and the seconds of CPU time that it took."""
    start = time.process_time()
    try:
        said = opened(folder, data)
    except Exception as error:
        said = f"FOREIGN {type(error).__name__}: {error}"
    return said, time.process_time() - start


def run(names: list[str]) -> tuple[list[dict], str | None]:
    """What a child said about its files, and where it died, if it did."""
    done = subprocess.run([sys.executable, __file__, "--child", *names], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    begun = [line["begins"] for line in lines if "begins" in line]
    died = None
    if done.returncode:  # else its errors are decoders' warnings
        died = f"exit code {done.returncode} at file {begun[-1] if begun else names[0]!r}: {done.stderr[-2000:]}"
    return [line for line in lines if "said" in line], died


def wrong(found: dict) -> str | None:
    """What breaks the promise, of one file."""
    if found["said"].startswith("FOREIGN"):
        return found["said"]
    if found["seconds"] > MAX_SECONDS:
        return f"took {found['seconds']:.1f} s"
    return f"took {found['peak_mb']} MB" if found["peak_mb"] > MAX_MB else None


def tried(batches: list[list[str]]) -> tuple[list[dict], list[str]]:
    """All files, and everything that was wrong; what died in a batch does not hide the rest of it."""
    files, faults = [], []
    for names in batches:
        while names:
            found, died = run(names)
            files += found
            faults += [died] if died else []
            names = names[len(found) + 1 :] if died else []
        print(f"{len(files)} files, {len(faults)} deaths", file=sys.stderr)
    faults += [f"file {one['name']} ({one['kind']}): {problem}" for one in files if (problem := wrong(one))]
    return files, faults


def figure(files: list[dict], faults: list[str]) -> str:
    loaded = sum(one["said"] == "loads" for one in files)
    slowest, largest = max(files, key=lambda one: one["seconds"]), max(files, key=lambda one: one["peak_mb"])
    counts = f"{loaded} load, {len(files) - loaded} refused with their line, {len(faults)} anything else"
    times = f"slowest {slowest['seconds']:.2f} s of CPU time ({slowest['kind']})"
    return f"{len(files)} files: {counts}; {times}; peak {largest['peak_mb']} MB ({largest['kind']})"


def main(args: argparse.Namespace) -> int:
    from helpers.damaged_images import BOMBS

    numbers = [str(number) for number in range(args.files)]
    damaged, faults = tried([numbers[start : start + BATCH] for start in range(0, args.files, BATCH)])
    bombs, bomb_faults = tried([[name] for name in BOMBS])
    for kind, number in sorted(Counter((one["kind"], one["said"] == "loads") for one in damaged).items()):
        print(f"{number:6d}  {kind[0]}: {'load' if kind[1] else 'refused'}", file=sys.stderr)
    for one in bombs:
        print(f"{one['seconds']:6.2f} s {one['peak_mb']:5d} MB  {one['kind']}: {one['said']}", file=sys.stderr)
    print("\n".join(faults + bomb_faults), file=sys.stderr)
    test, happens = "tests/torture/images.py", "a picture within the limits, or an error that names the row"
    rows = [
        Row("bits flipped, bytes lost or inserted in images", happens, test, figure(damaged, faults)),
        Row("images that claim to be huge, or have millions of parts", happens, test, figure(bombs, bomb_faults)),
    ]
    write(args.out, "images", rows)
    print("\n".join(row.figure for row in rows), file=sys.stderr)
    return int(bool(faults or bomb_faults or len(damaged) < args.files or len(bombs) < len(BOMBS)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        sys.exit(0)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    sys.exit(main(parser.parse_args()))
