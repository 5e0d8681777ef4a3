"""The cache of rows that waited for a tool is that of a prefill of the whole, in float32, for every family."""

from dataclasses import replace

import pytest
import torch
from helpers import families
from helpers.families.prompts import prompt, rules_of
from helpers.families.rows import NO_PREFILL, NO_TOOL_PICTURES, TRAINED
from helpers.families.tool_turns import Plan, drawn_trajectory
from transformers import PreTrainedModel

from open_r1.rollout.batching import pad_prompts
from open_r1.rollout.generation import prefill
from open_r1.rollout.kept_rows import kept_row, masks_handed, prefill_rest, why_read_anew
from open_r1.rollout.prompts import Example, Prompt, prompt_from_fields
from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.tool_turns import tool_turns_of

# prompts as (images, text tokens), and a row of each: ragged turns, last answers with two, no, one and no pictures
ROWS: list[tuple[int, int, Plan]] = [
    (1, 9, (4, 1, 3, 2)),
    (0, 7, (1, 0)),
    (2, 12, (2, 2, 3, 1)),
    (0, 20, (5, 1, 1, 0)),
]
GEMMA = ("gemma3", "gemma4", "gemma4_kvshare", "gemma4_vision", "gemma4_cap", "gemma4_moe", "gemma4_unified")
WINDOWS = ("exaone4_5", "llava_next", "mistral3", "llava_pixtral", "llama4")
STATES = ("qwen3_5", "qwen3_5_moe", "lfm2_vl", "olmo_hybrid", "qwen3_next", "bamba", "falcon_h1", "granitemoehybrid")
STATES += ("zamba2", "nemotron_h", "lfm2", "lfm2_moe")
READS_ANEW = dict.fromkeys(GEMMA, "the model makes masks") | dict.fromkeys(WINDOWS, "SlidingWindow")
READS_ANEW |= {each: "LinearAttention" for name in STATES for each in (name, f"llava_{name}")}
QUICK = {"qwen2_5_vl", "qwen3_vl", "smolvlm", "internvl", "gemma3", "qwen3_5"}
KINDS = [name for name in TRAINED if name not in NO_TOOL_PICTURES and name not in NO_PREFILL]


def waiting_rows(model: PreTrainedModel) -> list[Row]:
    """Rows that wait for their next turn."""
    fields, random, rows = rules_of(model), torch.Generator().manual_seed(0), []
    for number, (images, text, plan) in enumerate(ROWS):
        shown = prompt_from_fields(prompt(model, images, text, number), fields)
        trajectory, made = drawn_trajectory(model, plan, random, number)
        tensors = lambda trajectory, made: tool_turns_of(trajectory, fields, made)  # noqa: E731
        row = Row(Example(None, [], [], shown), shown, tensors, lambda turns: turns)
        rows.append(replace(row, segments=list(trajectory.segments), made=made))
    return rows


def known(row: Row) -> Prompt:
    """A row's tokens up to its last sampled one, with the pictures of earlier answers."""
    whole, count = row.continued, len(row.prompt.ids) + len(row.trajectory.ids) - len(row.segments[-1].ids)
    images = replace(row, segments=row.segments[:-1], made=row.made[:-1]).continued.images
    types = {name: values[:count] for name, values in whole.types.items()}
    return replace(whole, ids=whole.ids[:count], positions=whole.positions[..., :count], types=types, images=images)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in KINDS])
def test_rows_go_on_from_what_they_kept_as_from_a_prefill_of_the_whole(name):
    model = families.ready(name).eval()
    rows = waiting_rows(model)
    knowns = [known(row) for row in rows]
    with torch.no_grad(), masks_handed(model.base_model) as handed:
        cache = prefill(model.base_model, knowns)
    reason = why_read_anew(cache, any(handed))
    assert (reason is None) == (name not in READS_ANEW), reason
    if reason is not None:
        assert READS_ANEW[name] in reason
        return
    lengths = [len(one.ids) for one in knowns]
    kept = [kept_row(cache, i, max(lengths) - length, max(lengths) - 1) for i, length in enumerate(lengths)]
    going_on = [row.behind(each) for row, each in zip(rows, kept, strict=True)]
    with torch.no_grad():
        ours = prefill_rest(model.base_model, going_on)
        expected = prefill(model.base_model, [row.continued for row in rows])
    there = pad_prompts([row.continued for row in rows])["attention_mask"][:, :-1].bool()
    for one, other in zip(ours.layers, expected.layers, strict=True):
        for states, whole in ((one.keys, other.keys), (one.values, other.values)):
            states, whole = (each.transpose(1, 2)[there] for each in (states, whole))
            torch.testing.assert_close(states, whole, atol=2e-5, rtol=1e-5)
    assert all(not each.layers for each in kept)  # nothing is held twice
