"""Completions with tool turns are those of `generate` on the whole text, for ragged turns, pictures and budgets."""

import threading
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import families
from helpers.families.prompts import WORDS, chat, fields_of, rules_of
from helpers.scripted_tools import Scripted
from transformers import GenerationConfig, PreTrainedModel

from open_r1.data.control_tokens import control_tokens
from open_r1.data.record import Record
from open_r1.errors import RunEnded
from open_r1.plan.dims import dims_of
from open_r1.plan.memory import rollout_bytes
from open_r1.plan.settings import PlannedRun
from open_r1.rollout import turns as turns_module
from open_r1.rollout.generation import generate_groups, remaining_config
from open_r1.rollout.kept_turns import KeptTurns
from open_r1.rollout.prompts import Example, prompt_from_fields
from open_r1.rollout.trajectory import Segment
from open_r1.rollout.turns import OpenTurns, RowsGoingOn, Sample, TurnSampler, by_itself, prefilled
from open_r1.rollout.vision_features import with_features
from open_r1.tools.between import text_between
from open_r1.tools.episodes import Episode

KINDS = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "idefics3", "gemma3", "aria", "qwen3_5"]
QUICK = {"qwen2_5_vl"}
READS_ANEW = {"gemma3", "qwen3_5"}  # tests/rollout/test_kept_rows.py says of every family why
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


def sampler(
    model: PreTrainedModel,
    config: GenerationConfig,
    toolbox: Any,
    way: Any = KeptTurns,
    place: Any = lambda turns: turns,
) -> TurnSampler:
    def sample(prompts, rows, most, tell=None, going_on=()):
        left = remaining_config(config, config.max_new_tokens - most)
        hooks = {"tell": tell, "going_on": going_on}
        return generate_groups(model, model.base_model, prompts, left, config.eos_token_id, **hooks)

    processor, ends = families.processor_of(model.config.name_or_path), config.eos_token_id
    return TurnSampler(
        way(sample),
        toolbox,
        processor,
        rules_of(model),
        {},
        ends,
        config.max_new_tokens,
        place=place,
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
        answers = toolbox.answer(calls, (), None)
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


def tokens_of(model, config, way) -> tuple[list[list[list[int]]], list[int]]:
    """The segments of all rows, and how many tokens each call of the model read of each row."""
    read, rows = [], examples_of(model)
    handle = model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    torch.manual_seed(0)
    rollouts = sampler(model, config, Scripted(), way).rollouts(rows, [row.prompt for row in rows])
    handle.remove()
    return [[segment.ids for segment in one.trajectory.segments] for one in rollouts], read


@pytest.mark.parametrize(
    "model", [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow]) for kind in KINDS], indirect=True
)
@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
def test_turns_from_the_kept_cache_are_those_that_read_all_anew(model, greedy):
    config = sampling(repetition_penalty=1.3) if greedy else sampling(do_sample=True, temperature=2.0)
    (anew, long), (kept, short) = (tokens_of(model, config, way) for way in (prefilled, KeptTurns))
    assert kept == anew
    assert len(short) == len(long) and (sum(short) < sum(long)) == (model.config.name_or_path not in READS_ANEW)


def held_bytes(turns: KeptTurns) -> int:
    """Bytes of the tensors that waiting rows hold, a shared one once."""
    layers = [parts for row in turns.kept.values() for layer in row.layers for parts in layer]
    storages = [tensor.untyped_storage() for parts in layers for tensor in parts]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


@pytest.mark.parametrize("model", ["qwen2_5_vl"], indirect=True)
def test_the_plan_covers_what_rows_keep_while_tools_answer(model):
    held, config, rows = [0], sampling(repetition_penalty=1.3), examples_of(model)

    class Measured(KeptTurns):
        def __call__(self, *args: Any) -> list[Segment]:
            found = super().__call__(*args)
            held.append(held_bytes(self))
            return found

    sampler(model, config, Scripted(), Measured).rollouts(rows, [row.prompt for row in rows])
    longest = max(len(row.prompt.ids) for row in rows)
    shape = {"prompt_tokens": longest, "patches_per_prompt": longest, "completion_tokens": TOKENS, "group_size": 1}
    run = PlannedRun(**shape, batch_completions=len(rows), bytes_per_computed_number=4, tools=True, device="cpu")
    parts, without = (rollout_bytes(dims_of(model), one) for one in (run, replace(run, tools=False)))
    assert 0 < max(held) <= parts["kept rows"] < 30 * max(held) and "kept rows" not in without


def one_by_one(sample: Any) -> Sample:
    """A `Sample` that samples row after row, and one that goes on before those that have not begun."""

    def sample_turns(turns: OpenTurns) -> None:
        left = list(range(len(turns.rows)))
        while left or turns.awaited:
            if left:
                place = left.pop(0)
                row, number, budget = turns.rows[place], turns.numbers[place], turns.budget(place)
                (ids,) = sample([row.continued], [number], budget)
                turns.end(place, Segment(ids, sampled=True))
            else:
                wait(turns.awaited, return_when=FIRST_COMPLETED)
            left = [*turns.going_on(), *left]

    return sample_turns


@pytest.mark.parametrize("model", ["qwen2_5_vl"], indirect=True)
def test_rows_that_go_on_at_once_say_what_they_say_in_rounds(model):
    config, rows, rollouts = sampling(), examples_of(model), []
    for way in (prefilled, one_by_one):
        rollouts.append(sampler(model, config, Scripted(), way).rollouts(rows, [row.prompt for row in rows]))
    rounds, at_once = rollouts
    assert [one.trajectory.ids for one in at_once] == [one.trajectory.ids for one in rounds]
    assert [one.turns for one in at_once] == [one.turns for one in rounds]
    assert [one.limit for one in at_once] == [one.limit for one in rounds]


@pytest.mark.parametrize("model", ["qwen2_5_vl"], indirect=True)
def test_what_the_end_of_an_environment_raises_is_raised_where_ranks_agree(model, monkeypatch):
    """A rank that raised it anywhere else would leave the others waiting."""
    rows, raised = examples_of(model), []

    class Failing:
        earned = None

        def conclude(self) -> None:
            raise RunEnded("reward failed")

    def in_step(answer: RowsGoingOn) -> tuple[list[int], bool]:
        try:
            return by_itself(answer)
        except RunEnded as error:
            raised.append(str(error))
            return [], False

    monkeypatch.setattr(turns_module, "opened", lambda *_: nullcontext([Failing() for _ in rows]))
    whole = replace(sampler(model, sampling(), Scripted()), in_step=in_step)
    whole.rollouts(rows, [row.prompt for row in rows])
    assert raised == ["reward failed"]


@pytest.mark.parametrize("model", ["qwen2_5_vl"], indirect=True)
def test_an_environment_ends_with_its_own_row(model, monkeypatch):
    """Not when all rows of the batch have ended: each has a process."""
    rows, config, living = examples_of(model), sampling(), []

    class Kept(Episode):
        def close(self) -> None:
            self.closed.set()

    unpaid = SimpleNamespace(environment=SimpleNamespace(reward_method=""))
    episodes = [Kept(unpaid, row.record, ()) for row in rows]
    for episode in episodes:
        episode.closed = threading.Event()

    class OneByOne:
        def __init__(self, sample: Any):
            self.sample = one_by_one(sample)

        def __call__(self, turns: OpenTurns) -> None:
            self.sample(turns)
            last = [turns.numbers[place] for place, row in enumerate(turns.rows) if row.answers is None]
            living.append(sum(not episodes[number].closed.wait(1) for number in last))

    monkeypatch.setattr(turns_module, "opened", lambda *_: nullcontext(episodes))
    sampler(model, config, Scripted(), OneByOne).rollouts(rows, [row.prompt for row in rows])
    assert living == [0] and all(episode.closed.is_set() for episode in episodes)


@pytest.mark.parametrize("model", ["qwen2_5_vl"], indirect=True)
def test_pictures_of_a_frozen_tower_are_looked_at_once(model):
    config, rows, seen = sampling(repetition_penalty=1.3), examples_of(model), partial(with_features, model.base_model)
    plain = sampler(model, config, Scripted()).rollouts(rows, [row.prompt for row in rows])
    prompts, towers = {id(row.prompt): seen(row.prompt) for row in rows}, []
    handle = model.base_model.visual.register_forward_hook(lambda *_: towers.append(1))
    ours = sampler(model, config, Scripted(), place=seen).rollouts(rows, [prompts[id(row.prompt)] for row in rows])
    handle.remove()
    assert [one.trajectory.ids for one in ours] == [one.trajectory.ids for one in plain]
    answers = [segment for one in ours for segment in one.trajectory.segments if segment.pictures]
    whole = [one for one in ours if one.trajectory.pictures]  # their tensors at the end
    assert len(towers) == len(answers) + len(whole)
