"""Weights are saved whatever happens to the files beside them, and a run that could not save does not start."""

import json
import logging
from pathlib import Path

import pytest
import torch
from helpers.broken_models import changed
from helpers.trainers import make_trainer, sft_trainer
from transformers import AutoModelForImageTextToText, AutoProcessor

from open_r1 import grpo_jsonl
from open_r1.errors import UsageError
from open_r1.models.generation_defaults import GENERATION_FILE
from open_r1.models.plain import load_plain
from open_r1.models.saving import refuse_unsavable, save_side_files, save_weights, side_files
from open_r1.tasks.recipe import Recipe
from open_r1.trainer.checkpointing.manifest import damages
from open_r1.trainer.checkpointing.required_files import missing

TWO_STEPS = ("--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1")


def fail(*_, **__):
    raise ValueError("planted\nin two lines")


@pytest.mark.parametrize("broken", ["generation_config", "processor", "tokenizer", "recipe", "card", "all"])
def test_a_side_file_that_fails_costs_no_weights_and_is_named(tiny, digits, tmp_path, monkeypatch, caplog, broken):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path / "run", *TWO_STEPS)
    trainer.recipe_and_card = (Recipe(task_type="digits"), None)  # there is no card to write: README.md fails
    places = {
        "generation_config": (trainer.model.generation_config, "save_pretrained", GENERATION_FILE),
        "processor": (trainer.processing_class, "save_pretrained", "the processor's files"),
        "tokenizer": (trainer.processing_class.tokenizer, "save_pretrained", "the processor's files"),
        "recipe": (Recipe, "save", "recipe.json"),
    }
    if broken != "card":
        monkeypatch.setattr("open_r1.trainer.outputs.hub.write_card", fail if broken == "all" else lambda *_: None)
    for name, (owner, method, _) in places.items():
        if broken in (name, "all"):
            monkeypatch.setattr(owner, method, fail)
    trainer.save_model(str(tmp_path / "saved"))
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1 and "THE WEIGHTS ARE SAVED, BUT NOT" in said[0] and "\n" not in said[0]
    named = "README.md" if broken == "card" else "planted in two lines"
    assert named in said[0] and (broken in ("card", "all") or places[broken][2] in said[0])
    loaded = load_plain(str(tmp_path / "saved"), dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), trainer.model.parameters(), strict=True))


@pytest.mark.slow
def test_a_checkpoint_without_a_side_file_is_whole_and_resumed(tiny, digits, tmp_path, monkeypatch):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path / "run", *TWO_STEPS)
    monkeypatch.setattr(trainer.processing_class, "save_pretrained", fail)
    trainer.train()
    first = tmp_path / "run" / "checkpoint-1"
    assert missing(first) == [] and damages(first) == []
    again = make_trainer(tiny, digits / "train.jsonl", tmp_path / "again", *TWO_STEPS)
    again.train(resume_from_checkpoint=str(first))
    pairs = zip(again.model.parameters(), trainer.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_run_that_could_not_save_is_refused_at_its_start(tiny, monkeypatch, tmp_path):
    model, processor = load_plain(tiny), AutoProcessor.from_pretrained(tiny)
    refuse_unsavable(model, side_files(model, processor))
    model.config.temperature = 0.5  # as a caller might
    with pytest.raises(UsageError, match=r"config.json could not be saved with the trained model: ValueError"):
        refuse_unsavable(model, side_files(model, processor))
    del model.config.temperature
    model.generation_config.temperature = 0.5
    with pytest.raises(UsageError, match=f"{GENERATION_FILE} could not be saved"):
        refuse_unsavable(model, side_files(model, processor))
    save_weights(model, tmp_path / "w")  # yet its weights can
    save_side_files(side_files(model, processor), tmp_path / "w")
    assert json.loads((tmp_path / "w" / GENERATION_FILE).read_text())["eos_token_id"] == [454, 455]
    AutoModelForImageTextToText.from_pretrained(tmp_path / "w")


def test_the_saved_folder_is_what_transformers_writes(tiny, digits, tmp_path):
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path / "run")
    trainer.save_model(str(tmp_path / "ours"))
    trainer.model.save_pretrained(tmp_path / "theirs")
    trainer.processing_class.save_pretrained(tmp_path / "theirs")
    names = {path.name for path in (tmp_path / "theirs").iterdir()}
    assert names == {path.name for path in (tmp_path / "ours").iterdir()}
    assert all((tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes() for name in names)


# ---------------------------------------------------------------------------------------- whole runs, through the door


def run(monkeypatch, model: Path, digits: Path, out: Path, *flags: str) -> None:
    argv = f"--model_name_or_path {model} --task_type digits --data_file_paths {digits / 'train.jsonl'}"
    argv += f" --image_folders {digits} --output_dir {out} --max_steps 2 --num_generations 4 --bf16 false --beta 0"
    argv += " --per_device_train_batch_size 8 --max_completion_length 8 --gradient_checkpointing false"
    monkeypatch.setattr(grpo_jsonl, "exit_if_stopped", lambda trainer: None)
    grpo_jsonl.main([*argv.split(), "--disable_tqdm", "true", *flags])


BROUGHT = {"temperature": 0.9, "top_p": 0.6, "top_k": 5, "min_p": 0.1, "typical_p": 0.5, "epsilon_cutoff": 0.1,
           "eta_cutoff": 0.1, "num_beams": 2, "no_repeat_ngram_size": 2, "min_new_tokens": 3}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--save_strategy", "no"),
        ("--save_strategy", "steps", "--save_steps", "1"),
        ("--save_strategy", "no", "--use_peft", "true"),
        ("--save_strategy", "no", "--beta", "0.04", "--prefill_once", "false"),
    ],
    ids=lambda flags: " ".join(flags),
)
def test_a_run_on_a_model_with_odd_defaults_ends_with_a_model_that_generates(
    tiny, digits, tmp_path, monkeypatch, flags
):
    model = changed(tiny, tmp_path / "m", GENERATION_FILE, lambda c: c.update(BROUGHT))
    run(monkeypatch, model, digits, tmp_path / "run", *flags)
    saved = tmp_path / "run" / "checkpoint"
    if "--use_peft" in flags:
        import merge_lora

        merge_lora.merge(merge_lora.options().parse_args([str(saved), "--out", str(tmp_path / "merged")]))
        saved = tmp_path / "merged"
    kept = json.loads((saved / GENERATION_FILE).read_text())
    assert {"num_beams", "no_repeat_ngram_size", "min_new_tokens"} <= kept.keys() and "top_p" not in kept
    loaded = AutoModelForImageTextToText.from_pretrained(saved)
    assert loaded.generate(input_ids=torch.tensor([[5, 6]]), max_new_tokens=4).shape[1] >= 5
    loaded.save_pretrained(tmp_path / "once more")


@pytest.mark.slow
def test_supervised_training_on_such_a_model_saves_too(tiny, digits, tmp_path):
    model = changed(tiny, tmp_path / "m", GENERATION_FILE, lambda c: c.update(BROUGHT))
    argv = f"--model_name_or_path {model} --task_type digits --data_file_paths {digits / 'train.jsonl'}"
    argv += f" --image_folders {digits} --output_dir {tmp_path / 'run'} --max_steps 1 --bf16 false"
    trainer = sft_trainer([*argv.split(), "--gradient_checkpointing", "false", "--disable_tqdm", "true"])
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    load_plain(str(tmp_path / "saved"))
