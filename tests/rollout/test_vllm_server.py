"""Runs with a vLLM server, as users start both: its weights, another model's server, a restart, and its death."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.repository import REPO, free_port, make_dataset
from helpers.vllm_runs import DIFFERENCE, LORA, ZERO3, ZOOM, ended, logged, start

pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm


def serve(model: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    """`run_scripts/vllm_server.sh` in the background."""
    env = {**os.environ, "PORT": str(port), "OMP_NUM_THREADS": "1", "VENV": sys.prefix, "HF_HUB_OFFLINE": "1"}
    command = ["bash", "run_scripts/vllm_server.sh", model, "--max-model-len", "512", "--max-num-seqs", "64"]
    command += ["--enable-lora", "--max-lora-rank", "8"]
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


def test_a_server_is_sent_the_adapter_alone(server, tiny, mixed, tmp_path):
    out = tmp_path / "run"
    ended(start(tiny, mixed, out, f"{on_server(server.port)} {LORA} --vllm_lora_sync adapter"), out)
    differences = logged(out, DIFFERENCE)
    assert len(differences) == 3 and max(differences) < 1e-3


def test_a_server_samples_turns_from_the_policy_of_each_step(repo, tmp_path):
    make_dataset("zoom_digits", tmp_path, "--rows", 16, "--heldout_rows", 2)
    model, out = str(repo / "assets" / "tiny-vlm-zoom"), tmp_path / "run"
    served = Served(model, tmp_path)
    try:
        ended(start(model, tmp_path / "train.jsonl", out, f"{on_server(served.port)} {ZOOM}", ranks=2), out)
    finally:
        served.kill()
    differences = logged(out, DIFFERENCE)
    assert len(differences) == 3 and max(differences) < 1e-3 and logged(out, "tools/calls")[0] > 0


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
    """One step ahead: the first step is learned from the policy's own completions, the next from those of before."""
    out = tmp_path / "run"
    flags = "--max_steps 1000 --learning_rate 1e-4 --rollout_ahead 1"
    run = start(tiny, mixed, out, f"{on_server(server.port, patience=20)} {flags}")
    wait_for_steps(run, out, 2)
    first, second = logged(out, DIFFERENCE)[:2]
    assert first < 1e-4 < second < 1
    server.kill()
    log = ended(run, out, status=1)
    assert f"no vLLM server answered at http://127.0.0.1:{server.port} for 20 s" in log and "Traceback" not in log
    (checkpoint,) = out.glob("checkpoint-*")
    assert f"--resume_from_checkpoint {checkpoint}" in log
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["global_step"] == len(logged(out, DIFFERENCE)) >= 2
