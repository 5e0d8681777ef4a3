"""Batches that cannot be filled are refused before a model is loaded, with flags that work."""

import re
from argparse import Namespace

import pytest

from open_r1.config.batches import refuse_dropped_rows, refuse_too_few_rows
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.errors import UsageError
from open_r1.sft_jsonl import parse_sft
from open_r1.trainer.run import run_grpo

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--bf16", "false", "--use_cpu", "true"]
EVAL = "--eval_strategy steps --val_split_ratio 0.1 "


@pytest.mark.parametrize(
    ("flags", "ranks", "message"),
    [
        ("--num_generations 1", 1, "--num_generations: got 1, expected at least 2: an advantage is the difference"),
        ("--num_generations 0", 1, "--num_generations: got 0, expected at least 2"),
        ("--per_device_train_batch_size 12", 1, "expected a multiple of --num_generations 8: it counts completions"),
        ("--per_device_train_batch_size 0", 1, "--per_device_train_batch_size: got 0, expected at least 1; raise it"),
        ("--gradient_accumulation_steps 0", 1, "--gradient_accumulation_steps: got 0, expected at least 1"),
        ("--gradient_accumulation_steps -2", 1, "--gradient_accumulation_steps: got -2, expected at least 1"),
        ("--steps_per_generation 0", 1, "--steps_per_generation: got 0, expected at least 1"),
        ("--max_completion_length 0", 1, "--max_completion_length: got 0, expected at least 1"),
        ("--num_iterations 0", 1, "--num_iterations: got 0, expected at least 1"),
        ("--generation_batch_size 24 --per_device_train_batch_size 16", 1, "--generation_batch_size: got 24, expected "
         "a multiple of 16 (--per_device_train_batch_size 16 x 1 rank); set --generation_batch_size 32"),
        ("--generation_batch_size 24", 2, "multiple of 16 (--per_device_train_batch_size 8 x 2 ranks); set "
         "--generation_batch_size 32"),
        ("--generation_batch_size 64 --steps_per_generation 8", 1, "got 64 and 8, expected one of the two"),
        (EVAL + "--per_device_eval_batch_size 3", 1, "--per_device_eval_batch_size: got 3 x 1 rank = 3 completions, "
         "expected a multiple of the 8 of a group; set --per_device_eval_batch_size 8"),
        (EVAL + "--per_device_eval_batch_size 13", 1, "set --per_device_eval_batch_size 16"),
        (EVAL + "--per_device_eval_batch_size 3", 4, "got 3 x 4 ranks = 12 completions, expected a multiple of the 8 "
         "of a group; set --per_device_eval_batch_size 4"),
        (EVAL + "--num_generations_eval 5", 1, "got 8 x 1 rank = 8 completions, expected a multiple of the 5"),
    ],
)  # fmt: skip
def test_flags_that_make_no_whole_batch_are_refused_and_the_remedy_works(capsys, monkeypatch, flags, ranks, message):
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*NEEDED, *flags.split()])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said
    monkeypatch.setenv("WORLD_SIZE", "1")
    if ranks == 1 and (remedy := re.search(r"set (--\w+ \d+)", said)):
        parse(JsonlArguments, [*NEEDED, *flags.split(), *remedy[1].split()])


def test_supervised_fine_tuning_counts_from_one(capsys):
    with pytest.raises(SystemExit):
        parse_sft([*NEEDED, "--per_device_train_batch_size", "0"])
    assert "--per_device_train_batch_size: got 0, expected at least 1" in capsys.readouterr().err


def planned(per_device: int, accumulation: int, ranks: int = 1, group: int = 8, steps: int | None = None) -> Namespace:
    steps = steps or accumulation
    return Namespace(
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=steps,
        world_size=ranks,
        num_generations=group,
        generation_batch_size=per_device * ranks * steps,
    )


@pytest.mark.parametrize(
    ("rows", "training"),
    [
        (16, planned(512, 1)),
        (3, planned(8, 4)),
        (1, planned(64, 16)),
        (5, planned(16, 2, ranks=2)),
        (7, planned(8, 1, steps=9)),
        (31, planned(8, 16, ranks=2)),
        (2, planned(8, 1, ranks=8)),
    ],
)
def test_too_few_rows_are_refused_with_flags_that_they_fill(rows, training):
    with pytest.raises(UsageError) as error:
        refuse_too_few_rows(rows, training)
    said = str(error.value)
    prompts = training.generation_batch_size // training.num_generations
    assert said.startswith(f"{rows} rows: expected at least {prompts}, the prompts of one generation")
    offered = {name: int(value) for name, value in re.findall(r"--(\w+) (\d+)", said.partition("or set ")[2])}
    if rows < training.world_size:
        assert said.endswith(f"or set at most {rows} ranks")
        return
    steps = offered.get("steps_per_generation", offered["gradient_accumulation_steps"])
    per_device, accumulation = offered["per_device_train_batch_size"], offered["gradient_accumulation_steps"]
    refuse_too_few_rows(rows, planned(per_device, accumulation, training.world_size, steps=steps))


def test_rows_that_fill_one_generation_are_enough():
    refuse_too_few_rows(64, planned(512, 1))


def test_a_run_of_too_few_rows_ends_before_a_model_is_loaded(tmp_path):
    data, training, model = parse(
        JsonlArguments, [*NEEDED, "--per_device_train_batch_size", "512", "--output_dir", str(tmp_path / "run")]
    )
    with pytest.raises(UsageError, match="3 rows: expected at least 64"):
        run_grpo([None] * 3, None, data, training, model)  # `m` is no model
    assert not (tmp_path / "run").exists()


def test_an_epoch_of_sft_is_not_dropped_whole():
    training = Namespace(per_device_train_batch_size=8, world_size=2, dataloader_drop_last=True)
    with pytest.raises(UsageError, match="15 rows: expected at least 16 with --dataloader_drop_last true"):
        refuse_dropped_rows(15, training)
    refuse_dropped_rows(16, training)
    refuse_dropped_rows(1, Namespace(**vars(training) | {"dataloader_drop_last": False}))
