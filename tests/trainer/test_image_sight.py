"""Which image tokens see each other is found in the masks of each model; a mask of another kind refuses packing."""

import pytest
import torch
from helpers import families

from open_r1.trainer.forward.image_blocks import ImageSight, blocks_of
from open_r1.trainer.forward.image_sight import image_sight, masks_of, why_masks_differ
from open_r1.trainer.forward.packing import lay_out
from open_r1.trainer.forward.shared_prefix import why_no_shared_prefix

SIGHTS = {
    "qwen2_5_vl": ImageSight(),
    "exaone4_5": ImageSight(),
    "gemma3": ImageSight(full=True, sliding=True),
    "gemma4": ImageSight(),
    "gemma4_vision": ImageSight(sliding=True),
    "gemma4_unified": ImageSight(full=True, sliding=True, beyond=True),
}


@pytest.mark.parametrize("family", SIGHTS)
def test_the_sight_of_a_family_is_found_in_its_masks(family):
    assert image_sight(families.tiny(family)) == SIGHTS[family]


@pytest.mark.parametrize("family", ["gemma3", "gemma4_vision", "gemma4_unified"])
def test_the_mask_of_a_prompt_with_images_is_the_models_own(family):
    """Two images, each longer than the window of 8 tokens, behind and before text."""
    model = families.tiny(family)
    (prompt, *_) = families.group_prompts(model, [(2, 12, 1)])
    (types,) = [values for name, values in prompt.types.items() if name.endswith("token_type_ids")]
    length = len(types) - 1
    lengths = (torch.tensor([length]), torch.tensor([1]), torch.tensor([0]))
    layout = lay_out(*lengths, blocks_of([prompt]), torch.device("cpu"), image_sight(model))
    for kind, mask in masks_of(model.base_model, types).items():
        ours = layout.prefix_mask(model.config.get_text_config().sliding_window if "sliding" in kind else None)
        causal = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
        own = causal if mask is None else mask[..., :-1, :-1]
        assert torch.equal(causal if ours is None else ours, own), kind


def test_a_mask_of_another_kind_refuses_packing():
    model = families.tiny("paligemma")  # all of a prompt sees all of it
    reason = "the mask of its images is none that packed groups know (full_attention)"
    assert why_masks_differ(model) == reason and why_no_shared_prefix(model) is not None
