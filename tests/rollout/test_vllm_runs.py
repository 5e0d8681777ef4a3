"""Whole runs on vLLM, as users start them: ZeRO-3, tensor parallel, LoRA, and a task that is learned."""

import json
import subprocess
from pathlib import Path

import pytest
from helpers.preloaded import python
from helpers.repository import REPO, make_dataset
from helpers.vllm_runs import DIFFERENCE, ENGINE, LORA, ZERO3, ZOOM, ended, logged, start
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
pytestmark = pytest.mark.vllm


def with_even_heads(model: str, out: Path) -> str:
    """A tiny VLM with attention heads that two ranks can share: its weights with 4 heads in the eye instead of 3."""
    config = AutoConfig.from_pretrained(model)
    config.vision_config.num_heads = 4
    AutoModelForImageTextToText.from_pretrained(model, config=config).save_pretrained(out)
    AutoProcessor.from_pretrained(model).save_pretrained(out)
    return str(out)


@pytest.fixture(scope="module")
def even(tiny, tmp_path_factory) -> str:
    return with_even_heads(tiny, tmp_path_factory.mktemp("even"))


@pytest.fixture(scope="module")
def zooming(repo) -> str:
    """The tiny VLM that knows the tool `zoom`."""
    return str(repo / "assets" / "tiny-vlm-zoom")


@pytest.fixture(scope="module")
def zooming_even(zooming, tmp_path_factory) -> str:
    return with_even_heads(zooming, tmp_path_factory.mktemp("zooming"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Rows of the task of `assets/tiny-vlm-zoom`, which calls `zoom` in 44 of 100 completions of any of them."""
    out = tmp_path_factory.mktemp("scenes")
    make_dataset("zoom_digits", out, "--rows", 16, "--heldout_rows", 2)
    return out / "train.jsonl"


def sampled_from_the_policy(model: str, data: Path, out: Path, flags: str, ranks: int) -> None:
    """A run of three steps, each of the policy's own completions. The learning rate moves it far in a step: under
    LoRA, weights of the step before differ by 0.39 nats."""
    ended(start(model, data, out, flags, ranks), out)
    differences = logged(out, DIFFERENCE)
    assert len(differences) == 3 and max(differences) < 1e-3


@pytest.mark.parametrize(
    ("model", "ranks", "flags"),
    [
        ("tiny", 2, f"{ZERO3} {LORA}"),
        ("even", 2, f"{ZERO3} --vllm_tensor_parallel_size 2"),
        ("tiny", 1, f"{LORA} --vllm_lora_sync adapter"),
    ],
    ids=["lora under zero3", "tensor parallel", "adapter alone"],
)
def test_each_step_is_sampled_from_the_policy_of_that_step(request, mixed, tmp_path, model, ranks, flags):
    sampled_from_the_policy(request.getfixturevalue(model), mixed, tmp_path / "run", flags, ranks)


@pytest.mark.parametrize(
    ("model", "flags"),
    [("zooming", f"{LORA} --vllm_lora_sync adapter"), ("zooming_even", f"{ZERO3} --vllm_tensor_parallel_size 2")],
    ids=["each rank's own engine", "tensor parallel"],
)
def test_turns_of_each_step_are_sampled_from_the_policy_of_that_step(request, scenes, tmp_path, model, flags):
    """That none of the first 32 completions calls has a chance of 1e-8."""
    out, flags = tmp_path / "run", f"{flags} {ZOOM}"
    sampled_from_the_policy(request.getfixturevalue(model), scenes, out, flags, ranks=2)
    assert logged(out, "tools/calls")[0] > 0


def test_rows_are_replaced_probed_and_seen_under_noise_in_one_run(tiny, digits, tmp_path):
    """What is compared with the trainer's log-probs are rows without noise, and the engine has each step's weights
    in the rounds of other rows and in the probe's greedy answers too."""
    out = tmp_path / "run"
    flags = "--resample_zero_variance 2 --row_sampling difficulty --vision_probe 1 --noisy_rollouts 0.5"
    ended(start(tiny, digits / "train.jsonl", out, f"{flags} --rollout_groups 2"), out)
    differences = logged(out, DIFFERENCE)
    assert len(differences) == 3 and max(differences) < 1e-3
    for name in ("vision/dependency", "vision/accuracy", "vision/blind_accuracy", "vision/swapped_accuracy"):
        assert len(logged(out, name)) == 3
    assert logged(out, "rollouts/noisy") == [0.5] * 3 and logged(out, "rollouts/noise_step")[0] > 400
    assert min(logged(out, "rollouts/sampled")) >= 8 and max(logged(out, "rows/seen")) > 0
    groups = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
    marks = [[c.get("noisy", False) for c in group["completions"]] for group in groups]
    assert marks == [[False, False, True, True]] * 6


def test_a_survey_on_vllm_is_that_of_transformers(tiny, mixed, tmp_path):
    """Next to greedy, so that both draw the same, with own pictures, with blank ones and with another row's."""
    said = {}
    for backend, more in (("transformers", ""), ("vllm", "--max_model_len 256")):
        out = tmp_path / backend
        flags = f"--backend {backend} {more} --rows 9 --samples 2 --num_generations 2 --picture_samples 1 --device cpu"
        flags += " --per_device_train_batch_size 8 --max_completion_length 24 --task_type digits --dtype float32"
        flags += " --temperature 0.001"
        places = ["--model", tiny, "--data_file_paths", mixed, "--image_folders", mixed.parent, "--output_dir", out]
        command = [python(), "-m", "open_r1.survey", *flags.split(), *map(str, places)]
        done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, timeout=500)
        assert done.returncode == 0, done.stderr[-6000:]
        said[backend] = {
            look: [
                json.loads(line)["completion"] for line in (out / look / "predictions.jsonl").read_text().splitlines()
            ]
            for look in ("answers", "answers-blank", "answers-other")
        }
    assert said["vllm"] == said["transformers"]
    assert [len(texts) for texts in said["vllm"].values()] == [18, 8, 8]  # one of the nine rows drawn is text alone
    assert said["vllm"]["answers-blank"] != said["vllm"]["answers-other"] and len({*said["vllm"]["answers"]}) > 1


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
