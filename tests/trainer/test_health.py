"""Findings: a series that has the trouble shows it with evidence, and real runs that went well show none."""

import json

import health_table
import numpy as np
import pytest
from helpers.repository import REPO, make_dataset, run_script
from helpers.small_net import warnings
from helpers.trainers import make_trainer

from open_r1.config.arguments import JsonlArguments
from open_r1.config.parser import parse
from open_r1.report.checks import FAILED_GRADINGS, WINDOW
from open_r1.report.diagnoses import DIAGNOSES, findings
from open_r1.report.metric_ranges import HEALTH
from open_r1.rewards.sandbox import worker_pool as workers
from open_r1.trainer.outputs.throttle import Throttle

REAL = json.loads((REPO / "tests" / "trainer" / "healthy_runs.json").read_text())
MADE_UP = ["--model_name_or_path", "x", "--data_file_paths", "y", "--output_dir", "z"]
NOISE = np.random.default_rng(0).normal(0, 1, 100)


def lines(**columns: object) -> list[dict]:
    """Lines of 100 steps; a keyword's `_` stands for `/` where a metric has one."""
    series = {NAMES.get(name, name): np.broadcast_to(values, 100).tolist() for name, values in columns.items()}
    return [{"step": i + 1, **{key: values[i] for key, values in series.items()}} for i in range(100)]


NAMES = {
    "accuracy": "rewards/accuracy/mean",
    "format": "rewards/format/mean",
    "clipped": "completions/clipped_ratio",
    "region": "clip_ratio/region_mean",
    "logp": "sampling/sampling_logp_difference/mean",
    "timeouts": "grading/timeouts",
    "zero_std": "frac_reward_zero_std",
}
RISE = np.linspace(0, 1, 100)
LATE = np.repeat([0.0, 1.0], (80, 20))
SICK = {  # diagnosis -> a series that has it, and what its evidence says
    "zero_gradient": (lines(grad_norm=1 - LATE), "exactly 0 in all of steps 91 to 100"),
    "zero_variance": (lines(zero_std=LATE, reward=0.2), "1 over steps 91 to 100, above 0.9; reward 0.2 over steps 1"),
    "only_format": (lines(format=RISE, accuracy=0.3 + 0.05 * NOISE), "rewards/format/mean +0.677"),
    "truncated": (lines(clipped=0.3 * RISE), "is 0.286 over steps 91 to 100, above 0.2"),
    "unparsed": (lines(parse_rate=0.4), "is 0.4 over steps 91 to 100, below 0.5"),
    "parse_rate_falling": (lines(parse_rate=1 - 0.3 * LATE), "was 1 over steps 1 to 10 and is 0.7 over steps 91 to"),
    "reward_falling": (lines(reward=1.5 - LATE + 0.05 * NOISE), "reward was 1.5"),
    "kl_exploding": (lines(kl=0.02 + 0.5 * LATE), "kl is 0.52 over steps 91 to 100, 26 times its median before"),
    "entropy_collapse": (lines(entropy=0.5 - 0.49 * LATE), "fell from 0.5 over steps 1 to 10 to 0.01"),
    "clipping": (lines(region=0.5), "above 0.3"),
    "gradings_lost": (lines(timeouts=200 * RISE), "grading/timeouts grew by 18 over steps 91 to 100"),
    "engine_differs": (lines(logp=0.1), "above 0.05"),
    "not_finite": ([{"step": 7, "not_finite": ["grad_norm"]}], "grad_norm: not a finite number in steps 7 to 7"),
}


def test_each_diagnosis_has_a_case():
    assert set(SICK) == set(DIAGNOSES)


@pytest.mark.parametrize("name", SICK)
def test_trouble_is_found_alone_with_its_evidence_and_a_flag_to_try(name):
    series, evidence = SICK[name]
    (finding,) = findings(series)
    assert finding.name == name and evidence in finding.evidence
    assert "--" in finding.remedy and DIAGNOSES[name].metric in HEALTH


def test_every_count_of_lost_gradings_is_seen_and_explained():
    for key in FAILED_GRADINGS:
        (finding,) = findings([{"step": i, key: 2.0 * i} for i in range(1, 101)])
        assert finding.name == "gradings_lost" and f"{key} grew by 18" in finding.evidence
    assert {key for key in FAILED_GRADINGS if key.startswith("grading/")} == {
        f"grading/{name}" for name in workers.grading_counts()
    }
    assert {f"grading/{name}" for name in workers.grading_counts()} <= set(HEALTH)


@pytest.mark.parametrize("name", [name for name in SICK if name != "not_finite"])
def test_a_few_steps_are_no_evidence(name):
    assert findings(SICK[name][0][-WINDOW + 1 :]) == []


@pytest.mark.parametrize("name", ["rec", "digits"])
def test_a_real_run_that_went_well_has_no_finding_at_any_step(name):
    columns = REAL[name]
    real = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert [(n, finding) for n in range(1, len(real) + 1) for finding in findings(real[:n])] == []


@pytest.mark.parametrize("path", sorted((REPO / "assets" / "learning").glob("*.json")), ids=lambda path: path.stem)
def test_published_curves_have_no_finding_at_any_step(path):
    for run in json.loads(path.read_text())["runs"]:
        rewards = [{"step": step, "reward": reward} for step, reward in enumerate(run.get("reward", ()), 1)]
        assert [f for n in range(10, len(rewards) + 1, 10) for f in findings(rewards[:n])] == []


def test_a_long_plateau_of_noise_is_no_trouble():
    rng = np.random.default_rng(1)
    rewards = 1.2 + 0.3 * rng.standard_normal(5000)
    flat = [{"step": i, "reward": value, "kl": 0.1, "entropy": 0.2} for i, value in enumerate(rewards.tolist())]
    assert [n for n in range(100, 5001, 100) if findings(flat[:n])] == []


def test_metrics_that_are_missing_are_no_trouble():
    assert findings([]) == findings([{"step": 1}]) == findings(lines(loss=NOISE)) == []


def test_an_unknown_name_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(JsonlArguments, [*MADE_UP, "--stop_on", "kl_explodes"])
    stderr = capsys.readouterr().err
    assert ended.value.code == 2 and "--stop_on: got 'kl_explodes', expected one of not_finite" in stderr
    assert "did you mean 'kl_exploding'?" in stderr


def test_fewer_rollouts_than_a_group_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse(JsonlArguments, [*MADE_UP, "--rollouts_to_keep", "4", "--num_generations", "8"])
    assert "--rollouts_to_keep: got 4, expected at least --num_generations 8" in capsys.readouterr().err


def test_work_takes_its_share_of_the_time_and_no_more(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("open_r1.trainer.outputs.throttle.time.monotonic", lambda: now[0])
    throttle = Throttle(seconds=60, share=0.02)
    now[0] += 60
    assert throttle.due()
    with throttle:
        now[0] += 3
    now[0] += 146  # 3 s of 150 are 2 %
    assert not throttle.due()
    now[0] += 1
    assert throttle.due()


def test_the_page_shows_the_table_of_the_code():
    assert health_table.section().is_up_to_date()


@pytest.mark.slow
def test_a_run_is_stopped_with_a_checkpoint_the_final_model_and_a_reason(tiny, tmp_path):
    make_dataset("digits", tmp_path / "data", "--rows", 32, "--heldout_rows", 4)
    flags = {
        "model_name_or_path": tiny,
        "task_type": "digits",
        "data_file_paths": tmp_path / "data" / "train.jsonl",
        "image_folders": tmp_path / "data",
        "output_dir": tmp_path / "out",
        "max_completion_length": 4,  # no answer ends within 4 tokens
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "max_steps": 30,
        "save_strategy": "no",
        "stop_on": "truncated",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    done = run_script("src/open_r1/grpo_jsonl.py", *words, check=False)
    assert done.returncode == 3, done.stderr[-3000:]
    assert "--stop_on truncated: the run ended after step 10: Completions are cut off" in done.stderr
    assert (tmp_path / "out" / "checkpoint-10" / "optimizer.pt").exists()
    assert (tmp_path / "out" / "checkpoint" / "model.safetensors").exists()
    assert (tmp_path / "out" / "report.html").read_text().count('class="finding"') >= 1


@pytest.mark.slow
def test_rewards_without_variance_are_warned_of_once(tiny, digits, tmp_path, caplog):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path, "--max_steps", "14")
    trainer.reward_funcs = [lambda completions, **_: [0.5] * len(completions)]
    trainer.train()
    messages = [text for text in warnings(caplog, "health") if "zero_variance" in text]
    assert len(messages) == 1 and messages[0].startswith("step 10: zero_variance: Rewards without variance")
    assert "raise --temperature or --num_generations" in messages[0]
    assert warnings(caplog, "weight_updates") == []  # there was no step with a gradient
