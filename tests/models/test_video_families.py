"""Rows with videos, in every family that takes them: packed groups equal padded rows and each row alone, in float32.

As in `test_families.py`, the tolerance is 1e-5, absolute for log-probs and entropies and relative for each gradient.
"""

from contextlib import contextmanager

import pytest
import torch
from helpers import families
from helpers.families import completions, group_prompts, rules_of, scored
from helpers.families.conversations import video_chats
from helpers.families.exactness import LENGTHS, difference, logps_alone, logps_of, passed
from helpers.families.prompts import CLIP_GROUPS, clips, fields_of, pictures
from helpers.families.rows import BROKEN_VIDEOS, NATIVE_VIDEOS, NO_PREFILL, ONE_BY_ONE, TRAINED
from helpers.families.tiny import processor_of
from transformers import GenerationConfig

from open_r1.data.prompt_tokens import ids_with_videos
from open_r1.data.video.inputs import media_shown, videos_in
from open_r1.data.video.own_texts import chat_about, text_of_video
from open_r1.data.video.types import VideoFrames
from open_r1.models.model_parts import vision_parts
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompts import process_chat
from open_r1.rollout.video_trials import why_no_native_videos
from open_r1.rollout.vision_features import (
    features_of,
    joined_parts,
    kept_parts,
    tensors_in,
    why_no_joining,
    with_features,
)

TOLERANCE = 1e-5
QUICK = {"qwen2_5_vl", "qwen3_vl", "internvl", "llava_onevision"}
every = pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NATIVE_VIDEOS],
    indirect=True,
)


@pytest.fixture(scope="module")
def model(request):
    return families.ready(request.param)


@every
def test_packed_groups_with_videos_equal_padded_rows_and_each_row_alone(model):
    groups = CLIP_GROUPS
    rows, packed = (passed(model, shared, groups) for shared in (False, True))
    found, alone = difference(rows, packed), logps_alone(model, groups)
    assert max(found.logps, found.entropies, found.gradient) <= TOLERANCE, found
    for each in (rows, packed):
        torch.testing.assert_close(each.scores.logps, alone, atol=TOLERANCE, rtol=0)
    assert any("vis" in name and gradient.norm() > 0 for name, gradient in rows.gradients.items())


@every
def test_conversations_of_any_shape_are_the_same_packed_in_rows_and_alone(model):
    processor, rules = processor_of(model.config.name_or_path), rules_of(model)
    chats = [rules.shown(chat) for chat in video_chats().values()]
    prompts = [process_chat(processor, chat, rules, {}) for chat in chats]
    said, lengths = completions(len(prompts)), [1 + n % 6 for n in range(len(prompts))]
    with torch.no_grad():
        rows, packed = (scored(model, prompts, said, lengths, shared).logps for shared in (False, True))
        seen = [with_features(model.base_model, prompt) for prompt in prompts]
        reused = scored(model, seen, said, lengths, shared=True).logps
    alone = torch.zeros_like(rows)
    for row, (chat, length) in enumerate(zip(chats, lengths, strict=True)):
        alone[row, :length] = logps_of(model, fields_of(model, chat), said[row, :length])
        shown = [each.size for each in media_shown(chat) if not isinstance(each, VideoFrames)]
        ids = ids_with_videos(processor, chat, shown, list(videos_in(chat)), "native", True)
        assert ids == prompts[row].ids.tolist()  # as the doctor counts
    for each in (rows, packed, reused):
        torch.testing.assert_close(each, alone, atol=TOLERANCE, rtol=0)


@contextmanager
def vision_calls(model):
    """The calls of parts outside of the language model, which it appends to a list."""
    calls, parts = [], vision_parts(model)
    outside = [module for name, module in model.named_modules() if f"{name}." in parts]
    hooks = [module.register_forward_hook(lambda *_: calls.append(1)) for module in outside]
    yield calls
    for hook in hooks:
        hook.remove()


@every
@pytest.mark.parametrize("groups", [CLIP_GROUPS, [(0, (4,), 12, 2), (0, (4,), 9, 1)]], ids=["any", "one length"])
def test_features_of_videos_computed_once_give_the_same_log_probs(model, groups):
    prompts = group_prompts(model, groups)
    lengths = LENGTHS[: len(prompts)]
    assert why_no_joining(model.base_model, processor_of(model.config.name_or_path), rules_of(model)) is None
    with vision_calls(model) as calls:
        once = {id(prompt): with_features(model.base_model, prompt) for prompt in prompts}
        made = len(calls)
        for shared in (True, False):
            after = scored(model, [once[id(prompt)] for prompt in prompts], completions(len(prompts)), lengths, shared)
            assert len(calls) == made  # no tower ran again
            before = scored(model, prompts, completions(len(prompts)), lengths, shared)
            assert len(calls) > made
            made = len(calls)
            torch.testing.assert_close(after.logps, before.logps, atol=TOLERANCE, rtol=0)


@every
def test_a_greedy_rollout_about_a_video_is_generates(model):
    ends = {"eos_token_id": families.EOS, "pad_token_id": families.PAD}
    banned = [i for i in range(families.TEXT) if i != families.EOS]
    greedy = GenerationConfig(
        max_new_tokens=6, do_sample=False, suppress_tokens=banned, repetition_penalty=1.3, **ends
    )
    groups = CLIP_GROUPS
    ours = generate_groups(model, model.base_model, group_prompts(model, groups), greedy, [families.EOS])
    plain = []
    for seed, (images, videos, text, rows) in enumerate(groups):
        fields = families.prompt(model, images, text, seed, videos)
        mask = torch.ones_like(fields["input_ids"])
        out = model.generate(**fields, attention_mask=mask, generation_config=greedy)
        said = out[0, fields["input_ids"].shape[1] :].tolist()
        plain += [said[: said.index(families.EOS) + 1] if families.EOS in said else said] * rows
    assert ours == plain


@every
def test_the_frames_matter_and_a_completion_does_not_see_another(model):
    (prompt, *_) = group_prompts(model, [(0, (4,), 12, 1)])
    (other, *_) = group_prompts(model, [(0, (), 12, 1), (0, (4,), 12, 1)])[1:]
    before, after = (scored(model, [each] * 2, completions(2), [6, 6], shared=True).logps for each in (prompt, other))
    assert (before - after).abs().max() > 1e-3
    changed = completions(2)
    changed[1] = completions(1, seed=9)
    after = scored(model, [prompt] * 2, changed, [6, 6], shared=True).logps
    torch.testing.assert_close(before[0], after[0], atol=1e-6, rtol=0)
    assert (before[1] - after[1]).abs().max() > 1e-3


def test_what_each_processor_does_with_videos_is_found_by_trying_it():
    for name in TRAINED:
        processor = processor_of(name)
        takes = why_no_native_videos(processor) is None
        assert takes == (name in {*NATIVE_VIDEOS, *BROKEN_VIDEOS}), name
    assert not set(NATIVE_VIDEOS) & set(NO_PREFILL)


@every
def test_which_videos_are_processed_one_by_one_is_found_by_trying_it(model):
    fields, name = rules_of(model), model.config.name_or_path
    assert fields.why_unmixed is None and fields.why_one_length is None and fields.apart == (name in ONE_BY_ONE)


@pytest.mark.parametrize("model", sorted(ONE_BY_ONE), indirect=True)
def test_videos_of_two_lengths_and_a_picture_have_the_tokens_and_features_of_each_alone(model):
    processor, rules, random = processor_of(model.config.name_or_path), rules_of(model), torch.Generator()
    shown = [*clips((3, 6), random), *pictures(1, random)]
    together, *alone = (process_chat(processor, chat_about(some), rules, {}) for some in (shown, *zip(shown)))
    joined = joined_parts([features_of(model.base_model, each.images, each.joins) for each in alone])
    found = features_of(model.base_model, together.images, together.joins)
    for one, other in zip(tensors_in(kept_parts(found)), tensors_in(kept_parts(joined)), strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)
    said, *each = (processor.tokenizer.decode(made.ids) for made in (together, *alone))
    texts = [text_of_video(processor, video) for video in shown[:2]]
    assert texts[1] in said.partition(texts[0])[2] and all(map(str.count, each, texts))
    chat, sizes = chat_about(shown), [shown[2].size]
    assert len(ids_with_videos(processor, chat, sizes, shown[:2], "native", True)) == len(together.ids)
    media = rules.image_ids | rules.video_ids
    assert count_in(together.ids, media) == sum(count_in(made.ids, media) for made in alone)


def count_in(ids, tokens):
    """How many of the ids are some of these tokens."""
    return sum(i in tokens for i in ids.tolist())
