"""The probe's numbers are those of padded rows by hand, and a run with it learns what one without it does."""

import json
from types import SimpleNamespace

import pytest
import torch
from helpers.resumed_runs import assert_same, train, weights
from helpers.trainers import make_trainer, rows
from PIL import Image
from transformers import AutoProcessor

from open_r1 import grpo_jsonl
from open_r1.config import vllm_flags
from open_r1.rollout.other_pictures import mean_color
from open_r1.rollout.prompts import process_chat
from open_r1.rollout.token_texts import token_texts
from open_r1.rollout.vllm.types import SampledCompletion
from open_r1.trainer import vllm_rollout
from open_r1.trainer.checks import vision_probe

ONE_STEP = ["--max_steps", "1", "--gradient_accumulation_steps", "1", "--vision_probe", "1"]
THREE_GROUPS = ["--per_device_train_batch_size", "12"]


def test_the_dependency_is_that_of_padded_rows_with_grey_pictures(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, *ONE_STEP, *THREE_GROUPS)
    trainer.model.train()
    torch.manual_seed(0)
    output = trainer._generate_and_score_completions(rows(0, 1, 2, group=4))  # one picture, text, two pictures
    ids, mask = output["completion_ids"], output["completion_mask"]
    grey = mean_color(trainer.processing_class)

    def logps(blank: bool) -> torch.Tensor:
        examples = trainer.loader.take(rows(0, 2, group=4))
        pictures = [[Image.new("RGB", p.size, grey) for p in e.pictures] if blank else e.pictures for e in examples]
        chats = [trainer.loader.conversation(e.record, p) for e, p in zip(examples, pictures, strict=True)]
        prompts = [
            process_chat(trainer.processing_class, chat, trainer.fields, trainer.loader.template) for chat in chats
        ]
        places, lengths = [*range(4), *range(8, 12)], mask.sum(dim=1).tolist()
        batch = (prompts, ids[places], [lengths[place] for place in places])
        with torch.no_grad():
            return trainer.score_completions(trainer.model, *batch, shared=False).logps

    difference, counted = logps(blank=False) - logps(blank=True), mask[[*range(4), *range(8, 12)]]
    expected = (difference * counted).sum() / counted.sum()
    assert trainer._metrics["train"]["vision/dependency"] == [pytest.approx(float(expected), abs=1e-5)]
    assert abs(float(expected)) > 1e-3
    groups = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    first, text = groups
    assert all("dependency" not in completion for completion in text["completions"])
    for row, completion in enumerate(first["completions"]):
        texts, nats = zip(*completion["dependency"], strict=True)
        assert "".join(texts) == completion["text"]
        assert nats == pytest.approx(difference[row][: len(nats)].tolist(), abs=6e-4)  # three decimals


@pytest.mark.slow
def test_a_run_with_the_probe_learns_what_one_without_it_does(tiny, few, tmp_path):
    plain = train(tiny, few, tmp_path / "plain", "across steps")
    probed = train(tiny, few, tmp_path / "probed", "across steps", "--vision_probe", "2")
    expected = weights(plain)
    assert all(torch.equal(value, expected[name]) for name, value in weights(probed).items())
    assert any("vision/dependency" in line for line in probed.state.log_history)


@pytest.mark.slow
def test_a_resumed_run_has_the_probes_of_the_undisturbed_one(tiny, few, tmp_path):
    flags = ("--vision_probe", "1", "--save_strategy", "steps", "--save_steps", "3")
    whole = train(tiny, few, tmp_path, "longer than a step", *flags)
    again = train(tiny, few, tmp_path, "longer than a step", *flags, checkpoint=tmp_path / "checkpoint-3")
    assert_same(again, whole)


def test_answers_are_graded_with_own_blank_and_other_pictures(tiny, mixed, tmp_path):
    trainer = make_trainer(tiny, mixed, tmp_path, *ONE_STEP)
    own = {row: [p.tobytes() for p in trainer.loader.take(rows(row))[0].pictures] for row in (0, 1, 2)}
    seen = []

    def accuracy(completions, images, record, **_):
        """1 for a row's own pictures, 0.25 for blank ones, 0.5 for others."""
        for row, pictures in zip(record, images, strict=True):
            number = int(row.where.rpartition(":")[2]) - 1
            same = [p.tobytes() for p in pictures] == own[number]
            blank = all(len(p.getcolors(9999) or "many") == 1 for p in pictures)
            seen.append((number, [p.size for p in pictures]))
            yield 1.0 if same else 0.25 if blank else 0.5

    trainer.reward_funcs = [lambda *args, **kwargs: list(accuracy(**kwargs))]
    trainer.reward_funcs[0].__name__ = "accuracy"
    trainer.model.train()
    views = probed_views(trainer)
    vision_probe.log_accuracies(trainer, views)
    metrics = trainer._metrics["train"]
    names = ("accuracy", "blind_accuracy", "swapped_accuracy")
    assert [metrics[f"vision/{name}"] for name in names] == [[1.0], [0.25], [0.5]]
    assert len({(number, str(sizes)) for number, sizes in seen}) == 3  # other pictures have the sizes of the row's own


def probed_views(trainer):
    numbers = rows(0, 1, 2)
    trainer.batch = trainer.new_batch(numbers)
    return vision_probe.views_of(trainer, trainer.batch.examples)


@pytest.mark.parametrize(
    ("every", "accumulation", "per_generation", "uses", "due"),
    [
        (2, 1, 1, 1, [0, 2, 4]),
        (3, 1, 2, 1, [0, 4]),  # a generation every second step
        (3, 1, 2, 2, [0, 4]),
        (1, 4, 2, 1, [0, 1, 2, 3, 4, 5]),  # two generations a step: its first one
    ],
)
def test_a_probe_is_due_at_the_first_generation_after_a_multiple(every, accumulation, per_generation, uses, due):
    args = SimpleNamespace(
        vision_probe=every, gradient_accumulation_steps=accumulation, steps_per_generation=per_generation
    )
    probed = []
    for micro in range(0, 3 * accumulation * per_generation, per_generation * uses):
        step = micro // accumulation
        run = SimpleNamespace(
            args=args,
            model=SimpleNamespace(training=True),
            num_iterations=uses,
            _step=micro,
            state=SimpleNamespace(global_step=step),
        )
        probed += [step] * vision_probe.probe_is_due(run)
    assert probed == [step for step in due if step < 3 * per_generation]


def test_texts_of_tokens_join_to_the_text(tiny):
    processor = AutoProcessor.from_pretrained(tiny)
    tokenizer = processor.tokenizer
    for text in ("<think> 1 and 2 </think>", "größer 🦜 図", "  two  spaces\n\n"):
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        texts = token_texts(processor, ids, special=False)
        assert "".join(texts) == tokenizer.decode(ids, skip_special_tokens=True) and len(texts) == len(ids)


def test_rows_without_pictures_are_refused(tiny, digits, tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text('{"problem": "What is 1 + 2?", "solution": "3"}\n' * 8)
    flags = f"--model_name_or_path {tiny} --data_file_paths {path} --output_dir {tmp_path / 'out'} --vision_probe 5"
    with pytest.raises(SystemExit, match="--vision_probe: got rows without any picture"):
        grpo_jsonl.main(flags.split())


class Engine:
    """An engine that remembers what it was asked for, and answers with five tokens."""

    stale = False

    def __init__(self, *_):
        self.asked = []

    def sync(self, frozen_vision, label):
        pass

    def generate(self, requests, sampling, check_stop):
        self.asked.append((sampling.temperature, [request.pictures for request in requests]))
        return [[SampledCompletion([100] * 5, [float("nan")] * 5)] * request.n for request in requests]


@pytest.mark.slow
def test_an_engine_answers_greedily_about_the_same_three_pictures(tiny, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_flags, "find_spec", lambda name: object())
    monkeypatch.setattr(vllm_rollout, "engine_class", lambda mode, videos: Engine)
    flags = ["--use_vllm", "true", "--vllm_mode", "server", "--vllm_importance_sampling_correction", "false"]
    trainer = make_trainer(tiny, digits / "train.jsonl", tmp_path, *ONE_STEP, *flags)
    trainer.reward_funcs = [lambda completions, **_: [0.5 for _ in completions]]
    trainer.reward_funcs[0].__name__ = "accuracy"
    trainer.train()
    (sampled, _), (greedy, pictures) = trainer.engine.engine.asked
    assert (sampled, greedy) == (1.0, 0.0)
    own, blank, swapped = pictures[:2], pictures[2:4], pictures[4:]
    grey = mean_color(trainer.processing_class)
    assert all(picture.getcolors() == [(112 * 56, grey)] for (picture,) in blank)
    assert all(a[0].tobytes() != b[0].tobytes() and a[0].size == b[0].size for a, b in zip(own, swapped, strict=True))
    assert trainer.state.log_history[0]["vision/blind_accuracy"] == 0.5
