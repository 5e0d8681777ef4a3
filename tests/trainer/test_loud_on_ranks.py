"""Silent failures of one rank are detected on both: weights that stay the same, and numbers that are not finite."""

import json
import os
import subprocess
from typing import Any

import pytest
from helpers.preloaded import ranked, venv
from helpers.repository import REPO, free_port

ALL = pytest.mark.skipif("not os.environ.get('ALL_ENGINES')", reason="set ALL_ENGINES=1 to run every engine")


@pytest.fixture(
    scope="module",
    params=["zero2", "zero3", pytest.param("ddp", marks=ALL), pytest.param("fsdp2", marks=ALL)],
)
def ranks(request, digits, tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    """Run -> the results of each of two ranks, see `loud_on_ranks`."""
    rows = [json.loads(line) for line in (digits / "train.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        del row["image"]
        row["conversations"][0]["value"] = f"What is the sum of {number} and 2?"
    data, out = digits / "texts.jsonl", tmp_path_factory.mktemp(request.param)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [f"{venv()}/bin/torchrun", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port"]
    command += [
        str(free_port()),
        str(REPO / "tests" / "helpers" / "loud_on_ranks.py"),
        request.param,
        str(out),
        str(data),
    ]
    env = {**ranked(), "PYTHONWARNINGS": "ignore"}
    env["PYTHONPATH"] = os.pathsep.join([str(REPO / "tests"), *filter(None, [env.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr[-8000:]
    return {
        name: [json.loads((out / f"{name}_{rank}.json").read_text()) for rank in (0, 1)]
        for name in ("skip", "stop", "still")
    }


@pytest.mark.distributed
def test_ranks_leave_the_same_steps_out(ranks):
    first, second = ranks["skip"]
    assert first["moved"] == second["moved"] == [True, False, False, True]
    assert first["steps"] == second["steps"] == 2
    assert first["error"] == second["error"] == "None"


@pytest.mark.distributed
def test_one_rank_names_the_vision_tower_that_learns_nothing(ranks):
    (first, second) = ([text for text in rank["warnings"] if "learned nothing" in text] for rank in ranks["skip"])
    assert len(first) == 1 and second == []
    assert "No gradient reached: model.visual" in first[0] and "language_model" not in first[0]


@pytest.mark.distributed
def test_ranks_stop_together_with_the_row_and_a_checkpoint(ranks):
    first, second = ranks["stop"]
    assert first["kind"] == second["kind"] == "NotFinite" and first["error"] == second["error"]
    assert first["error"].startswith("step 2: got a loss that is not finite, expected a number. Rows: ")
    assert "texts.jsonl:" in first["error"]
    assert first["moved"] == second["moved"] == [True, False]
    assert "trainer_state.json" in first["saved"]


@pytest.mark.distributed
def test_ranks_end_where_nothing_moves(ranks):
    first, second = ranks["still"]
    assert first["error"] == second["error"] and "got no weight that moved" in first["error"]
