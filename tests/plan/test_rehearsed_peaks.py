"""Planned peaks against those of the same runs on CUDA tensors without a GPU, which `rehearsed_peaks.py` left."""

import json
from dataclasses import replace

import pytest
from helpers.repository import REPO, run_script

from open_r1.plan import activations, memory, states
from open_r1.plan.dims import Dims, read_dims
from open_r1.plan.settings import PlannedRun

RESULTS = json.loads((REPO / "assets/benchmarks/rehearsed_peaks.json").read_text(encoding="utf-8"))["settings"]


def settings(number: str) -> tuple[Dims, PlannedRun]:
    """A model's sizes and the run that was rehearsed."""
    facts = RESULTS[number]
    return read_dims(str(REPO / "assets/configs" / f"Qwen2.5-VL-{facts['size']}"))[0], PlannedRun(**facts["run"])


@pytest.mark.parametrize("number", RESULTS)
def test_plans_are_within_a_twentieth_of_the_rehearsed_peaks(number):
    parts = memory.training_bytes(*settings(number))
    planned = memory.total_bytes(parts) - parts["base"]
    assert planned == pytest.approx(RESULTS[number]["peak"], rel=0.05)


@pytest.mark.slow
def test_the_table_of_the_page_is_of_these_results():
    run_script("local_scripts/dev/readme/rehearsed_table.py", "--check")


def test_autocasts_copies_are_gone_when_all_gradients_are_there():
    dims, run = settings("3")
    assert states.autocast_copies(dims, run) == 2 * dims.parameters
    assert "autocast" not in memory.at_end(dims, run, 4.0 * dims.parameters)
    assert states.autocast_copies(dims, replace(run, bytes_per_weight=2)) == 0


def test_the_peak_may_be_where_the_backward_pass_enters_vision():
    dims, run = settings("6")
    parts = memory.training_bytes(dims, run)
    assert parts["activations"] == activations.vision_bytes(dims, run)
    assert parts["gradients"] == pytest.approx(2 * (dims.text.parameters - dims.vocab * dims.text.hidden))
