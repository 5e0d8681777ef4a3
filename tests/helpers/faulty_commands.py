"""Starts runs with a planted fault, and runs that receive a signal."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from helpers.preloaded import python, ranked, venv
from helpers.repository import REPO, run_script


def faulty(fault: str, out: Path, tiny: str, data: Path, *flags: object, ranks: int = 1) -> tuple[float, int, str]:
    """(seconds after the last step that was logged, exit status, stderr) of `faulty_run.py`."""
    argv = f"--model_name_or_path {tiny} --task_type digits --data_file_paths {data} --image_folders {data.parent} "
    argv += f"--output_dir {out} --max_steps 9 --num_generations 4 --per_device_train_batch_size 4 --save_steps 2 "
    argv += "--max_completion_length 4 --save_strategy steps --disable_tqdm true --bf16 false"
    agent = [
        "-m",
        "open_r1.trainer.lifecycle.torchrun_agent",
        "--standalone",
        "--local_addr=127.0.0.1",
        f"--nproc_per_node={ranks}",
    ]
    words = ["tests/helpers/faulty_run.py", fault, "3", *argv.split(), *map(str, flags)]
    env = ranked()
    if ranks > 1 or "--deepspeed" in flags:
        command = [python(), *agent, *words]
        done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, timeout=300, env=env)
    else:
        done = run_script(*words, env=env, check=False)
    return time.time() - (out / "metrics.jsonl").stat().st_mtime, done.returncode, done.stderr


RECEIVERS = ("one rank in a rollout of minutes", "the launcher", "the launcher in an evaluation")


def process_of(out: Path, rank: int) -> int:
    """The process id in the watchdog's file of a rank."""
    match = re.search(r"process (\d+)", (out / "watchdog" / f"rank{rank}.txt").read_text())
    return int(match[1])  # type: ignore[index]


def signalled(receiver: str, number: int, out: Path, tiny: str, data: Path) -> tuple[float, int, str]:
    """(seconds from a signal to the end of all, exit status, output) of a run of two ranks."""
    argv = f"--model_name_or_path {tiny} --task_type digits --data_file_paths {data} --image_folders {data.parent} "
    argv += f"--output_dir {out} --num_generations 4 --per_device_train_batch_size 4 --max_completion_length 120 "
    argv += "--num_train_epochs 1000 --save_strategy no --disable_tqdm true --bf16 false"
    env = {**ranked(), "NPROC": "2", "VENV": venv()}
    slow, evaluates = receiver == RECEIVERS[0], receiver == RECEIVERS[2]
    if evaluates:
        argv += " --val_split_ratio 0.25 --eval_strategy steps --eval_steps 1 --per_device_eval_batch_size 4"
    script = ["tests/helpers/faulty_run.py", "rollout takes minutes", "2"] if slow else ["src/open_r1/grpo_jsonl.py"]
    log, watched = out.with_suffix(".log"), out / "watchdog" / "rank1.txt"
    with open(log, "w") as file:
        command = ["bash", "run_scripts/launch.sh", *script, *argv.split()]
        run = subprocess.Popen(command, cwd=REPO, env=env, stderr=file, stdout=file, start_new_session=True)
    try:
        if evaluates:
            until(lambda: watched.exists() and "phase evaluation" in watched.read_text(), run)
        else:
            until((out / "metrics.jsonl").exists, run)
        if slow:
            until(lambda: "step 2, phase rollout" in watched.read_text(), run)
        os.kill(process_of(out, 1) if slow else run.pid, number)
        start, status = time.monotonic(), run.wait(timeout=200)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    return time.monotonic() - start, status, log.read_text()


def until(condition, run: subprocess.Popen) -> None:
    """Wait until `condition()` holds; fails if the run ends, or after 400 seconds."""
    start = time.monotonic()
    while not condition():
        assert run.poll() is None and time.monotonic() - start < 400, "the run did not get there"
        time.sleep(0.1)
