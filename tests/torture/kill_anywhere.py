"""Trial: a run killed at random moments, also while it saves, and resumed each time, ends as one never killed.

    python tests/torture/kill_anywhere.py OUT [--kills 20] [--seed 0]

Half of the kills strike at a random time after the first step of a process, the others within a save: as soon as its
folder appears, and up to some milliseconds later. The weights of the final model, the optimizer's state in the last
checkpoint and the lines of metrics.jsonl must be those of a run that nobody killed. A run with tools is killed while a
tool works, which must end with the run.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from rows import Row, write
from slow_zoom import MARK

REPO = Path(__file__).resolve().parents[2]
STEPS, SAVE_EVERY = 60, 2
FLAGS = (
    f"--model_name_or_path assets/tiny-vlm --task_type digits --max_steps {STEPS} --num_generations 8 --beta 0 "
    "--per_device_train_batch_size 16 --gradient_accumulation_steps 2 --steps_per_generation 4 --num_iterations 1 "
    "--max_completion_length 24 --learning_rate 1e-4 --gradient_checkpointing false --save_strategy steps "
    f"--save_steps {SAVE_EVERY} --save_total_limit 2 --disable_tqdm true --bf16 false --resume_from_checkpoint auto"
)

MORE = "--resample_zero_variance 2 --row_sampling difficulty --vision_probe 3 --perception_coef 0.01 "
MORE += "--visual_token_share 0.4 --noisy_rollouts 0.5"
TOOLS = "--tools tests/torture/slow_zoom.py:zoom --max_tool_turns 2"
WITH_TOOLS = f"--model_name_or_path assets/tiny-vlm-zoom --task_type zoom_digits {TOOLS} --max_steps {{steps}} "
WITH_TOOLS += f"--max_completion_length 160 --num_iterations 2 {MORE}"
TOOL_STEPS, TOOL_KILLS, END_SECONDS = 12, 4, 5.0


def start(out: Path, data: Path, more: str) -> subprocess.Popen[bytes]:
    paths = ["--data_file_paths", str(data / "train.jsonl"), "--image_folders", str(data), "--output_dir", str(out)]
    command = [sys.executable, "src/open_r1/grpo_jsonl.py", *FLAGS.split(), *more.split(), *paths]
    env = {**os.environ, "OMP_NUM_THREADS": "1", MARK: str(mark_of(out))}
    with open(out.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, cwd=REPO, env=env, stdout=log, stderr=log)


def mark_of(out: Path) -> Path:
    """The beginning of the name of the file that is there while a tool of a run works."""
    return out.with_suffix(".mark").absolute()


def is_at_work(out: Path) -> bool:
    """Whether a tool of a run works."""
    return any(out.parent.glob(f"{mark_of(out).name}.*"))


def left_behind(out: Path) -> list[int]:
    """Processes of a run that are there some seconds after it was killed."""
    end = time.monotonic() + END_SECONDS
    while (alive := [*processes_of(out)]) and time.monotonic() < end:
        time.sleep(0.05)
    return alive


def processes_of(out: Path) -> Iterator[int]:
    """The processes whose environment names the mark of a run."""
    wanted = f"{MARK}={mark_of(out)}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended, or is another user's
            if wanted in environment.read_bytes().split(b"\0"):
                yield int(environment.parent.name)


def wait_for_a_tool(run: subprocess.Popen[bytes], out: Path, rng: random.Random, first: bool) -> None:
    """Until a tool works: in the `first` generation of the process, or after a new line of metrics, in a later one."""
    before = size(out / "metrics.jsonl")
    wait(run, lambda: first or size(out / "metrics.jsonl") > before)
    wait(run, lambda: is_at_work(out))
    end = time.monotonic() + rng.uniform(0, 0.5)
    wait(run, lambda: time.monotonic() > end and is_at_work(out))


def wait(run: subprocess.Popen[bytes], until: Callable[[], bool]) -> bool:
    """Whether it came true while the run was alive."""
    while run.poll() is None:
        if until():
            return True
        time.sleep(0.001)
    return False


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_a_while(run: subprocess.Popen[bytes], out: Path, rng: random.Random, pace: float) -> None:
    """As long as up to four steps take, after its first new line of metrics."""
    before = size(out / "metrics.jsonl")
    wait(run, lambda: size(out / "metrics.jsonl") > before)
    end = time.monotonic() + rng.uniform(0, 4 * pace)
    wait(run, lambda: time.monotonic() > end)


def wait_for_a_save(run: subprocess.Popen[bytes], out: Path, rng: random.Random) -> None:
    """Up to 60 ms into a save, which takes about 100: after the first or the second of this process."""
    for _ in range(rng.choice((1, 2))):
        wait(run, lambda: not (out / "saving").exists())
        wait(run, (out / "saving").exists)
    end = time.monotonic() + rng.uniform(0, 0.06)
    wait(run, lambda: time.monotonic() > end)


def kills(out: Path, data: Path, more: str, count: int, rng: random.Random, pace: float) -> list[str]:
    """Where each kill struck; the last process has ended by itself. `pace` is the seconds of an undisturbed step."""
    struck = []
    while True:
        run = start(out, data, more)
        if len(struck) == count:
            if run.wait():
                sys.exit(f"the last process ended with {run.returncode}: {out.with_suffix('.log')}")
            return struck
        if "--tools" in more:
            wait_for_a_tool(run, out, rng, first=len(struck) % 2 == 1)
        elif len(struck) % 2:
            wait_for_a_save(run, out, rng)
        else:
            wait_a_while(run, out, rng, pace)
        if run.poll() is not None:
            sys.exit(f"a process ended with {run.returncode} before it was killed: {out.with_suffix('.log')}")
        saving, working = (out / "saving").exists(), is_at_work(out)
        run.send_signal(signal.SIGKILL)
        run.wait()
        if alive := left_behind(out):
            sys.exit(f"processes {alive} of {out} went on after it was killed")
        for mark in out.parent.glob(f"{mark_of(out).name}.*"):
            mark.unlink()
        struck.append("in a save" if saving else "in a tool" if working else "between saves")
        there = sorted(path.name for path in out.glob("*checkpoint-*")) + ["half a one"] * saving
        print(f"kill {len(struck)}: {struck[-1]}; {', '.join(there) or 'no checkpoint yet'}", file=sys.stderr)


def lines(out: Path) -> list[dict[str, object]]:
    """metrics.jsonl without what is about time."""
    read = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "time" not in k and "second" not in k} for line in read]


def differences(whole: Path, killed: Path, steps: int) -> list[str]:
    import torch
    from safetensors.torch import load_file

    first, second = (load_file(out / "checkpoint" / "model.safetensors") for out in (whole, killed))
    found = [name for name in first if not torch.equal(first[name], second[name])]
    states = [
        torch.load(out / f"checkpoint-{steps}" / "optimizer.pt", weights_only=True)["state"] for out in (whole, killed)
    ]
    for number, state in states[0].items():
        found += [f"optimizer {number} {k}" for k, v in state.items() if not torch.equal(v, states[1][number][k])]
    return found + ([] if lines(whole) == lines(killed) else ["metrics.jsonl"])


def trial(
    folder: Path, name: str, more: str, count: int, seed: int, task: str = "digits", steps: int = STEPS
) -> tuple[str, list[str]]:
    """(the figure of the table, what differs) of a run with `more` flags that is killed `count` times."""
    whole, killed, data = folder / f"whole{name}", folder / f"killed{name}", folder / task
    make = [sys.executable, "local_scripts/make_dataset.py", task, "--out", str(data)]
    subprocess.run([*make, "--rows", "96", "--heldout_rows", "4"], cwd=REPO, check=True, capture_output=True)
    if start(whole, data, more).wait():
        sys.exit(f"the undisturbed run failed: {whole.with_suffix('.log')}")
    pace = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])["seconds"] / steps
    struck = kills(killed, data, more, count, random.Random(seed), pace)
    different = differences(whole, killed, steps)
    places = ", ".join(f"{struck.count(place)} {place}" for place in sorted(set(struck)))
    figure = f"{len(struck)} kills, {places}, over {steps} steps: "
    figure += f"{len(different)} differ" if different else "weights, optimizer and metrics bit-identical"
    return figure, different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = args.out / "kill_anywhere"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figure, different = trial(folder, "", "", args.kills, args.seed)
    figure_more, different_more = trial(folder, "_chosen", MORE, args.kills // 2, args.seed)
    with_tools = WITH_TOOLS.format(steps=TOOL_STEPS)
    figure_tools, different_tools = trial(
        folder, "_tools", with_tools, TOOL_KILLS, args.seed, "zoom_digits", TOOL_STEPS
    )
    happens = "checkpoints appear whole or not at all; --resume_from_checkpoint auto goes on from the newest, exactly"
    fault, test = "SIGKILL at any moment, also while a checkpoint is written", "tests/torture/kill_anywhere.py"
    more = Row(
        f"the same with {MORE}",
        f"{happens}, with what was learned of rows, the same masks and noise",
        test,
        figure_more,
    )
    tools = Row(
        f"SIGKILL while a tool works, of a run with {TOOLS} and the same flags",
        "the tool's process ends with the run; a resumed run samples the turns again, and ends as one never killed",
        test,
        figure_tools,
    )
    write(args.out, "kill_anywhere", [Row(fault, happens, test, figure), more, tools])
    if different or different_more or different_tools:
        sys.exit(f"different: {different[:10]} {different_more[:10]} {different_tools[:10]}")


if __name__ == "__main__":
    main()
