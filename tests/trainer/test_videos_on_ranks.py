"""Two ranks of which one has videos, pictures, both or text learn what one process learns, with each engine.

A rank runs its vision tower once over the pictures of a pass and once over its videos; the others must too.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import families
from helpers.clips import moving_square, tiny_with_videos, write_clip
from helpers.preloaded import python, ranked, venv
from helpers.repository import REPO, free_port
from PIL import Image

pytestmark = pytest.mark.distributed
TOLERANCE = 1e-5  # of a weight, which a step moves by up to 2e-4
# of each step's eight rows four are of rank 0 and four of rank 1: pictures beside videos, then both beside text, then
# the other way round
KINDS = ["p", "p", "pv", "v", "v", "v", "t", "t", *["t"] * 4, "pv", "pv", "v", "p"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    tiny_with_videos(folder / "model")
    Image.new("RGB", (64, 48), (200, 30, 90)).save(folder / "p.png")
    rows = []
    for number, kind in enumerate(KINDS):
        write_clip(folder / f"{number}.mp4", moving_square("right", 8 + 4 * (number % 2)), 4.0)
        media = ({"image": "p.png"} if "p" in kind else {}) | ({"video": f"{number}.mp4"} if "v" in kind else {})
        tags = "<image>" * ("p" in kind) + "<video>" * ("v" in kind)
        rows.append({"id": str(number), "problem": f"{tags}What is number {number}?", "solution": "[1]", **media})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def launch(engine: str, out: Path, data: Path) -> tuple[dict[str, torch.Tensor], dict[str, list]]:
    """The weights after two steps, and the losses and greedy completions."""
    ranks = [f"{venv()}/bin/torchrun", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    command = [python()] if engine == "one" else [*ranks, "--master_port", str(free_port())]
    env = {**ranked(), "PYTHONPATH": str(REPO / "tests"), "PYTHONWARNINGS": "ignore"}
    command += [str(REPO / "tests" / "helpers" / "videos_on_ranks.py"), engine, str(out), str(data)]
    command += [str(data.parent / "model")]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-8000:]
    return torch.load(out / "weights.pt"), json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def one(data, tmp_path_factory):
    return launch("one", tmp_path_factory.mktemp("one"), data)


@pytest.mark.parametrize("engine", ["ddp", "zero2", "zero3", "fsdp2"])
def test_ranks_with_and_without_videos_learn_what_one_process_learns(engine, one, data, tmp_path):
    (expected, said), (got, heard) = one, launch(engine, tmp_path, data)
    shared = expected.keys() & got.keys() - {"lm_head.weight"}
    assert max(float((expected[name] - got[name]).abs().max()) for name in shared) < TOLERANCE
    assert heard["losses"] == pytest.approx(said["losses"], abs=1e-4) and heard["greedy"] == said["greedy"]
    assert any("visual" in name for name in shared)


@pytest.mark.parametrize("family", ["minicpmv4_6_qwen3", "gemma4"])
def test_ranks_gather_the_weights_of_a_family_in_one_order(family, data, tmp_path):
    """MiniCPM-V's mergers ran once a picture; Gemma 4 reads embeddings of its layers before it looks at pictures,
    where a rank without pictures had looked at its dummy: one asked for weights that the other did not."""
    folder = tmp_path / "rows"
    shutil.copytree(data.parent, folder, ignore=shutil.ignore_patterns("model"))
    families.save(family, folder / "model")
    (expected, said), (got, heard) = (launch(e, tmp_path / e, folder / data.name) for e in ("one", "zero3"))
    assert max(float((expected[name] - got[name]).abs().max()) for name in expected.keys() & got.keys()) < TOLERANCE
    assert heard["greedy"] == said["greedy"]
