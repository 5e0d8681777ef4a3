"""An evaluation whose answers a judge grades: its group calls, its cost, and whose verdicts are continued."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers.fake_endpoint import Reply, is_decoy, is_ranking, judge_prompt, ranking, serving, text_of
from helpers.preloaded import python, ranked
from helpers.repository import REPO
from rich.console import Console

from open_r1.data.jsonl_io import read_lines
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of, run_evaluation, show_summary
from open_r1.evaluation.grading_counts_file import counts_of_ranks
from open_r1.evaluation.predictions_file import PredictionsFile
from open_r1.rewards.judge.tally import TALLY
from open_r1.rewards.sandbox.worker_pool import count_lost


def same_digits(request: dict, served: int) -> Reply:
    """A judge that compares digits, in marks and in ranks."""
    nonce, data = judge_prompt(request)

    def is_right(text: str) -> bool:
        reference = data["reference"]
        return not is_decoy(f"{text} {reference}") and re.findall(r"\d", text) == re.findall(r"\d", reference)

    if is_ranking(request):
        return ranking(request, lambda text, place: float(is_right(text)))
    if "candidates" in data:
        marks = {name: is_right(text) for name, text in data["candidates"].items()}
        return Reply(json.dumps({"nonce": nonce, "verdicts": marks}), usage=(100, 10))
    return Reply(json.dumps({"nonce": nonce, "equal": is_right(data["candidate"])}), usage=(100, 10))


@pytest.fixture
def evaluate(tiny, digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`evaluate(server, *flags, JUDGE_...)` -> the summary of 6 rows with 4 samples each."""

    def run(server, *flags: str, **judge: str) -> dict:
        for name, value in {**server.environment(), "JUDGE_MODEL": "m", "JUDGE_IMAGES": "true", **judge}.items():
            monkeypatch.setenv(name, value)
        words = f"--model {tiny} --data_file_paths {digits}/heldout.jsonl --image_folders {digits} --limit 6"
        words += " --reward_method llm --num_samples 4 --temperature 1 --max_completion_length 30"
        return run_evaluation(parser_of(None).parse_args([*words.split(), *flags]))

    return run


@pytest.mark.parametrize("group", [*(pytest.param(way, marks=pytest.mark.slow) for way in ("false", "true")), "rank"])
def test_a_judge_grades_an_evaluation_and_its_cost_is_shown(evaluate, tmp_path, capsys, group):
    with serving(same_digits) as server:
        summary = evaluate(server, "--output_dir", str(tmp_path), JUDGE_GROUP=group, JUDGE_PRICE_IN="2")
        asked = [judge_prompt(request)[1] for request in server.requests]
        judged, lines = summary["judge"], read_lines(tmp_path / "predictions.jsonl")
        assert judged["judge/calls"] == len(asked) and judged["judge/tokens_in"] == 100 * len(asked)
        assert judged["judge/cost"] == pytest.approx(200 * len(asked) / 1e6) and judged["judge/agreement"] == 1.0
        assert all("image_url" in str(request["messages"]) for request in server.requests)
        companies = sum("candidates" in data and len(data["candidates"]) > 3 for data in asked)
        assert (companies > 2) == (group != "false")
        right = [re.findall(r"\d", line["parsed"] or "") == re.findall(r"\d", line["solution"]) for line in lines]
        assert [line["score"] == 1 for line in lines] == right and any(right) and not all(right)
        assert summary["settings"]["judge"]["$JUDGE_GROUP"] == group
        assert summary["settings"]["judge_endpoint"] == server.url
        show_summary(summary, Console())
        assert f"judge: calls {len(asked)}, tokens_in {100 * len(asked)}" in capsys.readouterr().out
        before = len(server.requests)
        again = evaluate(server, "--output_dir", str(tmp_path), JUDGE_GROUP=group)
        assert again["think"] == summary["think"] and len(server.requests) == before + 1  # the trial question
        with pytest.raises(UsageError, match=r"got predictions of another evaluation.*JUDGE_MODEL"):
            evaluate(server, "--output_dir", str(tmp_path), JUDGE_GROUP=group, JUDGE_MODEL="other")


def test_a_judge_that_rows_name_themselves_is_recorded_too(tiny, digits, tmp_path, monkeypatch):
    rows = [row | {"accu_reward_method": "llm"} for row in read_lines(digits / "heldout.jsonl")][:2]
    (digits / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = f"--model {tiny} --data_file_paths {digits}/judged.jsonl --image_folders {digits} --task digits "
    flags += f"--max_completion_length 20 --output_dir {tmp_path}"
    with serving(same_digits) as server:
        for name, value in {**server.environment(), "JUDGE_MODEL": "m"}.items():
            monkeypatch.setenv(name, value)
        summary = run_evaluation(parser_of(None).parse_args(flags.split()))
        assert summary["settings"]["judge"] == {"$JUDGE_MODEL": "m"}
        assert summary["settings"]["judge_endpoint"] == server.url
        monkeypatch.setenv("JUDGE_MODEL", "other")
        with pytest.raises(UsageError, match=r"got predictions of another evaluation.*JUDGE_MODEL"):
            run_evaluation(parser_of(None).parse_args(flags.split()))


def test_saved_completions_are_judged_in_groups(tmp_path, monkeypatch):
    answers = ("it is 7", "7!", "8", "<answer>seven 7</answer>")
    rows = [{"completion": text, "gold": "[7]", "question": "Which digit?"} for text in answers]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(same_digits) as server:
        for name, value in {**server.environment(), "JUDGE_MODEL": "m", "JUDGE_GROUP": "true"}.items():
            monkeypatch.setenv(name, value)
        flags = f"--from_predictions {tmp_path}/rows.jsonl --reward_method llm --output_dir {tmp_path}"
        summary = run_evaluation(parser_of(None).parse_args(flags.split()))
        texts = [text_of(request["messages"][-1]) for request in server.requests]
    assert summary["think"]["accuracy"] == 0.75 and summary["judge"]["judge/calls"] == len(texts)
    assert sum('"candidates"' in text for text in texts) == 1
    assert summary["settings"]["judge"] == {"$JUDGE_MODEL": "m", "$JUDGE_GROUP": "true"}


def counted(folder: Path) -> tuple[float, int]:
    """(calls of the judge, timeouts) that a folder's files hold."""
    counts = counts_of_ranks(folder)
    return counts["judge"]["calls"], counts["grading"]["timeouts"]


def test_counts_of_all_ranks_and_starts_are_summed(tmp_path):
    for start in range(2):  # the second one goes on where the first was killed
        for rank, calls in enumerate((2, 3)):
            predictions = PredictionsFile(tmp_path, {"model": "m"}, samples=1, rank=rank)
            TALLY.add("calls", calls)
            count_lost("timeouts", rank)
            predictions.add([{"mode": "think", "row": f"a:{2 * start + rank}", "sample": 0}])
    assert counted(tmp_path) == (10, 2)
    PredictionsFile(tmp_path, {"model": "m"}, samples=1).join({("think", f"a:{row}"): row for row in range(4)})
    assert counted(tmp_path) == (10, 2)
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["gradings.jsonl", "predictions.jsonl"]
    PredictionsFile(tmp_path, {"model": "other"}, samples=1, overwrite=True)
    assert counted(tmp_path) == (0, 0)


@pytest.mark.distributed
def test_calls_of_two_ranks_are_shown(tiny, digits, tmp_path):
    command = [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "eval/evaluate.py"]
    command += f"--model {tiny} --data_file_paths {digits}/heldout.jsonl --image_folders {digits} --limit 8".split()
    command += f"--reward_method llm --output_dir {tmp_path} --batch_size 2 --max_completion_length 30".split()
    command += ["--num_samples", "4", "--temperature", "1"]
    with serving(same_digits) as server:
        env = {**os.environ, **ranked(), **server.environment(), "JUDGE_MODEL": "m"}
        done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        calls = len(server.requests)
    assert json.loads((tmp_path / "summary.json").read_text())["judge"]["judge/calls"] == calls
    assert f"judge: calls {calls}, tokens_in {100 * calls}" in done.stdout and calls > 8
