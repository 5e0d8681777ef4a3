"""A judge on this machine: vLLM with the embedded model, asked by `open_r1.score` without a network."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.repository import REPO, free_port
from PIL import Image

pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm
PATIENCE = 400  # seconds
SERVER = "vllm.entrypoints.openai.api_server --dtype float32 --enforce-eager --host 127.0.0.1"  # as judge.md says
# a model that cannot write JSON would fill its reply with spaces, which JSON allows anywhere
SERVER += " --structured-outputs-config.backend xgrammar --structured-outputs-config.disable_any_whitespace true"
VLLM = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a judge that vLLM serves from assets/tiny-vlm."""
    port, log = free_port(), tmp_path_factory.mktemp("judge") / "log.txt"
    model = str(REPO / "assets" / "tiny-vlm")
    command = [sys.executable, "-m", *SERVER.split(), "--model", model, "--port", str(port)]
    with open(log, "w") as out:
        env = {**os.environ, **VLLM, "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "any", "JUDGE_MODEL": model}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1)
    pytest.fail(f"no server: {log.read_text()[-2_000:]}")


def test_a_tiny_judge_in_vllm_gives_verdicts(served, tmp_path):
    """Its schema makes them valid; what a model of this size says is chance, so nothing is said of the scores."""
    Image.new("RGB", (112, 56), "white").save(tmp_path / "a.png")
    rows = [
        {"completion": "<answer>the seven</answer>", "gold": "7", "question": "Which digit?", "image": "a.png"},
        {"completion": "<answer>the eight</answer>", "gold": "7", "question": "Which digit?", "rubric": ["says 8"]},
        {"completion": "<answer>7</answer>", "gold": "7"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = f"-m open_r1.score --reward_method llm --rows {tmp_path}/rows.jsonl --out {tmp_path}/out.jsonl"
    settings = {"JUDGE_IMAGES": "true", "JUDGE_MAX_PIXELS": "6272", "JUDGE_SCHEMA": "true", "JUDGE_SECONDS": "200"}
    env = {**os.environ, **served, **settings}
    run = subprocess.run([sys.executable, *command.split()], env=env, capture_output=True, text=True, cwd=REPO)
    assert run.returncode == 0, run.stderr
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(row["score"] in (0.0, 1.0) for row in scored) and scored[2]["score"] == 1.0
    counts = dict(part.split() for part in run.stdout.partition("judge: ")[2].split(", "))
    assert int(counts["calls"]) >= 3 and int(counts["tokens_in"]) > 1_000 and int(counts["tokens_out"]) > 0
    assert "judge/failures" not in run.stderr
