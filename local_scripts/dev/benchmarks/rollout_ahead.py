"""Digits on a vLLM server, on-policy and one step ahead: reward by step, and the time of a step; three seeds.

    python local_scripts/dev/benchmarks/rollout_ahead.py OUT [--steps 40 --seeds 0 1 2]

Starts `run_scripts/vllm_server.sh` for the tiny VLM and, one after the other, the quickstart's run with and without
`--rollout_ahead 1`; writes OUT/rollout_ahead.json. Needs vLLM (bash setup.sh --vllm).
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
MODEL = "assets/tiny-vlm"
RUN = "--task_type digits --num_generations 8 --per_device_train_batch_size 64 --max_completion_length 40 --beta 0 "
RUN += "--learning_rate 1e-4 --lr_scheduler_type linear --warmup_steps 5 --gradient_checkpointing false --bf16 false "
RUN += "--use_cpu true --save_strategy no --report_to none --use_vllm true --vllm_mode server"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(port: int, log: Path) -> subprocess.Popen[bytes]:
    """A server for the tiny VLM in a process group of its own."""
    env = {**os.environ, "PORT": str(port), "VENV": sys.prefix}
    command = ["bash", "run_scripts/vllm_server.sh", MODEL, "--max-model-len", "256", "--max-num-seqs", "64"]
    with open(log, "w") as out:
        return subprocess.Popen(command, cwd=REPO, env=env, stdout=out, stderr=out, start_new_session=True)


def train(data: Path, out: Path, port: int, seed: int, steps: int, ahead: int) -> dict[str, Any]:
    """Rewards (of 2) by step, the median time of a step in seconds, and the largest log-prob difference of a step."""
    flags = [*RUN.split(), "--model_name_or_path", MODEL, "--data_file_paths", data / "train.jsonl"]
    flags += ["--image_folders", data, "--output_dir", out, "--seed", seed, "--max_steps", steps]
    flags += ["--vllm_server_port", port, "--vllm_server_host", "127.0.0.1", "--vllm_group_port", free_port()]
    flags += ["--rollout_ahead", 1] if ahead else []
    with open(f"{out}.log", "w") as log:
        command = [sys.executable, "src/open_r1/grpo_jsonl.py", *map(str, flags)]
        subprocess.run(command, cwd=REPO, stdout=log, stderr=log, check=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps_of = [line for line in lines if "reward" in line]
    return {
        "seed": seed,
        "ahead": ahead,
        "reward": [line["reward"] for line in steps_of],
        "step_time": statistics.median(line["step_time"] for line in steps_of[2:]),
        "difference": max(line["sampling/sampling_logp_difference/mean"] for line in steps_of),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    out = args.out.resolve()
    data, port = out / "data", free_port()
    command = [sys.executable, "local_scripts/make_dataset.py", "digits", "--out", data, "--rows", 2000]
    subprocess.run([str(part) for part in command], cwd=REPO, check=True, stdout=subprocess.DEVNULL)
    server = start_server(port, out / "server.log")
    try:
        runs = [
            train(data, out / f"seed{seed}-{ahead}", port, seed, args.steps, ahead)
            for seed in args.seeds
            for ahead in (0, 1)
        ]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
    (out / "rollout_ahead.json").write_text(json.dumps({"steps": args.steps, "runs": runs}, indent=1) + "\n")
    for run in runs:
        means = [statistics.mean(run["reward"][at : at + 10]) for at in range(0, args.steps, 10)]
        tens = " ".join(f"{mean:.2f}" for mean in means)
        name = "ahead    " if run["ahead"] else "on-policy"
        print(f"seed {run['seed']} {name} {run['step_time']:.2f} s a step, rewards by ten steps {tens}")


if __name__ == "__main__":
    main()
