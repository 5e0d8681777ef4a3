"""The quickstart for 2,000 steps: memory, open files and threads stay what they were, and its files are complete.

    python tests/torture/soak.py OUT [--steps 2000]

A run with the quickstart's flags, which also saves each 100 steps, is watched from outside each second; everything
that it leaves is then read. OUT/soak/samples.json holds what was seen. Takes 12 to 20 minutes on one core.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from complete import problems
from rows import Row, write
from watching import MB, Sample, anew, between, least, make_digits, middle, quickstart, watch

MOST = 0.02  # growth of resident memory
FAULT, TEST = "A long run", "tests/torture/soak.py"
Windows = tuple[tuple[int, int], tuple[int, int]]  # first and last step, early and late


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000, help="500 or more")
    args = parser.parse_args(argv)
    if args.steps < 500:
        parser.error(f"--steps: got {args.steps}, expected 500 or more")
    folder = anew(args.out / "soak")
    run = folder / "run"
    make_digits(folder / "data", 2000)
    saving = ("--save_strategy", "steps", "--save_steps", 100, "--save_total_limit", 2)
    status, samples = watch(quickstart(folder / "data", run, args.steps, *saving), run, seen=tell)
    (folder / "samples.json").write_text(json.dumps([asdict(s) for s in samples]), encoding="utf-8")
    if status:
        sys.exit(f"the run ended with status {status}; see {run}.log")
    windows = (200, 300), (args.steps - 100, args.steps)
    seen = [check(samples, windows, FAULT, TEST) for check in (memory, handles)]
    checked = [*seen, files(run, args.steps)]
    write(args.out, "soak", [row for row, _ in checked])
    for row, kept in checked:
        print("kept  " if kept else "BROKEN", row.fault, "|", row.figure, file=sys.stderr)
    return 0 if all(kept for _, kept in checked) else 1


def tell(sample: Sample) -> None:
    if sample.seconds % 60 < 1.5:
        seen = f"{sample.rss / MB:.0f} MB, {sample.files} files, {sample.threads} threads"
        print(f"{sample.seconds:5.0f} s: step {sample.step}: {seen}", file=sys.stderr)


def memory(samples: Sequence[Sample], windows: Windows, fault: str, test: str) -> tuple[Row, bool]:
    """Medians over the steps of an early and of a late window.

    RSS is judged. Its anonymous part is the heap alone. PSS follows who else has the same libraries loaded.
    """
    early, late = (between(samples, *steps) for steps in windows)
    sizes = {name: (middle(early, name), middle(late, name)) for name in ("rss", "anon", "pss", "children")}
    said = ", ".join(f"{n} {a / MB:.1f} to {b / MB:.1f} MB ({b / a - 1:+.2%})" for n, (a, b) in sizes.items() if a)
    kept = sizes["rss"][1] / sizes["rss"][0] - 1 < MOST
    happens = f"from steps {early_and_late(windows)} resident memory grows by less than {MOST:.0%}"
    return Row(fault, happens, test, f"{windows[1][1]:,} steps: {said}"), kept


def handles(samples: Sequence[Sample], windows: Windows, fault: str, test: str) -> tuple[Row, bool]:
    """The fewest within a window: more are open for a moment while saving."""
    early, late = (between(samples, *steps) for steps in windows)
    counts = {name: (least(early, name), least(late, name)) for name in ("files", "threads")}
    figure = ", ".join(f"{name} {a} and {b}" for name, (a, b) in counts.items())
    happens = f"from steps {early_and_late(windows)} open files and threads stay as many"
    return Row(fault, happens, test, figure), all(a == b for a, b in counts.values())


def early_and_late(windows: Windows) -> str:
    return " to ".join(f"{first}-{last}" for first, last in windows)


def files(run: Path, steps: int) -> tuple[Row, bool]:
    wrong = problems(run, steps)
    happens = "metrics.jsonl has each step once with all its metrics; rollouts, report, curves and model can be read"
    figure = "; ".join(wrong) or f"{steps:,} steps, report of {(run / 'report.html').stat().st_size / MB:.1f} MB"
    return Row(FAULT, happens, TEST, figure), not wrong


if __name__ == "__main__":
    sys.exit(main())
