"""A newcomer who pastes what each command ends with gets from a first run to a comparison."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers.preloaded import python
from helpers.repository import REPO, run_script


def pasted(text: str, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the line of this name."""
    (line,) = re.findall(rf"^ +{name} +(python .*)$", text, re.MULTILINE)
    words = [python(), *shlex.split(line)[1:], *more]
    return subprocess.run(words, cwd=REPO, text=True, capture_output=True, timeout=300)


def flags(tiny: str, digits: Path, out: Path, *more: str) -> list[str]:
    words = f"--model_name_or_path {tiny} --task_type digits --data_file_paths {digits / 'train.jsonl'} --bf16 false"
    words += f" --image_folders {digits} --output_dir {out} --max_steps 4 --disable_tqdm true"
    return [*words.split(), *more]


@pytest.mark.slow
def test_the_commands_that_a_run_ends_with_lead_to_a_comparison(tiny, digits, tmp_path):
    out = tmp_path / "a run"
    grpo = "--num_generations 4 --per_device_train_batch_size 8 --max_completion_length 3 --beta 0 --save_steps 2"
    words = flags(tiny, digits, tmp_path, *grpo.split(), "--save_strategy", "steps", "--output_dir", str(out))
    first = run_script("src/open_r1/grpo_jsonl.py", *words).stderr
    assert "Trained 4 of 4 steps. Findings, which the report explains: nothing_earned, zero_gradient" in first
    assert "step 3: nothing_earned: No completion earns anything. Every completion of steps 1 to 3 earned 0." in first
    assert f"  report  {out}/report.html" in first and "Resuming" not in first

    resumed = run_script("src/open_r1/grpo_jsonl.py", *words, "--resume_from_checkpoint", f"{out}/checkpoint-2").stderr
    assert f"Resuming from {out}/checkpoint-2, after step 2" in resumed and "Trained 4 of 4 steps" in resumed

    evaluated = pasted(resumed, "next", "--limit", "6")
    assert f"model    {out}/checkpoint" in evaluated.stdout and "heldout.jsonl" in evaluated.stdout, evaluated.stderr
    base = pasted(evaluated.stdout, "next")
    assert base.returncode == 0 and "--limit 8" in base.stdout, base.stderr
    compared = pasted(evaluated.stdout, "then")
    assert compared.returncode == 0 and "no row is right in one alone" in compared.stdout, compared.stderr


@pytest.mark.slow
def test_an_adapter_of_sft_ends_with_its_merge_which_ends_with_its_evaluation(tiny, digits, tmp_path):
    out = tmp_path / "sft"
    words = flags(tiny, digits, out, "--use_peft", "true", "--lora_r", "4", "--per_device_train_batch_size", "4")
    ended = run_script("src/open_r1/sft_jsonl.py", *words).stderr
    merged = pasted(ended, "merge")
    assert merged.returncode == 0 and (out / "merged" / "config.json").exists(), merged.stderr
    evaluated = pasted(merged.stdout, "next", "--limit", "2", "--max_completion_length", "8")
    assert (out / "merged-eval" / "summary.json").exists(), evaluated.stderr
