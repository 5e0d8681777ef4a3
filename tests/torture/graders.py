"""Graders cannot hang or kill a run: hostile completions, users' rewards with every fault, and the throughput.

    python tests/torture/graders.py OUT_DIR

About a minute on two idle cores. Exits with status 1 where a value is out of its range, a fault is not survived, or
ordinary mathematics is graded more slowly than 200 a second by two cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rows import Row, write

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.faulty_rewards import FILE, records
from helpers.hostile_texts import CONTENTS, HANGS, completions, range_of, record, rewards_of

from open_r1.data.record import Record
from open_r1.rewards.registry import METHODS
from open_r1.rewards.sandbox import worker_pool as workers
from open_r1.rewards.trl_adapter import BatchReward, Bounds

LEAST_RATE = 200  # gradings a second, 8 completions a group
SHARE_MS = 20  # of a quickstart step, which takes 470
FAULTS = {  # function of `FILE` -> (fault, how it is counted)
    "sleeps": ("a user's reward sleeps for ever", "timeouts"),
    "holds": ("a user's reward holds the interpreter in a catastrophic regex", "timeouts"),
    "eats": ("a user's reward eats all memory", "crashes"),
    "segfaults": ("a user's reward segfaults", "crashes"),
    "exits": ("a user's reward calls os._exit", "crashes"),
}


def graded(name: str, texts: list[str], rows: list[Record], bounds: Bounds | None = None) -> tuple[list, float]:
    """(values, seconds)"""
    begun = time.monotonic()
    values = BatchReward(name, bounds or Bounds())([""] * len(texts), texts, record=rows)
    return values, time.monotonic() - begun


def hostile() -> tuple[Row, bool]:
    """All rewards on all contents in all forms, each method in turn; `llm` asks an endpoint."""
    before, number, bad, slowest = workers.grading_counts(), 0, [], 0.0
    texts = completions(tuple(name for name in CONTENTS if name not in HANGS))
    for method in (name for name in METHODS if name != "llm"):
        for reward in rewards_of(method):
            values, seconds = graded(reward, texts, [record(method)] * len(texts))
            least, most = range_of(reward, method)
            bad += [(method, reward, value) for value in values if value is None or not least <= value <= most]
            number, slowest = number + len(values), max(slowest, seconds)
    lost = sum(workers.grading_counts().values()) - sum(before.values())
    row = Row(
        "a completion is hostile: deep JSON, 1 MB, NaN, infinity, huge integers, lone surrogates, NUL, right-to-left",
        "every reward with every method pays a finite value in its range",
        "tests/hostile/test_hostile_completions.py",
        f"{number:,} gradings, {len(bad)} out of range, {lost} lost; slowest batch of {len(texts)}: {slowest:.1f} s",
    )
    return row, not bad and not lost


def towers() -> tuple[Row, bool]:
    """What sympy works on for ever: 8 completions, one of each kind among good ones."""
    before, row = workers.grading_counts()["timeouts"], record("math")
    texts = [r"<answer>\frac{2}{4}</answer>"] * 5 + [f"<answer>{CONTENTS[name]}</answer>" for name in HANGS]
    values, seconds = graded("accuracy", texts, [row] * 8)
    lost = workers.grading_counts()["timeouts"] - before
    return (
        Row(
            "a completion keeps sympy busy for ever: 9**9**9**9, LaTeX towers, nested fractions",
            "its worker is killed at the deadline; it scores the minimum and is counted in grading/timeouts",
            "tests/rewards/test_grading_pool.py, tests/hostile/test_hostile_completions.py",
            f"{lost} of 8 lost, the other {8 - lost} right, in {seconds:.1f} s with a deadline of 2 s a row",
        ),
        values == [1.0] * 5 + [0.0] * 3 and lost == 3,
    )


def fault(path: Path, name: str) -> tuple[Row, bool]:
    """One bad row among 16, and one batch function with the same fault."""
    what, how = FAULTS[name]
    before, bounds = workers.grading_counts()[how], Bounds(seconds=1.0, memory_gb=0.1)
    texts = ["ab"] * 7 + ["bad"] + ["abc"] * 8
    values, seconds = graded(f"{path}:{name}", texts, records(16), bounds)
    batch, batch_seconds = graded(f"{path}:batch_{name}", texts, records(16), bounds)
    least = -2.0 if name == "sleeps" else 0.0
    right = values == [2.0] * 7 + [least] + [3.0] * 8 and len(set(batch)) == 1
    counted = workers.grading_counts()[how] - before
    return (
        Row(
            what,
            f"the row scores the function's minimum, counted in grading/{how}; a batch function loses its batch",
            "tests/rewards/test_custom_rewards.py",
            f"1 of 16 rows lost in {seconds:.1f} s, a batch of 16 in {batch_seconds:.1f} s (deadline 1 s)",
        ),
        right and counted == 17,
    )


def throughput() -> tuple[Row, bool]:
    """50 groups of 8 answers that math-verify must read; the best of three, since the machine may be busy."""
    rates = []
    for turn in range(3):
        golds = [rf"\frac{{{i + 1}}}{{7}}+\sqrt{{{turn + 2}}}" for i in range(50)]
        rows = [Record(str(i), (), "", (), gold, {}, f"a:{i}", "math") for i, gold in enumerate(golds)]
        texts = [rf"<answer>$\sqrt{{{turn + 2}}}+\frac{{{i + k}}}{{7}}$</answer>" for i in range(50) for k in range(8)]
        values, seconds = graded("accuracy", texts, [row for row in rows for _ in range(8)])
        rates.append(len(texts) / seconds if sum(values) == 50 else 0.0)
    return (
        Row(
            "grading slows a run down",
            "a batch is a few calls to the workers, which stay",
            "tests/torture/graders.py",
            f"{max(rates):.0f} mathematical gradings a second, 8 a group, {workers.WORKERS} workers",
        ),
        max(rates) >= LEAST_RATE,
    )


def overhead() -> tuple[Row, bool]:
    """The rewards of a quickstart step: 64 completions x accuracy and format; the median of 50."""
    rows = [row for row in [record("digits") for _ in range(8)] for _ in range(8)]
    taken = []
    for turn in range(50):
        texts = [f"<think>the digits {turn} {i}</think><answer>[{i % 10}, {turn % 10}]</answer>" for i in range(64)]
        taken.append(sum(graded(name, texts, rows)[1] for name in ("accuracy", "format")))
    milliseconds = 1e3 * statistics.median(taken)
    return (
        Row(
            "rewards in other processes cost time",
            "cheap rewards of a whole batch cross twice",
            "tests/torture/graders.py",
            f"{milliseconds:.1f} ms for 64 completions x 2 rewards (a quickstart step: about 470 ms)",
        ),
        milliseconds < SHARE_MS,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for graders.json")
    out = parser.parse_args().out
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.py"
        path.write_text(FILE)
        trials: list[Callable[[], tuple[Row, bool]]] = [throughput, overhead, towers, hostile]
        trials += [lambda name=name: fault(path, name) for name in FAULTS]
        BatchReward("accuracy").start()
        for trial in trials:
            row, kept = trial()
            rows.append(row)
            failed += [] if kept else [row.fault]
            sys.stderr.write(f"{'ok' if kept else 'BROKEN'}: {row.fault}: {row.figure}\n")
    write(out, "graders", rows)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
