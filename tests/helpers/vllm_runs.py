"""Starts training runs on vLLM as users do, and reads what they log."""

import json
import subprocess
from pathlib import Path

from helpers.preloaded import python, ranked, venv
from helpers.repository import REPO, free_port

FLAGS = "--task_type digits --use_cpu true --bf16 false --seed 3"
FLAGS += " --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 24 --learning_rate 1e-3"
FLAGS += " --report_to none --save_strategy no --gradient_accumulation_steps 1 --max_steps 3"
ENGINE = "--use_vllm true --vllm_max_model_length 256"
ZERO3 = f"--deepspeed {REPO}/local_scripts/zero3.json"
LORA = "--use_peft true --lora_r 8 --beta 0.04 --learning_rate 1e-2"
ZOOM = "--task_type zoom_digits --tools zoom --max_completion_length 100 --vllm_max_model_length 512"
ZOOM += " --per_device_train_batch_size 16"
DIFFERENCE = "sampling/sampling_logp_difference/mean"


def start(tiny: str, data: Path, out: Path, flags: str, ranks: int = 1, engine: str = ENGINE) -> subprocess.Popen[str]:
    launcher = [f"{venv()}/bin/torchrun", "--nproc_per_node", ranks, "--master_port", free_port()]
    command = [*(launcher if ranks > 1 else [python()]), "src/open_r1/grpo_jsonl.py", *FLAGS.split()]
    command += ["--model_name_or_path", tiny, "--data_file_paths", data, "--image_folders", data.parent]
    command += ["--output_dir", out, *engine.split(), *flags.split()]
    env = {**ranked(), "PYTHONWARNINGS": "ignore"}
    with open(f"{out}.log", "w") as log:
        return subprocess.Popen([str(part) for part in command], cwd=REPO, env=env, text=True, stdout=log, stderr=log)


def ended(run: subprocess.Popen[str], out: Path, status: int = 0) -> str:
    code, log = run.wait(500), Path(f"{out}.log").read_text()
    assert code == status, log[-6000:]
    return log


def logged(out: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]
