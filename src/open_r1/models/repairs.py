"""Repairs of classes that transformers 5.17 has wrong, each until transformers does it itself."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from transformers import PreTrainedModel

from open_r1.models.video_positions import count_all_channels

Forward = Callable[..., Any]
_repaired: set[type[torch.nn.Module]] = set()


def repair(model: PreTrainedModel) -> PreTrainedModel:
    """The model, with the classes of its modules repaired: copies of it, and others of its kind, have it too."""
    for kind in {type(module) for module in model.modules()}:
        if kind.__name__ in REPAIRS and kind not in _repaired:
            method, mend = REPAIRS[kind.__name__]
            setattr(kind, method, mend(getattr(kind, method)))
            _repaired.add(kind)
    return model


def merge_each_picture(merge: Forward) -> Forward:
    """MiniCPM-V's merger of windows, run once a picture: it takes all pictures of a call for as large as the first.

    Its input is (1, patches of all pictures, D), with `target_sizes` (pictures, 2) in patches.
    """

    @wraps(merge)
    def forward(
        self: torch.nn.Module, hidden_states: torch.Tensor, target_sizes: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        parts = hidden_states.split(target_sizes.prod(dim=-1).tolist(), dim=1)
        merged = [merge(self, part, size, **kwargs) for part, size in zip(parts, target_sizes.split(1), strict=True)]
        return torch.cat(merged, dim=1)

    return forward


def merge_in_type_of_text(merge: Forward) -> Forward:
    """SmolVLM's merger of text and images, which fails under autocast: there features are of half the text's type."""

    @wraps(merge)
    def inputs_merger(
        self: torch.nn.Module,
        input_ids: torch.Tensor,
        inputs_embeds: torch.Tensor,
        image_hidden_states: torch.Tensor,
    ) -> torch.Tensor:
        return merge(self, input_ids, inputs_embeds, image_hidden_states.to(inputs_embeds.dtype))

    return inputs_merger


def take_pixels_in_own_type(features: Forward) -> Forward:
    """Image features of models that hand float32 pixels on to a tower of half weights, which refuses them."""

    @wraps(features)
    def get_image_features(self: PreTrainedModel, pixel_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return features(self, pixel_values.to(self.dtype), *args, **kwargs)

    return get_image_features


def tell_frames_from_pictures(mask: Forward) -> Forward:
    """GLM's masks of image and of video tokens, which it takes for one: in a pass over both, each had the features of
    the other. Tokens of frames are those between the marks of a video."""

    @wraps(mask)
    def get_placeholder_mask(
        self: PreTrainedModel,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor,
        image_features: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if input_ids is None:
            return mask(self, input_ids, inputs_embeds, image_features, video_features)
        begun, ended = (input_ids == getattr(self.config, f"video_{end}_token_id") for end in ("start", "end"))
        framed = begun.cumsum(-1) > ended.cumsum(-1)
        of_pictures, _ = mask(self, input_ids.masked_fill(framed, -1), inputs_embeds, image_features)
        _, of_videos = mask(self, input_ids.masked_fill(~framed, -1), inputs_embeds, None, video_features)
        return of_pictures, of_videos

    return get_placeholder_mask


def leave_out_padded_frames(features: Forward) -> Forward:
    """LLaVA-OneVision's features of videos (B, T, C, H, W), of which the shorter end in frames of zeros: these have
    none, and the videos stand one behind the other with the line's end that the model puts behind a video."""

    @wraps(features)
    def get_video_features(self: PreTrainedModel, pixel_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        there = pixel_values.flatten(2).ne(0).any(-1)  # (B, T)
        if there.all():
            return features(self, pixel_values, *args, **kwargs)
        output = features(self, pixel_values[there][:, None], *args, **kwargs)
        videos = output.pooler_output.split(there.sum(-1).tolist())
        end = self.image_newline.to(output.pooler_output)[None]
        parts = [part for video in videos for part in (video.flatten(0, 1), end)]
        output.pooler_output = torch.cat(parts[:-1])[None]
        return output

    return get_video_features


REPAIRS: dict[str, tuple[str, Callable[[Forward], Forward]]] = {  # class -> its method, and what mends it
    "MiniCPMV4_6ViTWindowAttentionMerger": ("forward", merge_each_picture),
    "SmolVLMModel": ("inputs_merger", merge_in_type_of_text),
    "AriaModel": ("get_image_features", take_pixels_in_own_type),
    "Kimi_K25Model": ("get_image_features", take_pixels_in_own_type),
    "Llama4ForConditionalGeneration": ("get_image_features", take_pixels_in_own_type),
    "Glm4vModel": ("get_placeholder_mask", tell_frames_from_pictures),
    "Glm4vMoeModel": ("get_placeholder_mask", tell_frames_from_pictures),
    "Glm46VModel": ("get_placeholder_mask", tell_frames_from_pictures),
    "LlavaOnevisionModel": ("get_video_features", leave_out_padded_frames),
    "Qwen2VLModel": ("get_rope_index", count_all_channels),
    "Qwen2_5_VLModel": ("get_rope_index", count_all_channels),
    "Ernie4_5_VLMoeModel": ("get_rope_index", count_all_channels),
}
