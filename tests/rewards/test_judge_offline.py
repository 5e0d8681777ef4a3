"""A judge on this machine: vLLM with the embedded model, asked by `open_r1.score` without a network."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.clips import clip_rows, moving_square
from helpers.repository import REPO, free_port
from PIL import Image

from open_r1.data.video.types import VideoFrames
from open_r1.rewards.judge.group_prompt import ranking_request
from open_r1.rewards.judge.method import current_judge, judge_metrics
from open_r1.rewards.judge.prompt import JudgedQuestion
from open_r1.rewards.judge.shown import PictureLimits, judge_pictures
from open_r1.rewards.judge.verdict import Swayed

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


def scored(served: dict[str, str], folder: Path, **settings: str) -> tuple[list[float], dict[str, float], str]:
    """(scores, what the judge cost, stderr) of `open_r1.score` on `folder/rows.jsonl`."""
    command = f"-m open_r1.score --reward_method llm --rows {folder}/rows.jsonl --out {folder}/out.jsonl"
    asked = {"JUDGE_IMAGES": "true", "JUDGE_MAX_PIXELS": "6272", "JUDGE_SCHEMA": "true", "JUDGE_SECONDS": "200"}
    env = {**os.environ, **served, **asked, **settings}
    run = subprocess.run([sys.executable, *command.split()], env=env, capture_output=True, text=True, cwd=REPO)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    counts = (part.split() for part in run.stdout.partition("judge: ")[2].split(", "))
    return [line["score"] for line in lines], {name: float(value) for name, value in counts}, run.stderr


def write_rows(folder: Path, *rows: dict) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_tiny_judge_in_vllm_gives_verdicts(served, tmp_path):
    """Its schema makes them valid; what a model of this size says is chance, so nothing is said of the scores."""
    Image.new("RGB", (112, 56), "white").save(tmp_path / "a.png")
    write_rows(
        tmp_path,
        {"completion": "<answer>the seven</answer>", "gold": "7", "question": "Which digit?", "image": "a.png"},
        {"completion": "<answer>the eight</answer>", "gold": "7", "question": "Which digit?", "rubric": ["says 8"]},
        {"completion": "<answer>7</answer>", "gold": "7"},
    )
    scores, cost, said = scored(served, tmp_path)
    assert all(score in (0.0, 1.0) for score in scores) and scores[2] == 1.0
    assert cost["calls"] >= 3 and cost["tokens_in"] > 1_000 and cost["tokens_out"] > 0
    assert "judge/failures" not in said


def test_a_tiny_judge_in_vllm_marks_groups_with_frames_and_pictures(served, tmp_path):
    """Every reply is a verdict by its schema; a judge by chance may refuse the canary: then each is asked alone."""
    Image.new("RGB", (112, 56), "white").save(tmp_path / "a.png")
    clip_rows(tmp_path, count=1)
    asked = {"gold": "7", "question": "Which digit?", "image": "a.png"}
    moving = {"gold": "to the right", "question": "Which way?", "video": "clips/0.mp4"}
    write_rows(
        tmp_path,
        *({"completion": f"<answer>{text}</answer>", **asked} for text in ("the seven", "an eight", "no digit")),
        *({"completion": f"<answer>{text}</answer>", **moving} for text in ("rightward", "the left")),
    )
    scores, cost, _ = scored(served, tmp_path, JUDGE_GROUP="true", JUDGE_MAX_IMAGES="4")
    assert all(0 <= score <= 1 for score in scores) and "malformed" not in cost
    assert cost["calls"] >= 3 and cost["tokens_in"] > 1_000


def test_a_tiny_judge_in_vllm_ranks_a_group_with_frames(served, monkeypatch):
    """Every reply is a ranking by its schema; by chance it may put the reference last, which says nothing of any."""
    asked = {"JUDGE_GROUP": "rank", "JUDGE_SCHEMA": "true", "JUDGE_SECONDS": "200", "JUDGE_IMAGES": "true"}
    for name, value in {**served, **asked}.items():
        monkeypatch.setenv(name, value)
    shown = judge_pictures([], [VideoFrames(moving_square(size=(112, 56)), (0.0,) * 8, 4.0)], PictureLimits(3))
    question, judge = JudgedQuestion("Which way?", "right", pictures=3, frames=shown.frames), current_judge()
    for seed in range(4):
        request = ranking_request(question, ["rightward", "to the left"], random.Random(seed), is_reversed=False)
        try:
            assert all(0 <= worth <= 1 for worth in judge.send(request, shown))
        except Swayed:
            continue
    counts = judge_metrics()
    assert counts["judge/calls"] == 4 and "judge/malformed" not in counts and counts["judge/tokens_in"] > 1_000
