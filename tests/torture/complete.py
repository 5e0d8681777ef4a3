"""Whether everything that a quickstart run leaves is there, whole and readable."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open

# What each step logs. A step in which no group taught anything has no policy pass, and lacks the metrics of one.
ALWAYS = {"step", "seconds", "epoch", "loss", "grad_norm", "learning_rate", "num_tokens", "parse_rate", "step_time"}
ALWAYS |= {"reward", "reward_std", "frac_reward_zero_std"}
ALWAYS |= {f"rewards/{name}/{what}" for name in ("accuracy", "format") for what in ("mean", "std")}
ALWAYS |= {f"completions/{what}" for what in ("mean_length", "min_length", "max_length", "clipped_ratio")}
OF_A_PASS = {"entropy", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"}
OF_A_GROUP = {"step", "id", "where", "prompt", "images", "solution", "completions"}


def problems(run: Path, steps: int) -> list[str]:
    """What is wrong with the files of a run of `steps` steps. Raises where one is missing or cannot be read."""
    of_lines = of_metrics(read(run / "metrics.jsonl"), steps)
    return [*of_lines, *of_rollouts(run, steps), *of_whole_steps(run, steps), *of_pages(run, steps)]


def read(path: Path) -> list[dict[str, Any]]:
    """Every line of a file of JSON lines. Raises json.JSONDecodeError for one that is none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def of_metrics(lines: list[dict[str, Any]], steps: int) -> list[str]:
    """Each step once, with all its keys, and the summary of the run at the end."""
    trained = [line for line in lines if "train_loss" not in line]
    wrong = ["metrics.jsonl: no summary at the end"] if lines[-1] in trained else []
    numbers = [line["step"] for line in trained]
    if numbers != list(range(1, steps + 1)):
        often = {step: count for step, count in Counter(numbers).items() if count > 1}
        lacking = sorted(set(range(1, steps + 1)) - set(numbers))
        wrong.append(f"metrics.jsonl: not steps 1 to {steps} in order; twice: {often}; lacking: {lacking}")
    for line in trained:
        needed = ALWAYS if line["frac_reward_zero_std"] == 1 else ALWAYS | OF_A_PASS
        if lacks := needed - line.keys():
            wrong.append(f"metrics.jsonl: step {line['step']} lacks {sorted(lacks)}")
    return wrong


def of_whole_steps(run: Path, steps: int) -> list[str]:
    """The generations of the last three steps (--keep_whole_steps), of the first, and of those after a checkpoint."""
    there = {path.name for path in (run / "whole_steps").iterdir()}
    after = {int(path.name.split("-")[1]) + 1 for path in run.glob("checkpoint-*")} & set(range(1, steps + 1))
    kept = {f"step-{step}.0.rank0.pt" for step in {1, *after, *range(max(steps - 2, 1), steps + 1)}}
    return [f"whole_steps: {sorted(there ^ kept)} lack or are too many"] if there != kept else []


def of_rollouts(run: Path, steps: int) -> list[str]:
    """Groups of ascending steps to the last, their pictures, and no picture of no group."""
    groups = read(run / "rollouts.jsonl")
    numbers, named = [group["step"] for group in groups], {name for group in groups for name in group["images"]}
    there = {path.name for path in (run / "rollout_images").iterdir()}
    for name in named & there:
        with Image.open(run / "rollout_images" / name) as picture:
            picture.load()
    wrong = [
        f"rollouts.jsonl: step {g['step']} lacks {OF_A_GROUP - g.keys()}" for g in groups if OF_A_GROUP - g.keys()
    ]
    if numbers != sorted(numbers) or numbers[-1] != steps - 1:
        wrong.append(f"rollouts.jsonl: steps do not ascend to {steps - 1}")
    return wrong + ([f"rollout_images: {sorted(named ^ there)} do not belong together"] if named != there else [])


def of_pages(run: Path, steps: int) -> list[str]:
    """The report shows the last step and groups, curves are a picture, the model's weights can be read."""
    page = (run / "report.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    with Image.open(run / "reward_curve.png") as picture:
        picture.load()
    with safe_open(run / "checkpoint" / "model.safetensors", "pt") as weights:
        for name in weights.keys():  # noqa: SIM118 (it is no dict)
            weights.get_tensor(name)
    if data["runs"][0]["columns"]["step"][-1] == steps and data["groups"] and page.rstrip().endswith("</html>"):
        return []
    return [f"report.html: does not show step {steps} and groups"]
