"""Whole runs on vLLM, as users start them: ZeRO-3, tensor parallel, LoRA, a server, and a server that dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.repository import REPO, free_port
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm

FLAGS = "--task_type digits --use_cpu true --bf16 false --seed 3"
FLAGS += " --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 24 --learning_rate 1e-3"
FLAGS += " --report_to none --save_strategy no --gradient_accumulation_steps 1 --max_steps 3"
ENGINE = "--use_vllm true --vllm_max_model_length 256"
ZERO3 = f"--deepspeed {REPO}/local_scripts/zero3.json"
LORA = "--use_peft true --lora_r 8 --beta 0.04 --learning_rate 3e-2"
DIFFERENCE = "sampling/sampling_logp_difference/mean"


def start(tiny: str, data: Path, out: Path, flags: str, ranks: int = 1, engine: str = ENGINE) -> subprocess.Popen[str]:
    launcher = [f"{sys.prefix}/bin/torchrun", "--nproc_per_node", ranks, "--master_port", free_port()]
    command = [*(launcher if ranks > 1 else [sys.executable]), "src/open_r1/grpo_jsonl.py", *FLAGS.split()]
    command += ["--model_name_or_path", tiny, "--data_file_paths", data, "--image_folders", data.parent]
    command += ["--output_dir", out, *engine.split(), *flags.split()]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    with open(f"{out}.log", "w") as log:
        return subprocess.Popen([str(part) for part in command], cwd=REPO, env=env, text=True, stdout=log, stderr=log)


def ended(run: subprocess.Popen[str], out: Path, status: int = 0) -> str:
    code, log = run.wait(500), Path(f"{out}.log").read_text()
    assert code == status, log[-6000:]
    return log


def logged(out: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def even(tiny, tmp_path_factory) -> str:
    """The tiny VLM with attention heads that two ranks can share: its weights with 4 heads in the eye instead of 3."""
    out = tmp_path_factory.mktemp("even")
    config = AutoConfig.from_pretrained(tiny)
    config.vision_config.num_heads = 4
    AutoModelForImageTextToText.from_pretrained(tiny, config=config).save_pretrained(out)
    AutoProcessor.from_pretrained(tiny).save_pretrained(out)
    return str(out)


@pytest.mark.parametrize(
    ("model", "ranks", "flags"),
    [("tiny", 2, ZERO3), ("even", 2, f"{ZERO3} --vllm_tensor_parallel_size 2"), ("tiny", 1, LORA)],
    ids=["zero3", "tensor parallel", "lora"],
)
def test_each_step_is_sampled_from_the_policy_of_that_step(request, mixed, tmp_path, model, ranks, flags):
    """The learning rate moves the policy far in a step, so weights of the step before would differ."""
    out = tmp_path / "run"
    ended(start(request.getfixturevalue(model), mixed, out, flags, ranks), out)
    differences = logged(out, DIFFERENCE)
    assert len(differences) == 3 and max(differences) < 1e-3


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl"])
def test_other_families_have_the_trainers_log_probs(mixed, tmp_path, family):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO / "tests"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(REPO / "tests" / "helpers" / "vllm_family.py"), family, str(tmp_path), str(mixed)]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    assert max(json.loads((tmp_path / "differences.json").read_text())) < 1e-4  # one image, text, two images


def test_grpo_on_digits_reaches_the_reward_of_transformers_rollouts(tiny, digits, tmp_path):
    """The quickstart's flags, 30 steps of 8 groups; more prompts a generation than the engine takes at once."""
    flags = "--num_generations 8 --per_device_train_batch_size 64 --max_completion_length 40 --learning_rate 1e-4"
    flags += " --warmup_steps 5 --gradient_checkpointing false --max_steps 30"
    ends = []
    for name, engine in (("vllm", ENGINE), ("transformers", "")):
        out = tmp_path / name
        ended(start(tiny, digits / "train.jsonl", out, flags, engine=engine), out)
        rewards = logged(out, "reward")
        assert len(rewards) == 30 and sum(rewards[-10:]) > sum(rewards[:5]) * 2 + 2  # 0.2 a completion
        ends.append(sum(rewards[-10:]) / 10)
    assert abs(ends[0] - ends[1]) < 0.15


# ---------------------------------------------------------------------------------------------------------- a server


def serve(model: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    """`run_scripts/vllm_server.sh` in the background."""
    env = {**os.environ, "PORT": str(port), "OMP_NUM_THREADS": "1", "VENV": sys.prefix, "HF_HUB_OFFLINE": "1"}
    command = ["bash", "run_scripts/vllm_server.sh", model, "--max-model-len", "256", "--max-num-seqs", "64"]
    with open(log, "w") as out:
        return subprocess.Popen(command, cwd=REPO, env=env, stdout=out, stderr=out, start_new_session=True)


class Served:
    """One server for the tests of this file, which kill it and start it anew."""

    def __init__(self, model: str, folder: Path):
        self.model, self.folder, self.port = model, folder, free_port()
        self.start()

    def start(self) -> None:
        self.process = serve(self.model, self.port, self.folder / "log.txt")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    served = Served(tiny, tmp_path_factory.mktemp("server"))
    yield served
    if served.process.returncode is None:
        served.kill()


def on_server(port: int, patience: int = 300) -> str:
    return (
        f"--vllm_mode server --vllm_server_host 127.0.0.1 --vllm_server_port {port} --vllm_group_port {free_port()} "
        f"--vllm_server_timeout {patience}"
    )


def test_a_server_has_the_policys_weights_at_each_step(server, tiny, mixed, tmp_path):
    out = tmp_path / "run"
    flags = f"{on_server(server.port)} {ZERO3} --max_pixels 6272"  # images are resized as the trainer resizes them
    ended(start(tiny, mixed, out, flags, ranks=2), out)
    differences = logged(out, DIFFERENCE)
    assert len(differences) == 3 and max(differences) < 1e-3


def test_a_server_of_another_model_is_refused(server, repo, mixed, tmp_path):
    out = tmp_path / "run"
    log = ended(start(str(repo / "assets" / "tiny-vlm-shapes"), mixed, out, on_server(server.port)), out, status=1)
    assert "serves another model than" in log and "vllm_server.sh" in log and "Traceback" not in log


def wait_for_steps(run: subprocess.Popen[str], out: Path, steps: int) -> None:
    deadline = time.monotonic() + 400
    while not (out / "metrics.jsonl").exists() or len(logged(out, DIFFERENCE)) < steps:
        assert run.poll() is None and time.monotonic() < deadline, Path(f"{out}.log").read_text()[-4000:]
        time.sleep(0.1)


def test_a_server_started_anew_is_given_the_weights_again(server, tiny, mixed, tmp_path):
    out = tmp_path / "run"
    run = start(tiny, mixed, out, f"{on_server(server.port)} --max_steps 12")
    wait_for_steps(run, out, 2)
    server.kill()
    server.start()
    log = ended(run, out)
    differences = logged(out, DIFFERENCE)
    assert "meeting it again" in log and len(differences) == 12 and max(differences) < 1e-3


def test_a_server_that_dies_ends_the_run_with_a_checkpoint(server, tiny, mixed, tmp_path):
    out = tmp_path / "run"
    run = start(tiny, mixed, out, f"{on_server(server.port, patience=20)} --max_steps 1000")
    wait_for_steps(run, out, 2)
    server.kill()
    log = ended(run, out, status=1)
    assert f"no vLLM server answered at http://127.0.0.1:{server.port} for 20 s" in log and "Traceback" not in log
    (checkpoint,) = out.glob("checkpoint-*")
    assert f"--resume_from_checkpoint {checkpoint}" in log
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["global_step"] == len(logged(out, DIFFERENCE)) >= 2
