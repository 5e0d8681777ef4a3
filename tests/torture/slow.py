"""A slow disk and a machine that is busy with other work: a run takes longer, and ends as ever.

    python tests/torture/slow.py OUT [--steps 60]

The quickstart, saving each 20 steps, once undisturbed and once while two processes for each core do nothing but spin
and each change of a file below its output folder takes 20 ms, 20 ms more for each 64 KiB (3 MB/s). A small library in
C, loaded into the run, makes the disk slow. The run is then resumed from its last checkpoint. Takes 3 to 5 minutes.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from complete import problems
from rows import Row, write
from watching import anew, make_digits, quickstart, watch

MILLISECONDS = 20
FAULT, TEST = "A slow disk and a busy machine", "tests/torture/slow.py"
HAPPENS = "the run takes longer, ends with status 0 and complete files, and its last checkpoint can be resumed from"
SPIN = "import os\nstarter = os.getppid()\nwhile os.getppid() == starter: pass"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=60, help="a multiple of 20")
    args = parser.parse_args(argv)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if args.steps % 20:
        parser.error(f"--steps: got {args.steps}, expected a multiple of 20")
    if compiler is None:
        write(args.out, "slow", [Row(FAULT, HAPPENS, TEST, "not run: it needs a C compiler")])
        return 0
    out = anew(args.out.resolve() / "slow")
    make_digits(out / "data", 256)
    library = slow_disk(compiler, out)
    usual, _ = trained(out, "usual", args.steps)
    with spinning(2 * (os.cpu_count() or 1)) as busy:
        slow, wrong = trained(out, "slow", args.steps, library)
    _, after = trained(out, "slow", args.steps + 2)
    figure = f"{args.steps} steps in {usual:.0f} s undisturbed, in {slow:.0f} s beside {busy} spinning processes on a "
    figure += f"disk of {MILLISECONDS} ms a call and {64 / MILLISECONDS:.1f} MB/s; checkpoint-{args.steps} resumed"
    write(args.out, "slow", [Row(FAULT, HAPPENS, TEST, "; ".join(wrong + after) or figure)])
    print("\n".join(wrong + after) or figure, file=sys.stderr)
    return 1 if wrong or after else 0


def trained(out: Path, name: str, steps: int, library: Path | None = None) -> tuple[float, list[str]]:
    """Seconds that a run takes, start included, and what is wrong with it. A folder that holds a run is resumed."""
    run = out / name
    flags = ["--save_strategy", "steps", "--save_steps", 20, "--save_total_limit", 2]
    flags += ["--resume_from_checkpoint", f"{run / f'checkpoint-{steps - 2}'}"] if run.exists() else []
    env = {"LD_PRELOAD": str(library), "SLOW_FOLDER": str(run), "SLOW_MS": str(MILLISECONDS)} if library else {}
    print(f"{name}: to step {steps}", file=sys.stderr)
    status, samples = watch(quickstart(out / "data", run, steps, *flags), run, env)
    wrong = problems(run, steps) if status == 0 else [f"the run ended with status {status}; see {run}.log"]
    return samples[-1].seconds, wrong


def slow_disk(compiler: str, out: Path) -> Path:
    """The library, compiled."""
    library = out / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@contextmanager
def spinning(count: int) -> Iterator[int]:
    """So many processes that take all the time they get; they end with this one."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield count
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
