"""Masked patches are what a family's own processor makes of black ones, and nothing else of a prompt changes."""

from dataclasses import replace

import pytest
import torch
from helpers import families
from PIL import Image

from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompts import process_chat
from open_r1.trainer.forward.patch_masks import mask_patches, pixels_of_color


@pytest.mark.slow
@pytest.mark.parametrize("name", families.PROCESSORS)
def test_a_picture_masked_whole_is_a_black_one(name):
    processor = families.processor_of(name)
    fields = replace(prompt_fields(processor), rope=None)
    chat = families.chat(1, text=9, seed=1)
    prompt = process_chat(processor, chat, fields, {})
    for part in chat[0]["content"]:
        if part["type"] == "image":
            part["image"] = Image.new("RGB", part["image"].size)
    black = process_chat(processor, chat, fields, {})
    masked = mask_patches(prompt, pixels_of_color(processor, fields), 1.0, [0])
    assert masked.ids is prompt.ids and masked.images.keys() == prompt.images.keys()
    pixels = 0
    for field, value in prompt.images.items():
        if not value.is_floating_point():
            assert masked.images[field] is value
            continue
        drawn = value != black.images[field]  # padding is the same in both
        torch.testing.assert_close(masked.images[field][drawn], black.images[field][drawn], atol=0.02, rtol=0.02)
        pixels += int(drawn.sum())
    assert pixels > 100
