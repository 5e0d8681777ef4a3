"""Findings: a series that has the trouble shows it with evidence, and real runs that went well show none."""

import json
from types import SimpleNamespace

import health_table
import numpy as np
import pytest
from helpers.repository import REPO, make_dataset, run_script
from helpers.small_net import warnings
from helpers.trainers import make_trainer

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.report.checks import FAILED_GRADINGS
from open_r1.report.diagnoses import DIAGNOSES, findings
from open_r1.report.metric_ranges import HEALTH, exact_metrics
from open_r1.report.metric_windows import FIRST, WINDOW
from open_r1.report.verdict import newest_value, verdict
from open_r1.rewards.sandbox import worker_pool as workers
from open_r1.trainer.checks.health import Health
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
    "own": "vision/accuracy",
    "blind": "vision/blind_accuracy",
    "dependency": "vision/dependency",
    "ordered": "vision/ordered_accuracy",
    "shuffled": "vision/shuffled_accuracy",
    "agreement": "judge/agreement",
    "compared": "judge/compared",
    "addressed": "judge/addressed",
    "used": "tools/used_share",
    "calls": "tools/calls",
    "left_out": "tools/truncated",
    "failed": "tools/errors",
    "gain": "tools/used_advantage",
}
RISE = np.linspace(0, 1, 100)
LATE = np.repeat([0.0, 1.0], (80, 20))
SICK = {  # diagnosis -> a series that has it, and what its evidence says
    "nothing_earned": (lines(reward=0.0, accuracy=0.0), "Every completion of steps 91 to 100 earned 0"),
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
    "answers_without_looking": (
        lines(own=0.6, blind=0.5, dependency=0.01),
        "greedy answers earn 0.5 with blank pictures and 0.6 with the rows' own over steps 91 to 100; vision",
    ),
    "time_not_used": (
        lines(ordered=0.6, shuffled=0.55),
        "greedy answers earn 0.55 with the frames of videos in another order and 0.6 in the true one over steps 91",
    ),
    "tool_never_used": (lines(calls=0.01), "tools/calls is 0.01 over steps 91 to 100, below 0.02"),
    "tool_left_out": (lines(used=0.0, calls=0.9, left_out=0.9), "tools/truncated is 0.9 over steps 91 to 100, above"),
    "tool_always_fails": (lines(used=0.6, failed=0.95), "tools/errors is 0.95 over steps 91 to 100, above 0.9"),
    "tool_without_need": (
        lines(used=0.8, gain=-0.2),
        "0.8 of the completions use a tool over steps 91 to 100, and their mean advantage is -0.2",
    ),
    "judge_disagrees": (lines(agreement=0.8, compared=50.0), "judge/agreement is 0.8 over 50 verdicts, below 0.9"),
    "judge_addressed": (lines(addressed=200 * RISE), "judge/addressed grew by 18 over steps 91 to 100"),
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
def test_a_few_steps_are_no_evidence_but_of_what_is_plainly_broken(name):
    assert [finding for finding in findings(SICK[name][0][-WINDOW + 1 :]) if not finding.is_early] == []


# The run of a user whose budget of 3 tokens ends each answer: metric -> its value in every step.
BROKEN = {
    "reward": 0.0,
    "reward_std": 0.0,
    "rewards/accuracy/mean": 0.0,
    "rewards/accuracy/std": 0.0,
    "frac_reward_zero_std": 1.0,
    "parse_rate": 0.0,
    "completions/clipped_ratio": 1.0,
    "grad_norm": 0.0,
}
PLAIN = {
    "nothing_earned": "Every completion of steps 1 to 6 earned 0",
    "zero_gradient": "The gradient was exactly 0 in all of steps 1 to 6",
    "zero_variance": "No group had a spread of rewards in any of steps 1 to 6",
    "truncated": "No completion reached its end in any of steps 1 to 6",
    "unparsed": "No answer could be read in any of steps 1 to 6",
}


def young(steps: int, **changes: float) -> list[dict]:
    return [{"step": step, **BROKEN, **changes} for step in range(1, steps + 1)]


def test_what_is_plainly_broken_is_said_after_the_first_steps():
    assert {finding.name: finding.evidence for finding in findings(young(6)) if finding.is_early} == PLAIN
    assert {name for name, d in DIAGNOSES.items() if d.early([]) is None and d.early(young(6))} == set(PLAIN)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("steps", [1, FIRST - 1, FIRST, WINDOW - 1, WINDOW, 40])
def test_a_plain_case_is_early_until_there_are_steps_enough(name, steps):
    found = {finding.name: finding for finding in findings(young(steps))}
    assert (name in found) == (steps >= FIRST)
    assert steps < FIRST or found[name].is_early == (steps < WINDOW)


@pytest.mark.parametrize("name", PLAIN)
def test_one_better_step_makes_a_young_run_no_plain_case(name):
    better = {"reward": 0.1, "reward_std": 0.1, "frac_reward_zero_std": 0.5, "parse_rate": 0.1, "grad_norm": 0.1}
    run = [*young(5), {"step": 6, **BROKEN, **better, "completions/clipped_ratio": 0.9}]
    assert name not in {finding.name for finding in findings(run)}


def test_rewards_whose_mean_is_0_by_chance_are_earned():
    """Rewards of +1 and -1, or two groups of one sign each."""
    for spread in ({"reward_std": 1.0}, {"rewards/accuracy/std": 1.0}):
        assert "nothing_earned" not in {finding.name for finding in findings(young(6, **spread))}


def test_an_early_finding_warns_once_and_ends_no_run(tmp_path, caplog):
    health = Health(str(tmp_path), ["truncated"])
    health.throttle = Throttle(seconds=1e9, share=0.01)  # however slow the machine is, a young run is looked at
    args, control = SimpleNamespace(), SimpleNamespace(should_training_stop=False, should_save=False)
    stopped = {}
    for step in range(1, WINDOW + 1):
        state = SimpleNamespace(global_step=step, max_steps=100, is_world_process_zero=True)
        health.on_log(args, state, control, {**BROKEN})
        stopped[step] = control.should_training_stop
    said = [text for text in warnings(caplog, "health") if "truncated" in text]
    assert len(said) == 1 and said[0].startswith(f"step {FIRST}: truncated: Completions are cut off. No completion")
    assert [step for step in stopped if stopped[step]] == [WINDOW] and health.stop_finding.name == "truncated"


BANDS = [
    (key, bound) for key, metric in HEALTH.items() for bound in ("low", "high") if getattr(metric, bound) is not None
]


@pytest.mark.parametrize("steps", [2, 6, 100])
@pytest.mark.parametrize(("key", "bound"), BANDS)
def test_nothing_looks_wrong_is_not_said_beside_a_value_outside_its_band(key, bound, steps):
    edge = getattr(HEALTH[key], bound)
    for value, is_well in ((edge, True), (edge + (0.01 if bound == "high" else -0.01), False)):
        run = [{"step": step, "reward": 0.5, key: value} for step in range(1, steps + 1)]
        said = " ".join(verdict(run, findings(run)))
        assert (f"{HEALTH[key].title} " in said) != is_well
        assert (said == "Nothing looks wrong in 100 steps.") == (is_well and steps == 100)
        assert ("too few to judge" in said) == (steps < WINDOW)


def test_a_young_run_that_is_broken_and_an_empty_one_are_not_called_well():
    assert verdict(young(6), findings(young(6))) == [
        "6 logged steps are too few to judge the rest: most checks need 10."
    ]
    assert verdict([], []) == ["0 logged steps are too few to judge: most checks need 10."]
    assert verdict(young(50), findings(young(50))) == []


@pytest.mark.parametrize("key", exact_metrics())
def test_schedules_and_counts_are_shown_as_they_are(key):
    falling = [{"step": step, key: 6e-7 - 1e-7 * step} for step in range(1, 6)]
    assert key not in HEALTH or newest_value(falling, key) == falling[-1][key]
    assert newest_value([{"step": 1, "reward": 0.0}, {"step": 2, "reward": 1.0}], "reward") < 1


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
    assert len(messages) == 1 and messages[0].startswith("step 3: zero_variance: Rewards without variance")
    assert "raise --temperature or --num_generations" in messages[0]
    assert warnings(caplog, "weight_updates") == []  # there was no step with a gradient
