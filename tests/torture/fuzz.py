"""A million hostile inputs to everything that reads what others wrote: coverage-guided, with format-aware changes.

    python tests/torture/fuzz.py OUT [--inputs 1000000] [--seconds S] [--seed 1]
    python tests/torture/fuzz.py OUT --reproduce TARGET FILE

The targets are those of `tests/helpers/hostile_inputs.py`. atheris runs them in a process of its own, instrumented,
from a corpus of the repository's own generators' rows and gold answers; the slowest inputs are measured again here,
where nothing is instrumented. Every failure leaves its input in OUT.
"""

import argparse
import heapq
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from rows import Row, write

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
KEPT = 4  # slowest inputs of each target
FAILURES = 20
REPORT_EVERY = 50_000
SECONDS = 1800
LONG, SHORT_BYTES = 0.01, 4096  # one in a hundred may be of any length
FIGURE = (
    "{:,} inputs to {} parsers and rewards in {:.0f} s ({:.0f} s of CPU time), at least {:,} each; two thirds guided "
    "by coverage, two thirds changed by format; {} foreign exceptions or slow answers; slowest {:.0f} ms of CPU time "
    "({}); peak {} MB"
)


def seeds() -> dict[str, list[bytes]]:
    """Usable inputs of each target, from the generators' own rows and from `hostile.ROWS`."""
    from helpers.hostile_inputs import ROWS, SPLIT, TARGETS

    from open_r1.data.record import Record, parse_row
    from open_r1.rewards.gold import gold_completion
    from open_r1.tasks.export import example_rows
    from open_r1.tasks.registry import TASKS

    records = [Record("1", (), "", (), text, extra, "", name) for name, (text, extra) in ROWS.items()]
    lines = []
    for task in (task for task in TASKS.values() if task.generator):
        for index in range(3):
            for row in example_rows(task.generator().example(0, "train", index), "train", index):
                lines.append(json.dumps({**row, "image": "a.png"}))
                records.append(parse_row(row, "", 1, method=task.method))
    said: dict[str, list[bytes]] = {name: [] for name in TARGETS}
    for record in records:
        golden = gold_completion(record)
        whole = SPLIT.join([golden, record.solution, json.dumps(dict(record.extra))])
        for name in TARGETS:
            if name.endswith(f" of {record.accu_reward_method}") and name in said:
                said[name].append((whole.removeprefix(golden) if name.startswith("gold") else whole).encode())
            elif " of " not in name:
                said[name].append(golden.encode())
        said["segmentation"].append(json.dumps(record.extra.get("segmentation")).encode())
    for name in ("row", "file"):
        said[name] = [line.encode() for line in lines]
    said["image path"] = [b"a.png", b"sub/b.png", b"out/etc/hostname", b"loop"]
    return said


def make_corpus(folder: Path, names: list[str]) -> int:
    """One file an input, its first byte the target's number."""
    number = 0
    for name, inputs in seeds().items():
        for data in dict.fromkeys(inputs):
            (folder / f"{number:05d}").write_bytes(bytes([names.index(name)]) + data)
            number += 1
    return number


class Trial:
    """Counts, times and failures of the inputs so far; written to OUT as `fuzz-worker.json`."""

    def __init__(self, out: Path, names: list[str], inputs: int, seconds: float):
        self.out, self.names, self.inputs, self.seconds = out, names, inputs, seconds
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, list[tuple[float, bytes]]] = {name: [] for name in names}
        self.failures: dict[tuple, dict[str, str]] = {}
        self.began = time.monotonic()
        self.number = 0

    def one(self, data: bytes) -> None:
        """An input of atheris; ends this process after the last one, since atheris would never return."""
        from helpers.hostile_inputs import attempt

        name, given = self.names[data[0] % len(self.names) if data else 0], data[1:]
        try:
            heapq.heappush(self.slowest[name], (attempt(name, given), given))
        except Exception as error:
            self.failed(name, given, error)
        if len(self.slowest[name]) > KEPT:
            heapq.heappop(self.slowest[name])
        self.counts[name] += 1
        self.number += 1
        if self.number % REPORT_EVERY == 0:
            rate = self.number / (time.monotonic() - self.began)
            print(f"{self.number} inputs, {rate:.0f}/s, {len(self.failures)} failures", file=sys.stderr, flush=True)
        if self.number >= self.inputs or (self.number % 100 == 0 and time.monotonic() - self.began > self.seconds):
            self.write()
            os._exit(0)

    def failed(self, name: str, data: bytes, error: Exception) -> None:
        """Keep the first input of each place that fails."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        key = (name, type(error).__name__, frame.filename, frame.lineno)
        if key in self.failures or len(self.failures) >= FAILURES:
            return
        path = self.out / f"fuzz-failure-{len(self.failures) + 1}.bin"
        path.write_bytes(data)
        said = f"{type(error).__name__}: {str(error)[:200]} ({Path(frame.filename).name}:{frame.lineno})"
        self.failures[key] = {"target": name, "said": said, "input": repr(data[:200]), "file": str(path)}

    def write(self) -> None:
        slowest = {
            name: [[seconds, data.hex()] for seconds, data in sorted(kept, reverse=True)]
            for name, kept in self.slowest.items()
        }
        found = {
            "inputs": self.number,
            "seconds": time.monotonic() - self.began,
            "cpu": time.process_time(),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "counts": self.counts,
            "slowest": slowest,
            "failures": list(self.failures.values()),
        }
        (self.out / "fuzz-worker.json").write_text(json.dumps(found))


def worker(args: argparse.Namespace, corpus: str) -> None:
    """The process that atheris runs in: it imports the package instrumented, and never returns."""
    import atheris

    with atheris.instrument_imports(include=["open_r1"]):
        from helpers.hostile_inputs import MAX_BYTES, TARGETS, without_workers
    from helpers.hostile_tokens import worse

    trial = Trial(args.out, list(TARGETS), args.inputs, args.seconds)

    usable = seeds()

    def change(data: bytes, longest: int, seed: int) -> bytes:
        """A third goes to the target that had the least; half of the rest is changed by format, half by libFuzzer."""
        rng = random.Random(seed)
        chance, longest = rng.random(), longest if rng.random() < LONG else SHORT_BYTES
        data = data[:longest]
        if chance < 1 / 3:
            name = min(trial.names, key=lambda name: trial.counts[name])
            return bytes([trial.names.index(name)]) + worse(rng.choice(usable[name]), rng, longest - 1)
        return data[:1] + worse(data[1:], rng, longest - 1) if chance < 2 / 3 else atheris.Mutate(data, longest)

    flags = f"-max_len={MAX_BYTES + 1} -len_control=0 -seed={args.seed} -timeout=30 -rss_limit_mb=4096 -verbosity=0"
    flags += f" -artifact_prefix={args.out}/fuzz-"
    with without_workers():
        atheris.Setup([sys.argv[0], *flags.split(), corpus], trial.one, custom_mutator=change)
        atheris.Fuzz()


def measured_again(slowest: dict[str, list]) -> dict[str, tuple[float, bytes]]:
    """The slowest input of each target and its CPU seconds here, uninstrumented: the least of five."""
    from helpers.hostile_inputs import attempt, without_workers

    again: dict[str, tuple[float, bytes]] = {}
    with without_workers():
        for name, kept in slowest.items():
            inputs = [bytes.fromhex(data) for _, data in kept]
            times = [(min(attempt(name, data) for _ in range(5)), data) for data in inputs]
            again[name] = max(times, default=(0.0, b""))
    return again


def main(args: argparse.Namespace) -> int:
    from helpers.hostile_inputs import SLOW_SECONDS, TARGETS

    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        number = make_corpus(Path(corpus), list(TARGETS))
        print(f"{len(TARGETS)} targets, {number} usable inputs to begin with", file=sys.stderr)
        command = [sys.executable, __file__, str(args.out), "--worker", corpus]
        command += [f"--inputs={args.inputs}", f"--seconds={args.seconds}", f"--seed={args.seed}"]
        (args.out / "fuzz-worker.json").unlink(missing_ok=True)
        code = subprocess.run(command).returncode
    if code or not (args.out / "fuzz-worker.json").exists():
        print(f"the process died ({code}): its input is {args.out}/fuzz-crash-* or fuzz-timeout-*", file=sys.stderr)
        print(f"the first byte of that file is the target's number in {list(TARGETS)}", file=sys.stderr)
        return 1
    found = json.loads((args.out / "fuzz-worker.json").read_text())
    times = measured_again(found["slowest"])
    slow = {name: given for name, given in times.items() if given[0] > SLOW_SECONDS}
    for number, (name, (seconds, data)) in enumerate(slow.items(), 1):
        path = args.out / f"fuzz-slow-{number}.bin"
        path.write_bytes(data)
        failure = {"target": name, "said": f"{seconds:.3f} s", "input": repr(data[:200]), "file": str(path)}
        found["failures"].append(failure)
    return report(args, found, times)


def report(args: argparse.Namespace, found: dict, times: dict[str, tuple[float, bytes]]) -> int:
    """Prints the slowest call of each target and every failure; writes the row; 1 where anything failed."""
    for name, (seconds, data) in sorted(times.items(), key=lambda item: -item[1][0]):
        number = found["counts"].get(name, 0)
        print(f"{1e3 * seconds:7.2f} ms  {number:8d}  {name}  ({len(data)} bytes)", file=sys.stderr)
    for failure in found["failures"]:
        print("{target}: {said}\n  input {input}".format(**failure), file=sys.stderr)
        print(f'  python {__file__} OUT --reproduce "{failure["target"]}" {failure["file"]}', file=sys.stderr)
    slowest = max(times, key=lambda name: times[name][0])
    least = min(found["counts"].get(name, 0) for name in times)
    wrong, slowest_ms = len(found["failures"]), 1e3 * times[slowest][0]
    counts = (
        found["inputs"],
        len(times),
        found["seconds"],
        found["cpu"],
        least,
        wrong,
        slowest_ms,
        slowest,
        found["peak_mb"],
    )
    figure = FIGURE.format(*counts)
    happens = "a value in its range, or an error of ours that names the row; no answer over 50 ms"
    row = Row("hostile rows, answers, boxes, polygons, masks, paths", happens, "tests/torture/fuzz.py", figure)
    write(args.out, "fuzz", [row])
    print(figure, file=sys.stderr)
    return int(bool(found["failures"]))


def reproduce(name: str, path: str) -> int:
    from helpers.hostile_inputs import attempt, without_workers

    with without_workers():
        print(f"{1e3 * attempt(name, Path(path).read_bytes()):.2f} ms")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="end earlier, with what was done till then")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reproduce", nargs=2, metavar=("TARGET", "FILE"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given, given.worker)
    sys.exit(reproduce(*given.reproduce) if given.reproduce else main(given))
