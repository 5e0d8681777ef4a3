"""Under ZeRO-3 on two ranks a model whose layers carry a state packs its groups, and learns as from padded rows."""

import json
import subprocess

import pytest
import torch
from helpers import families
from helpers.preloaded import ranked, venv
from helpers.repository import REPO, free_port
from transformers import AutoModelForImageTextToText

pytestmark = pytest.mark.distributed


def test_a_step_of_packed_groups_is_one_of_padded_rows(digits, tmp_path):
    model = families.save("qwen3_5", tmp_path / "model")
    ranks = [f"{venv()}/bin/torchrun", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    script = str(REPO / "tests" / "helpers" / "hybrid_on_ranks.py")
    command = [*ranks, "--master_port", str(free_port()), script, str(model), str(tmp_path)]
    env = {**ranked(), "PYTHONPATH": str(REPO / "tests"), "PYTHONWARNINGS": "ignore"}
    command.append(str(digits / "train.jsonl"))
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr[-8000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == {"packed": True, "change": pytest.approx(0, abs=1e-5), "rows": False}
    packed, rows = (torch.load(tmp_path / f"{name}.pt") for name in ("packed", "rows"))
    before = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).state_dict()
    moved = max(float((packed[name] - before[name]).abs().max()) for name in packed.keys() & before.keys())
    assert moved > 1e-4
    assert max(float((packed[name] - rows[name]).abs().max()) for name in packed) < 0.05 * moved
