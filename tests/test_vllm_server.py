"""Rollouts on a vLLM server: the policy's weights arrive, and a server that dies ends the run with a checkpoint."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPO
from test_trainer import make_trainer
from test_vllm import differences

pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(model: str, port: int, log: Path) -> subprocess.Popen:
    """`run_scripts/vllm_server.sh` in the background, in a process group of its own."""
    env = {**os.environ, "PORT": str(port), "OMP_NUM_THREADS": "1", "VENV": sys.prefix}
    command = ["bash", "run_scripts/vllm_server.sh", model, "--max-model-len", "256", "--max-num-seqs", "64"]
    with open(log, "w") as out:
        return subprocess.Popen(command, cwd=REPO, env=env, stdout=out, stderr=out, start_new_session=True)


def stop(server: subprocess.Popen) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    process = serve(tiny, port, log)
    yield port, process
    if process.poll() is None:
        stop(process)


@pytest.fixture(scope="module")
def trainer(server, tiny, mixed, tmp_path_factory):
    flags = f"--use_vllm true --vllm_mode server --vllm_server_host 127.0.0.1 --vllm_server_port {server[0]}"
    flags += f" --vllm_group_port {free_port()} --gradient_accumulation_steps 1 --max_steps 1"
    return make_trainer(tiny, mixed, tmp_path_factory.mktemp("run"), *flags.split())


def test_log_probs_are_the_trainers(trainer):
    assert differences(trainer, 0, 1, 2).mean() < 1e-3  # one image, text, two images


def test_the_weights_of_the_next_step_answer(trainer):
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(1.1)
    trainer.state.global_step += 1
    assert differences(trainer, 0, 1, 2).mean() < 1e-3
