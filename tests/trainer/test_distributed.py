"""Two ranks give the numbers of one process: DDP, ZeRO-1, -2 and -3 and FSDP2, on the same rows and completions.

`tests/helpers/ranks.py` is what each rank does. Rows 0 to 3 of a step go to rank 0, rows 4 to 7 to rank 1: in the
first generation rank 1 holds text alone, in the second rank 0 does.
"""

import json
import runpy
import subprocess
from pathlib import Path

import pytest
import torch
from helpers.preloaded import python, ranked, venv
from helpers.ranks import ENGINES
from helpers.repository import REPO, free_port
from transformers import AutoModelForImageTextToText, AutoProcessor

pytestmark = pytest.mark.distributed
TEXT_ROWS = range(4, 12)
TOLERANCE = 1e-5  # of a weight, which a step moves by up to the learning rate of 2e-4; seen: 1.2e-7


def launch(engine: str, out: Path, data: Path) -> Path:
    ranks = [f"{venv()}/bin/torchrun", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    command = [python()] if engine == "one" else [*ranks, "--master_port", str(free_port())]
    env = {**ranked(), "PYTHONPATH": str(REPO / "tests"), "PYTHONWARNINGS": "ignore"}
    command = [*command, str(REPO / "tests" / "helpers" / "ranks.py"), engine, str(out), str(data)]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr[-8000:]
    return out


@pytest.fixture(scope="module")
def rows(digits) -> Path:
    """Image rows, but for TEXT_ROWS."""
    lines = [json.loads(line) for line in (digits / "train.jsonl").read_text().splitlines()]
    for number in TEXT_ROWS:
        del lines[number]["image"]
        lines[number]["conversations"][0]["value"] = f"What is the sum of {number} and 2?"
    path = digits / "halves.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    return path


@pytest.fixture(scope="module")
def one(rows, tmp_path_factory) -> Path:
    return launch("one", tmp_path_factory.mktemp("one"), rows)


@pytest.fixture(scope="module", params=list(ENGINES))
def two(request, rows, one, tmp_path_factory) -> Path:
    return launch(request.param, tmp_path_factory.mktemp(request.param), rows)


def results(folder: Path) -> dict[str, list]:
    return json.loads((folder / "results.json").read_text())


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest over all weights; the tied head may be left out of a file."""
    assert first.keys() - {"lm_head.weight"} == second.keys() - {"lm_head.weight"}
    return max(float((first[name] - second[name]).abs().max()) for name in first.keys() & second.keys())


def reloaded(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).state_dict()


@pytest.mark.parametrize("run", ["weights", "quiet", "sft"])
def test_the_weights_are_those_of_one_process(one, two, tiny, run):
    expected, got = (torch.load(folder / f"{run}.pt") for folder in (one, two))
    assert difference(expected, got) < TOLERANCE
    assert difference(expected, reloaded(Path(tiny))) > 10 * TOLERANCE  # it moved


def test_the_losses_are_those_of_one_process(one, two):
    assert results(two)["losses"] == pytest.approx(results(one)["losses"], abs=1e-4)


def test_ranks_measure_whether_the_policy_looks_as_one_process_does(one, two):
    first, second, quiet = results(one)["probes"]  # before steps 1 and 3, and before the only one of the quiet run
    assert set(first) == set(second) == {"vision/dependency"} and len(quiet) == 4
    for expected, got in zip(results(one)["probes"], results(two)["probes"], strict=True):
        assert got == pytest.approx(expected, abs=1e-4)


def test_ranks_generate_what_one_process_generates(one, two):
    assert results(two)["rollouts"] == results(one)["rollouts"]


def test_ranks_with_different_numbers_of_tool_turns_learn_what_one_process_learns(one, two, tiny):
    if not (two / "tools.pt").exists():
        pytest.skip("see WITH_TOOLS in ranks.py")
    expected, got = (torch.load(folder / "tools.pt") for folder in (one, two))
    assert difference(expected, got) < TOLERANCE < 0.1 * difference(expected, reloaded(Path(tiny)))
    (logs, greedy), (seen, same) = (results(folder)["tools"].values() for folder in (one, two))
    assert [line["tools/calls"] > 0 for line in logs[:2]] == [True, True] and same == greedy
    assert all(one == pytest.approx(other, abs=1e-4) for one, other in zip(logs, seen, strict=True))


def test_ranks_see_the_noise_that_one_process_sees(one, two):
    expected = results(one)["noisy"]
    assert results(two)["noisy"] == expected and expected[0] == expected[1] != expected[2] == expected[3]


def test_a_resumed_run_ends_like_one_that_went_through(two):
    if not (two / "resumed.pt").exists():
        pytest.skip("see RESUMED in ranks.py")
    assert difference(torch.load(two / "weights.pt"), torch.load(two / "resumed.pt")) < TOLERANCE


def test_the_final_folder_reloads_with_the_gathered_weights(two):
    assert difference(reloaded(two / "final"), torch.load(two / "weights.pt")) == 0


def test_a_checkpoint_becomes_a_model_folder(one, two):
    assert difference(reloaded(two / "run" / "checkpoint-2"), reloaded(one / "run" / "checkpoint-2")) < TOLERANCE


def test_the_masters_of_a_checkpoint_become_a_model_folder(two, tmp_path):
    checkpoint = two / "run" / "checkpoint-2"
    if not (checkpoint / "latest").exists():
        pytest.skip("no checkpoint of DeepSpeed")
    runpy.run_path(str(REPO / "local_scripts" / "consolidate_zero.py"))["consolidate"](checkpoint, tmp_path)
    assert difference(reloaded(tmp_path), reloaded(checkpoint)) == 0  # trained in float32, so these are the masters
    assert AutoProcessor.from_pretrained(tmp_path).image_processor is not None
