"""The evaluator: the same figures batched, killed and continued, shared out to ranks, and by vLLM."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from helpers.preloaded import python, ranked
from helpers.repository import REPO, run_script
from helpers.scripted_tools import Scripted
from transformers import AutoModelForImageTextToText, AutoProcessor

from open_r1.data.chat import messages, with_images
from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.jsonl_io import read_lines
from open_r1.errors import DataError, Problem, UsageError
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.evaluation.predictions_file import PredictionsFile
from open_r1.evaluation.prefetch import load_in_processes
from open_r1.evaluation.settings import settings_of, split_names
from open_r1.tasks.recipe import Recipe, read_recipe
from open_r1.tasks.registry import TASKS

RUN_ONLY = {"generation_seconds", "wall_seconds"}


def flags(tiny, folder: Path, out: Path, *more: object, data: str = "heldout.jsonl") -> list[str]:
    words = ["--model", tiny, "--data_file_paths", ":".join(str(folder / name) for name in data.split(":"))]
    words += ["--image_folders", str(folder), "--output_dir", str(out), "--max_completion_length", "40"]
    return [*words, *([] if "--task" in more else ["--task", "digits"]), *map(str, more)]


def evaluate(*args, **kwargs):
    return run_evaluation(parser_of(None).parse_args(flags(*args, **kwargs)))


def figures(summary):
    return {name: value for name, value in summary.items() if name not in RUN_ONLY}


def completions(out: Path) -> list[str]:
    return [line["completion"] for line in read_lines(out / "predictions.jsonl")]


@pytest.fixture(scope="module")
def whole(tiny, digits, tmp_path_factory):
    """An evaluation that nobody disturbed: (folder, summary)."""
    out = tmp_path_factory.mktemp("whole")
    return out, evaluate(tiny, digits, out, "--batch_size", 16)


def test_greedy_completions_are_those_of_plain_generate(tiny, digits, whole):
    """One row at a time, without any padding, the prompt as a user of transformers would make it."""
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(tiny)
    records = load_records(str(digits / "heldout.jsonl"), str(digits))
    texts = []
    for record in (records[row] for row in range(12)):
        chat = with_images(messages(record, TASKS["digits"].prompts["think"]), load_images([record])[0])
        inputs = processor.apply_chat_template(
            [chat], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        ids = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        texts.append(processor.decode(ids, skip_special_tokens=True))
    assert completions(whole[0])[:12] == texts


def test_the_summary_counts_the_lines(whole):
    out, summary = whole
    lines, part = read_lines(out / "predictions.jsonl"), summary["think"]
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [line["row"] for line in lines] == [f"heldout:{n}" for n in range(1, 65)]
    assert part["n"] == 64 and part["accuracy"] == sum(line["right"] for line in lines) / 64
    assert part["low"] < part["accuracy"] < part["high"]
    assert part["mean_tokens"] == sum(line["tokens"] for line in lines) / 64
    assert part["parse_rate"] == part["format_rate"] == 1.0 and part["truncated"] == 0.0
    assert set(part["splits"]) == {"heldout"} and part["tasks"]["digits"]["n"] == 64
    assert summary["settings"]["max_pixels"] and summary["generation_seconds"] > 0


@pytest.mark.slow
def test_several_files_tasks_and_modes(tiny, digits, mixed, tmp_path):
    more = ("--task", "digits:default", "--prompt_mode", "both", "--limit", 5, "--by", "kind", "--batch_size", 7)
    summary = evaluate(tiny, digits, tmp_path, *more, data="heldout.jsonl:mixed.jsonl")
    assert list(summary)[:2] == ["think", "direct"]
    for mode in ("think", "direct"):
        part = summary[mode]
        assert {name: p["n"] for name, p in part["splits"].items()} == {"heldout": 5, "mixed": 5}
        assert {name: p["n"] for name, p in part["tasks"].items()} == {"digits": 5, "default": 5}
        assert sum(p["n"] for p in part["by"]["kind"].values()) == 10
    assert len(read_lines(tmp_path / "predictions.jsonl")) == 20


@pytest.mark.slow
def test_samples_give_pass_at_k_and_are_the_same_again(tiny, digits, tmp_path):
    more = ("--num_samples", 4, "--limit", 6, "--batch_size", 8, "--seed", 3)
    first, again = (evaluate(tiny, digits, tmp_path / name, *more)["think"] for name in ("a", "b"))
    assert first == again and completions(tmp_path / "a") == completions(tmp_path / "b")
    assert first["samples"] == 4 and list(first["pass_at"]) == ["1", "2", "4"]
    assert first["pass_at"]["1"] == pytest.approx(first["accuracy"])
    assert first["pass_at"]["1"] <= first["pass_at"]["2"] <= first["pass_at"]["4"]
    other = evaluate(tiny, digits, tmp_path / "c", *more[:-1], 4)["think"]
    assert other["n"] == 6 and completions(tmp_path / "c") != completions(tmp_path / "a")


def test_a_truncated_completion_is_wrong_and_counted(tiny, digits, tmp_path):
    words = flags(tiny, digits, tmp_path, "--limit", 4)
    words[words.index("40")] = "3"
    part = run_evaluation(parser_of(None).parse_args(words))["think"]
    assert part["truncated"] == 1.0 and part["mean_tokens"] == 3 and part["accuracy"] == part["parse_rate"] == 0


# ---------------------------------------------------------------------------------------------- going on after a crash


@pytest.mark.parametrize("kept", [0, *(pytest.param(kept, marks=pytest.mark.slow) for kept in (1, 17, 63)), 64])
def test_what_is_there_is_not_asked_again_and_the_end_is_the_same(tiny, digits, whole, tmp_path, kept):
    """`kept` whole lines and half of the next one are left of the file."""
    out, summary = whole
    lines = (out / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "predictions.jsonl").write_bytes(b"".join(lines[:kept]) + b"".join(lines[kept : kept + 1])[:40])
    (tmp_path / "evaluation.json").write_bytes((out / "evaluation.json").read_bytes())
    again = evaluate(tiny, digits, tmp_path, "--batch_size", 16)
    assert figures(again) == figures(summary) and completions(tmp_path) == completions(out)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(tiny, digits, whole, tmp_path):
    command = [python(), str(REPO / "eval/evaluate.py"), *flags(tiny, digits, tmp_path, "--batch_size", 1)]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = tmp_path / "predictions.jsonl"
    while process.poll() is None and not (file.exists() and file.read_bytes().count(b"\n") >= 8):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = file.read_bytes().count(b"\n")
    assert 8 <= left < 64 and not (tmp_path / "summary.json").exists()
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert figures(json.loads((tmp_path / "summary.json").read_text()))["think"] == whole[1]["think"]


@pytest.mark.slow
def test_predictions_made_otherwise_are_refused_or_dropped(tiny, digits, tmp_path):
    evaluate(tiny, digits, tmp_path, "--limit", 2)
    with pytest.raises(UsageError, match=r"prompt_mode was 'think', is 'direct'.*--overwrite"):
        evaluate(tiny, digits, tmp_path, "--limit", 2, "--prompt_mode", "direct")
    summary = evaluate(tiny, digits, tmp_path, "--limit", 2, "--prompt_mode", "direct", "--overwrite")
    assert "think" not in summary and summary["direct"]["n"] == 2


@pytest.mark.slow
def test_a_larger_limit_goes_on_and_a_smaller_one_counts_less(tiny, digits, tmp_path):
    for limit in (4, 9, 2):
        assert evaluate(tiny, digits, tmp_path, "--limit", limit)["think"]["n"] == limit
    assert len(read_lines(tmp_path / "predictions.jsonl")) == 9


def test_a_picture_that_cannot_be_read_is_named(tiny, digits, tmp_path):
    """Pictures are opened in other processes; rows before it are kept."""
    (tmp_path / "bad.png").write_bytes(b"\x89PNG broken")
    shutil.copy(next((digits / "images").glob("*.png")), tmp_path / "good.png")
    names = ["good.png", "good.png", "bad.png"]
    rows = [{"problem": "Which?", "solution": "1", "image": name} for name in names]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"rows\.jsonl:3: .*bad\.png"):
        evaluate(tiny, tmp_path, tmp_path / "out", "--batch_size", 1, data="rows.jsonl")
    assert [line["row"] for line in read_lines(tmp_path / "out" / "predictions.jsonl")] == ["rows:1", "rows:2"]


# ---------------------------------------------------------------------------------------------- several ranks


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_any_number_of_ranks_gives_each_row_once(tiny, digits, whole, tmp_path, monkeypatch, ranks):
    """Ranks meet through files alone, so they can run one after the other here; rank 0, which joins, is the last."""
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    for rank in reversed(range(ranks)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        summary = evaluate(tiny, digits, tmp_path, "--batch_size", 16)
        assert (summary is None) == (rank > 0)
    assert figures(summary)["think"] == whole[1]["think"] and completions(tmp_path) == completions(whole[0])
    assert [path.name for path in sorted(tmp_path.glob("predictions*"))] == ["predictions.jsonl"]


@pytest.mark.slow
def test_what_three_ranks_left_two_go_on_with(tiny, digits, whole, tmp_path, monkeypatch):
    for ranks, started in ((3, (2, 1)), (2, (1, 0))):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        for rank in started:
            monkeypatch.setenv("RANK", str(rank))
            summary = evaluate(tiny, digits, tmp_path, "--batch_size", 16)
    assert figures(summary)["think"] == whole[1]["think"] and completions(tmp_path) == completions(whole[0])


@pytest.mark.distributed
def test_under_torchrun(tiny, digits, whole, tmp_path):
    command = [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(REPO / "eval/evaluate.py"), *flags(tiny, digits, tmp_path, "--batch_size", 16)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=ranked())
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("accuracy") == 1
    assert figures(json.loads((tmp_path / "summary.json").read_text()))["think"] == whole[1]["think"]


def test_rank_0_does_not_wait_for_ever(tmp_path):
    journal = PredictionsFile(tmp_path, {}, samples=1)
    with pytest.raises(UsageError, match="1 rows of other ranks did not come"):
        journal.wait([("think", "a:1")], seconds=0.3)


# ---------------------------------------------------------------------------------------------- settings


def parsed(*words: object):
    required = ["--data_file_paths", "a.jsonl", "--output_dir", "out"]
    return settings_of(parser_of(None).parse_args([*required, *map(str, words)]))


def test_a_checkpoint_says_how_it_was_trained(tmp_path):
    Recipe("rec", "direct", "od_ap", 77).save(tmp_path)
    settings = parsed("--model", tmp_path)
    assert (settings.tasks, settings.prompt_mode, settings.methods) == (["rec"], "direct", ["od_ap"])
    assert settings.max_completion_length == 77
    by_flags = parsed("--model", tmp_path, "--task", "digits", "--prompt_mode", "think", "--max_completion_length", 5)
    assert (by_flags.tasks, by_flags.prompt_mode, by_flags.methods) == (["digits"], "think", ["digits"])
    assert by_flags.max_completion_length == 5


def test_a_model_without_a_recipe_gets_what_training_would_give(tiny):
    assert read_recipe(tiny) == Recipe()
    settings = parsed("--model", tiny)
    assert (settings.tasks, settings.prompt_mode, settings.max_completion_length) == (["default"], "think", 2048)


REFUSED = {
    "--num_samples 4 --temperature 0": "--num_samples: got 4 at --temperature 0.0",
    "--num_samples 0": "--num_samples: got 0",
    "--batch_size -1": "--batch_size: got -1, expected at least 1",
    "--task rec:od": "--task: value: got 2 entries for 1 file",
    "--data_file_paths a.jsonl:b.jsonl:a.jsonl": "--data_file_paths: got a.jsonl twice",
    "--task recc": "did you mean 'rec'",
    "--reward_method mccq": "did you mean 'mcq'",
    "--tensor_parallel_size 2": "act with --backend vllm only",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_act_is_refused(tiny, words):
    with pytest.raises(ValueError, match=REFUSED[words].replace("(", r"\(")):
        parsed("--model", tiny, *words.split())


def test_a_damaged_recipe_is_named(tmp_path):
    (tmp_path / "recipe.json").write_text("[1]")
    with pytest.raises(UsageError, match=r"recipe\.json"):
        read_recipe(str(tmp_path))


def test_split_names_tell_equal_stems_apart():
    paths = ["a/x.jsonl", "b/x.jsonl", "c.jsonl"]
    for names in (paths, [f"/data/{path}" for path in paths], [f"../{path}" for path in paths]):
        assert split_names(names) == ["a/x.jsonl", "b/x.jsonl", "c"]
    assert split_names(["x.jsonl", "a/x.jsonl"]) == ["x.jsonl", "a/x.jsonl"]


@pytest.mark.slow
def test_missing_files_and_no_model_end_with_one_line(tmp_path):
    done = run_script("eval/evaluate.py", "--data_file_paths", "no.jsonl", "--output_dir", tmp_path, check=False)
    assert done.returncode == 1 and done.stderr.strip().startswith("--model: got nothing")


# ---------------------------------------------------------------------------------------------- vLLM


def test_a_process_that_loads_pictures_has_one_thread_of_torch(monkeypatch):
    """Also where an engine of vLLM has been in this process: it turns `torch.set_num_threads` off, and a second thread
    of a forked process waited for ever or crashed."""

    class Loader:
        def load(self, rows):
            raise DataError([Problem("row 0", "threads", f"{torch.get_num_threads()} of torch", "1", "none")])

    threads = torch.get_num_threads()
    torch._C.set_num_threads(2)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    try:
        with pytest.raises(DataError, match="got 1 of torch"):
            list(load_in_processes(Loader(), [[{"split": "plain", "row": 0}]], 1))
    finally:
        torch._C.set_num_threads(threads)


@pytest.mark.vllm
def test_vllm_answers_as_transformers_does(tiny, mixed, tmp_path):
    """Greedy, float32, rows without, with one and with two images of different sizes; and three samples a row."""
    pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
    more = ("--dtype", "float32", "--limit", 24, "--max_model_len", 256)
    ours = evaluate(tiny, mixed.parent, tmp_path / "hf", *more[:4], data="mixed.jsonl")
    theirs = evaluate(tiny, mixed.parent, tmp_path / "vllm", *more, "--backend", "vllm", data="mixed.jsonl")
    assert completions(tmp_path / "vllm") == completions(tmp_path / "hf")
    assert theirs["think"] == ours["think"]


@pytest.mark.vllm
def test_vllm_answers_with_tools_as_transformers_does(tiny, mixed, tmp_path, monkeypatch):
    """Greedy, float32; whatever is said calls a tool, whose pictures come into the next turn."""
    pytest.importorskip("vllm", reason="vLLM is not installed: bash setup.sh --vllm")
    for module in ("loader", "transformers_engine", "vllm_engine"):
        monkeypatch.setattr(f"open_r1.evaluation.{module}.evaluated_toolbox", lambda *args: Evaluated())
    turns = {}
    for backend in ("hf", "vllm"):
        more = ("--dtype", "float32", "--limit", 12, "--tools", "zoom", "--max_completion_length", 160)
        more += ("--backend", backend, *(("--max_model_len", 400) if backend == "vllm" else ()))
        evaluate(tiny, mixed.parent, tmp_path / backend, *more, data="mixed.jsonl")
        turns[backend] = [line["turns"] for line in read_lines(tmp_path / backend / "predictions.jsonl")]
    assert turns["vllm"] == turns["hf"]
    assert any(part == {"type": "image"} for row in turns["vllm"] for turn in row[1:2] for part in turn["content"])


class Evaluated(Scripted):
    """`Scripted` as an evaluation starts it."""

    needs_frame = False

    def start(self) -> None:
        """It has no workers."""
