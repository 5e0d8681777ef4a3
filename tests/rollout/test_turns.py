"""Completions with tool turns are those of `generate` on the whole text, for ragged turns, pictures and budgets."""

from typing import Any

import pytest
import torch
from helpers import families
from helpers.families.prompts import WORDS, chat, fields_of, rules_of
from helpers.scripted_tools import Scripted
from transformers import GenerationConfig, PreTrainedModel

from open_r1.data.control_tokens import control_tokens
from open_r1.data.record import Record
from open_r1.rollout.generation import generate_groups, remaining_config
from open_r1.rollout.prompts import Example, prompt_from_fields
from open_r1.rollout.turns import TurnSampler, prefilled
from open_r1.tools.between import text_between

KINDS = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "idefics3", "gemma3", "aria", "qwen3_5"]
QUICK = {"qwen2_5_vl"}
GROUPS = [(1, 9, 3), (0, 7, 2), (2, 12, 2)]  # images, text tokens, completions
TOKENS = 300


def sampling(tokens: int = TOKENS, **options: Any) -> GenerationConfig:
    """Ordinary characters, of which some end a turn."""
    allowed = {families.processor_of("qwen2_vl").tokenizer.convert_tokens_to_ids(word) for word in WORDS}
    banned = [i for i in range(families.VOCABULARY) if i not in allowed]
    ends = {"eos_token_id": sorted(allowed)[::3], "pad_token_id": families.PAD}
    return GenerationConfig(max_new_tokens=tokens, suppress_tokens=banned, **{"do_sample": False, **options}, **ends)


def examples_of(model: PreTrainedModel) -> list[Example]:
    """A row for each completion, with its conversation in place of text."""
    fields, rows = rules_of(model), []
    for seed, (images, text, count) in enumerate(GROUPS):
        conversation = chat(images, text, seed)
        shown = [part["image"] for part in conversation[0]["content"] if part["type"] == "image"]
        prompt = prompt_from_fields(fields_of(model, conversation), fields)
        rows += [Example(Record(str(seed), (), "", (), ""), conversation, shown, prompt)] * count
    return rows


def sampler(model: PreTrainedModel, config: GenerationConfig, toolbox: Any) -> TurnSampler:
    def sample(prompts, rows, most):
        left = remaining_config(config, config.max_new_tokens - most)
        return generate_groups(model, model.base_model, prompts, left, config.eos_token_id)

    processor, ends = families.processor_of(model.config.name_or_path), config.eos_token_id
    return TurnSampler(
        prefilled(sample),
        toolbox,
        processor,
        rules_of(model),
        {},
        ends,
        config.max_new_tokens,
        place=lambda turns: turns,
    )


def plain(model: PreTrainedModel, example: Example, config: GenerationConfig, toolbox: Any) -> list[list[int]]:
    """The turns of the model by `generate` on the whole text, once a turn."""
    processor, end = families.processor_of(model.config.name_or_path), config.eos_token_id
    control, shown, begin, turns = control_tokens(processor, {}), list(example.pictures), None, []
    text = processor.apply_chat_template(example.conversation, tokenize=False, add_generation_prompt=True)
    while True:
        images = {"images": [shown]} if shown else {}
        fields = processor(text=[text], return_tensors="pt", add_special_tokens=False, **images)
        fields = {name: value for name, value in fields.items() if torch.is_tensor(value)}
        width = fields["input_ids"].shape[1]
        begin = width if begin is None else begin
        if width - begin >= config.max_new_tokens:
            return turns
        out = model.generate(**fields, generation_config=remaining_config(config, width - begin))
        turns.append(out[0, width:].tolist())
        said = processor.tokenizer.decode(turns[-1])
        calls = toolbox.read(said[:-1]) if turns[-1][-1] in end else ()
        if not calls or toolbox.limits.reached(len(turns) - 1, len(shown) - len(example.pictures), 0):
            return turns
        ((_, answers),) = toolbox.answer_many([(calls, (), None)])
        between, new = text_between(processor, answers, {}, control, said[-1])
        if toolbox.limits.reached(len(turns) - 1, len(shown) - len(example.pictures), len(new)):
            return turns
        text, shown = text + said + between, [*shown, *new]


@pytest.fixture(scope="module")
def model(request):
    return families.ready(request.param).eval()


@pytest.mark.parametrize(
    "model", [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow]) for kind in KINDS], indirect=True
)
def test_turns_are_those_of_generate_on_the_whole_text(model):
    config, toolbox, rows = sampling(repetition_penalty=1.3), Scripted(), examples_of(model)
    ours = sampler(model, config, toolbox).rollouts(rows, [row.prompt for row in rows])
    for row, one in zip(rows, ours, strict=True):
        said = [segment.ids for segment in one.trajectory.segments if segment.sampled]
        assert said == plain(model, row, config, toolbox)
        assert len(one.trajectory.ids) <= TOKENS
    turns = [len(one.trajectory.segments) // 2 for one in ours]
    loops = model.config.name_or_path not in QUICK  # words of some models come to no second end in so few tokens
    assert max(turns) >= (1 if loops else 2), turns
    assert loops or (any(one.trajectory.pictures for one in ours) and any(one.limit for one in ours))
