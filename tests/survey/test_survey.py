"""The survey: through its command, on the tiny model; figures by hand; filtered files that training reads again."""

import itertools
import json
import math
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from helpers.clips import clip_rows, tiny_with_videos
from helpers.preloaded import python, ranked
from helpers.repository import REPO
from PIL import Image

from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.jsonl_io import read_lines
from open_r1.data.record import parse_row
from open_r1.errors import DataError
from open_r1.report.run_folder import total_reward
from open_r1.rewards.spread import RewardSum
from open_r1.rollout.other_pictures import donor_of, fitted_pictures
from open_r1.survey.conclusions import survey_findings
from open_r1.survey.figures import SurveyedRow, budgets, spread_probability
from open_r1.survey.filtered import write_filtered
from open_r1.survey.flags import parse_survey
from open_r1.survey.run import main

REWARDS = REPO / "tests" / "helpers" / "picture_rewards.py"


def words(tiny, folder: Path, out: Path, *more: object, data: str = "train.jsonl") -> list[str]:
    files = ":".join(str(folder / name) for name in data.split(":"))
    flags = ["--model", tiny, "--data_file_paths", files, "--image_folders", str(folder), "--output_dir", str(out)]
    flags += ["--max_completion_length", "40", "--num_generations", "4", "--per_device_train_batch_size", "8"]
    flags += [] if "--task_type" in more else ["--task_type", "digits"]
    return [*flags, "--samples", "4", "--picture_samples", "1", *map(str, more)]


def figures(out: Path) -> dict:
    return json.loads((out / "survey.json").read_text())


def completions(out: Path, look: str = "answers") -> list[str]:
    return [line["completion"] for line in read_lines(out / look / "predictions.jsonl")]


@pytest.fixture(scope="module")
def whole(tiny, digits, tmp_path_factory):
    """A survey of 12 of 64 rows that nobody disturbed."""
    out = tmp_path_factory.mktemp("survey") / "digits"
    assert main(words(tiny, digits, out, "--rows", 12)) == 0
    return out


# ------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("values", ["0001", "0011", "0123", "0000", "__01", "__00", "____", "_000"])
def test_the_chance_of_spread_is_the_share_of_all_groups_that_have_it(values):
    row = [None if value == "_" else int(value) for value in values]
    for group in (2, 3, 4):
        groups = list(itertools.combinations(row, group))
        spread = [len({value for value in one if value is not None}) > 1 for one in groups]
        assert spread_probability(row, group) == pytest.approx(sum(spread) / len(groups))
    with pytest.raises(ValueError, match="a group of 5"):
        spread_probability(row, 5)


def test_the_estimate_is_without_bias():
    """The mean over all outcomes of 4 coins is the chance of spread in 3 of them."""
    outcomes = list(itertools.product((0, 1), repeat=4))
    p = 0.3
    weights = [p ** sum(one) * (1 - p) ** (4 - sum(one)) for one in outcomes]
    mean = sum(weight * spread_probability(one, 3) for one, weight in zip(outcomes, weights, strict=True))
    assert mean == pytest.approx(1 - p**3 - (1 - p) ** 3)


def test_groups_teach_by_the_weighted_sum_or_by_each_reward():
    said = [{"accuracy": 1.0, "format": 0.0, "mine": None}, {"accuracy": 0.0, "format": 1.0, "mine": None}]
    for weights, aggregation, spread in (
        ([1, 1, 1], "sum_then_normalize", 0),
        ([1, 2, 1], "sum_then_normalize", 1),
        ([1, 1, 1], "normalize_then_sum", 1),
        (None, "sum_then_normalize", 0),
    ):
        reward_sum = RewardSum(weights, aggregation)
        assert spread_probability([reward_sum.value([*each.values()]) for each in said], 2) == spread
    assert RewardSum(None, "sum_then_normalize").value([None]) is None


def test_budgets_count_what_is_cut_and_what_is_right_within():
    lines = [{"tokens": n, "truncated": n == 40, "right": True} for n in (10, 16, 17, 40)]
    cut = {part["tokens"]: (part["truncated"], part["right"]) for part in budgets(lines, 40)}
    assert cut == {16: (0.5, 0.5), 32: (0.25, 0.75), 40: (0.25, 1.0)}


@pytest.mark.slow
def test_findings_are_about_what_is_wrong_alone(whole):
    found = figures(whole)
    sound = found | {
        "teach": {"share": 0.8, "low": 0.7, "high": 0.9},
        "budgets": [{"tokens": 40, "truncated": 0.0}],
        "parse_rate": 1.0,
        "format_rate": 1.0,
        "sight": {},
    }
    assert survey_findings(sound) == []
    blind = {"shown": {"share": 0.5}, "own": {"share": 0.5, "rows": 90}, "gain": {"low": -0.1}}
    wrong = {
        "teach": {"share": 0.1, "low": 0.0, "high": 0.2},
        "dead": {"none_right": 9, "all_right": 1, "others": 0},
        "budgets": [{"tokens": 40, "truncated": 0.5}],
        "parse_rate": 0.1,
        "sight": {"blank": blind, "shuffled_frames": blind},
    }
    names = [finding.name for finding in survey_findings(sound | wrong)]
    assert names == ["few_groups_teach", "truncated", "unread", "answers_without_looking", "time_not_used"]
    needs_time = blind | {"shown": {"share": 0.4}, "gain": {"low": 0.02}}
    assert survey_findings(sound | {"sight": {"shuffled_frames": needs_time}}) == []


# ------------------------------------------------------------------------------------------------------------- command


def test_the_page_and_the_figures_say_what_the_answers_are(whole, digits):
    found, lines = figures(whole), read_lines(whole / "answers" / "predictions.jsonl")
    rows: dict[str, list[dict]] = {}
    for line in lines:
        rows.setdefault(line["row"], []).append(line)
    assert len(rows) == found["rows"] == 12 and found["rows_of_data"] == 64 and len(lines) == 48
    assert found["accuracy"]["share"] == pytest.approx(sum(line["right"] for line in lines) / 48)
    counts = Counter(sum(line["right"] for line in row) for row in rows.values())
    assert found["rate_counts"] == [counts[right] for right in range(5)]
    spread = [len({total_reward(line["rewards"], [1, 1]) for line in row}) > 1 for row in rows.values()]
    assert found["teach"]["share"] == pytest.approx(sum(spread) / 12)
    assert found["teach"]["low"] < found["teach"]["share"] < found["teach"]["high"] or not 0 < sum(spread) < 12
    assert sum(found["dead"].values()) == 12 - sum(spread)
    assert set(found["sight"]) == {"blank", "other"} and found["text_only"] == found["no_other"] == 0
    assert found["sight"]["blank"]["own"]["share"] == pytest.approx(found["accuracy"]["share"])
    page = (whole / "survey.html").read_text()
    assert "Groups of 4 that would teach" in page and "most_frequent" in page and "<script" not in page
    chosen = sorted(int(label.partition(":")[2]) for label in rows)
    assert chosen != list(range(1, 13)) and chosen == [int(row.partition(":")[2]) for row in rows]


def test_the_tiny_model_needs_the_picture(whole):
    sight = figures(whole)["sight"]
    for view in ("blank", "other"):
        assert sight[view]["shown"]["share"] < sight[view]["own"]["share"] - 0.1


@pytest.mark.slow
def test_a_stopped_survey_goes_on_and_more_rows_keep_the_answers(whole, tiny, digits, tmp_path, capsys):
    lines = (whole / "answers" / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    out = tmp_path / "again"
    (out / "answers").mkdir(parents=True)
    (out / "answers" / "evaluation.json").write_bytes((whole / "answers" / "evaluation.json").read_bytes())
    (out / "answers" / "predictions.jsonl").write_bytes(b"".join(lines[:-6]) + lines[-6][:30])
    assert main(words(tiny, digits, out, "--rows", 14)) == 0
    answers = read_lines(out / "answers" / "predictions.jsonl")
    again = {(line["row"], line["sample"]): line["completion"] for line in answers}
    kept = [json.loads(line) for line in lines[:-8]]
    assert len(again) == 56 and all(again[line["row"], line["sample"]] == line["completion"] for line in kept)
    said = capsys.readouterr().out
    assert "groups of 4 that would teach" in said and str(out / "survey.html") in said
    train, price = said.splitlines()[-2:]
    assert "src/open_r1/grpo_jsonl.py --model_name_or_path" in train and "--gpu" in price
    assert main(words(tiny, digits, out, "--rows", 14, "--temperature", 0.7)) == 2
    assert "temperature was 1.0, is 0.7" in capsys.readouterr().err


@pytest.mark.slow
def test_users_rewards_and_weights_are_those_of_training(tiny, digits, tmp_path):
    rewards = ["--reward_funcs", "accuracy", f"{REWARDS}:short", f"{REWARDS}:as_seen", "--reward_weights", 1, 0.5, 2]
    assert main(words(tiny, digits, tmp_path / "out", "--rows", 3, "--picture_samples", 0, *rewards)) == 0
    lines = read_lines(tmp_path / "out" / "answers" / "predictions.jsonl")
    records = load_records(str(digits / "train.jsonl"), str(digits))
    for line in lines:
        record = records[int(line["row"].partition(":")[2]) - 1]
        width = Image.open(digits / record.images[0]).size[0]
        assert line["rewards"] == {
            "accuracy": line["score"],
            "short": 1.0 if len(line["completion"]) < 40 else 0.25,
            "as_seen": pytest.approx(line["tokens"] + width / 1000),
        }
    found = figures(tmp_path / "out")
    assert found["rewards"]["as_seen"]["weight"] == 2 and found["sight"] == {}


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.slow
def test_rows_with_several_pictures_and_without(tiny, few, tmp_path):
    """Rows with one image, none, two and one."""
    out = tmp_path / "mixed"
    assert main(words(tiny, few.parent, out, "--task_type", "default", "--num_generations", 2, data=few.name)) == 0
    found = figures(out)
    assert found["rows"] == 4 and found["text_only"] == 1 and found["no_other"] == 0
    assert [len(completions(out, f"answers{look}")) for look in ("", "-blank", "-other")] == [16, 3, 3]


def test_another_row_shows_none_of_the_rows_pictures_in_the_rows_size(mixed):
    records = load_records(str(mixed), str(mixed.parent))
    for record in (records[row] for row in range(9)):
        donor = donor_of(record, records, seed=3)
        assert (donor is None) == (not record.images)
        if donor:
            assert donor.images and not set(donor.images) & set(record.images)
            assert donor.solution != record.solution  # right answers with its pictures are no sight
            sizes = [(168, 84), (40, 60)][: len(record.images)]
            shown = fitted_pictures(load_images([donor])[0], [Image.new("RGB", size) for size in sizes])
            assert [picture.size for picture in shown] == sizes
    assert donor_of(records[0], records.select([0, 0, 1]), seed=0) is None  # no other picture
    assert donor_of(records[0], records, 1) != donor_of(records[0], records, 2)


# ------------------------------------------------------------------------------------------------------ filtered files


def test_filtered_files_keep_order_and_fields_and_are_read_again(digits, tmp_path):
    names = ("one", "two")
    for name in names:
        (tmp_path / name).mkdir()
    lines = (digits / "train.jsonl").read_bytes().splitlines(keepends=True)[:6]
    odd = json.dumps({**json.loads(lines[2]), "x": 1.0, "survey_rate": 0.1}).encode() + b"\n"
    first = tmp_path / "one" / "train.jsonl"
    first.write_bytes(b"\xef\xbb\xbf" + lines[0] + b"\n" + lines[1] + odd)
    second = tmp_path / "two" / "train.jsonl"
    second.write_bytes(b"".join(lines[3:]))
    data = load_records([str(first), str(second)], str(digits))
    alive, dead = SurveyedRow("a", 0.25, (0, 1, 0, 0)), SurveyedRow("b", 1.0, (2, 2, 2, 2))
    files = write_filtered(data, {(0, 1): alive, (0, 3): dead, (0, 4): alive, (1, 2): dead}, tmp_path / "rows")
    assert [(file.path.name, file.kept, file.left_out) for file in files] == [
        ("1-train.jsonl", 2, 1),
        ("2-train.jsonl", 2, 1),
    ]
    again = load_records([str(file.path) for file in files], str(digits))
    ids = [json.loads(line)["id"] for line in lines]
    assert [record.id for record in again] == [ids[0], ids[2], ids[3], ids[5]]
    assert [record.extra.get("survey_rate") for record in again] == [0.25, 0.25, None, None]
    assert [record.extra.get("survey_samples") for record in again] == [4, 4, None, None]
    assert again[1].extra["x"] == 1.0 and files[1].path.read_bytes() == lines[3] + lines[5]
    everything = write_filtered(data, {(1, line): dead for line in (1, 2, 3)}, tmp_path / "none")
    assert [file.path.name for file in everything] == ["1-train.jsonl"]
    assert not (tmp_path / "none" / "2-train.jsonl").exists()


@pytest.mark.parametrize("rate", [1.5, -0.1, "half", True])
def test_a_rate_that_no_survey_writes_is_refused(rate):
    with pytest.raises(DataError, match=r"a.jsonl:1: survey_rate: got .* expected a success rate from 0 to 1"):
        parse_row({"problem": "1+1?", "solution": 2, "survey_rate": rate}, "a.jsonl:1", 1)


def test_the_filtered_file_is_data_again(whole, tiny, digits, tmp_path):
    (file,) = figures(whole)["files"]
    records = load_records(file["path"], str(digits))
    assert len(records) == file["rows"] == 64 - sum(figures(whole)["dead"].values())
    rates = [record.extra["survey_rate"] for record in records if "survey_rate" in record.extra]
    assert len(rates) == 12 - file["left_out"]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "more, message",
    [
        (["--samples", 3], "--samples: got 3, but whether a group of --num_generations 4"),
        (["--rows", 0], "--rows: got 0, but the least is 1"),
        (["--gpu_price", 2], "--gpu_price: got 2, but a price is above 0 and of a card"),
        (["--model_name_or_path", "x"], "--model: got a name beside --model_name_or_path"),
        (["--reward_weights", 1], "--reward_weights: got 1, but the run has 2 rewards"),
        (["--reward_funcs", f"{REWARDS}:of_trainer"], "asks for trainer_state, but a survey has no trainer"),
        (["--temperature", 0], "--temperature: got 0"),
        (["--backend", "transformers", "--max_model_len", 9], "--max_model_len: got --backend transformers"),
        (["--model_revision", "v2"], "--model_revision: got v2"),
    ],
)
def test_what_cannot_act_is_refused_first(tiny, digits, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.setattr("open_r1.evaluation.run.backend_class", None)
    assert main(words(tiny, digits, tmp_path / "out", *more)) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_flag_that_no_run_has_and_a_runs_folder_are_refused(tiny, digits, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words(tiny, digits, tmp_path / "out", "--row", 3))
    assert "--row" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").touch()
    assert main(words(tiny, digits, tmp_path)) == 2
    assert "which holds a run (metrics.jsonl)" in capsys.readouterr().err


def test_the_flags_of_a_run_on_gpus_are_those_of_its_survey(tiny, digits, tmp_path):
    more = ("--deepspeed", "local_scripts/zero3.json", "--bf16", "true", "--attn_implementation", "flash_attention_2")
    more += ("--use_vllm", "true", "--vllm_mode", "server", "--optim", "adamw_8bit", "--top_p", 0.9, "--min_p", 0.1)
    more += ("--generation_kwargs", '{"presence_penalty": 0.5}', "--num_generations", 16)
    more += ("--per_device_train_batch_size", 16, "--gradient_accumulation_steps", 4, "--nproc", 8, "--samples", 24)
    plan = parse_survey(words(tiny, digits, tmp_path / "out", *more))
    assert plan.settings.backend == "vllm" and plan.settings.attn_implementation == "flash_attention_2"
    assert plan.settings.generation_kwargs == {"presence_penalty": 0.5}
    assert (plan.settings.top_p, plan.settings.min_p, plan.samples, plan.step_completions) == (0.9, 0.1, 24, 512)


# --------------------------------------------------------------------------------------------------------------- ranks


@pytest.mark.slow
def test_two_ranks_under_torchrun_answer_every_row_once(whole, tiny, digits, tmp_path):
    out = tmp_path / "ranks"
    more = ("--rows", 12, "--batch_size", 8)
    command = [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command += ["open_r1.survey", *words(tiny, digits, out, *more)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=ranked())
    assert done.returncode == 0, done.stderr[-3000:]
    alone = tmp_path / "alone"
    assert main(words(tiny, digits, alone, *more)) == 0
    for look in ("answers", "answers-blank", "answers-other"):
        assert completions(out, look) == completions(alone, look)
    same = {"files", "model"}
    assert {k: v for k, v in figures(out).items() if k not in same} == {
        k: v for k, v in figures(alone).items() if k not in same
    }


# --------------------------------------------------------------------------------------------------------------- hours


def test_hours_are_those_of_the_mean_and_of_the_longest_completion(whole, tiny, digits, monkeypatch, capsys):
    """The answers are there already: the same command with a card adds them."""
    lengths = []

    def rehearsed(plan, tokens):
        lengths.append(tokens)
        times = {"steps": 100, "step_seconds": tokens / 10, "hours": tokens / 36, "price": None, "fits": tokens < 40}
        return times | {"left_out": ["probes", "prefills of noisy pictures and videos"]}

    monkeypatch.setattr("open_r1.survey.run.rehearsed_times", rehearsed)
    monkeypatch.setattr("open_r1.evaluation.run.backend_class", None)  # no model is loaded
    assert main(words(tiny, digits, whole, "--rows", 12, "--gpu", "a100-80")) == 0
    assert lengths == [40, math.ceil(figures(whole)["tokens"]["mean"])]
    said = capsys.readouterr().out
    assert "longest length: 100 steps of 4.0 s, 1.11 h; its largest peak DOES NOT FIT the card" in said
    for text in ("100 steps of 4.0 s", "Not in these hours: probes, prefills of noisy pictures and videos"):
        assert text in said and text in (whole / "survey.html").read_text()


@pytest.mark.slow
def test_hours_and_price_are_a_rehearsals(tiny, digits, tmp_path):
    """A pasted command may have flags that a rehearsal does not know, on the line and in its file."""
    config = tmp_path / "run.yaml"
    config.write_text("vision_probe: 10\nstop_on: [answers_without_looking]\nperception_coef: 0.01\n")
    more = ("--rows", 2, "--picture_samples", 0, "--gpu", "a100-80", "--gpu_price", 2, "--nproc", 8)
    more += ("--config", config, "--resample_zero_variance", 2, "--noisy_rollouts", 0.5, "--noise_step", 400)
    assert main(words(tiny, digits, tmp_path, *more, "--max_steps", 100, "--max_completion_length", 4)) == 0
    times = figures(tmp_path)["hours"]["longest"]
    assert times["steps"] == 100 and times["completions"] == 64 and times["fits"]
    assert times["hours"] == pytest.approx(times["step_seconds"] * 100 / 3600)
    assert times["price"] == pytest.approx(times["hours"] * 8 * 2)
    assert times["left_out"] == [
        "rollouts of the groups that replace those without spread",
        "probes",
        "passes with masked pictures",
        "prefills of noisy pictures and videos",
    ]


@pytest.mark.slow
def test_rows_with_videos_are_surveyed_with_frames_out_of_order_too(tmp_path, capsys):
    model, clips = tiny_with_videos(tmp_path / "model"), clip_rows(tmp_path, 4)
    with open(clips, "a") as file:
        file.write(json.dumps({"problem": "1 + 1?", "solution": "2"}) + "\n")
    flags = ("--task_type", "default", "--max_completion_length", "4", "--num_generations", "2", "--samples", "2")
    assert main(words(str(model), tmp_path, tmp_path / "out", *flags, data=clips.name)) == 0
    found = figures(tmp_path / "out")
    assert (found["with_videos"], found["text_only"], found["no_other"]) == (4, 1, 0)
    assert {view: part["own"]["rows"] for view, part in found["sight"].items()} == {
        "blank": 4,
        "other": 4,
        "shuffled_frames": 4,
    }
    page = (tmp_path / "out" / "survey.html").read_text()
    assert "Frames out of order: 0.000" in page and "1 rows without a picture or video are left out" in page
    assert page.count('class="film"') == 4  # no completion is right
    assert "accuracy with frames out of order" in capsys.readouterr().out
