"""Repairs of classes that transformers 5.17 has wrong, each until transformers does it itself."""

from collections.abc import Callable, Sequence
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
            for method, mend in REPAIRS[kind.__name__]:
                setattr(kind, method, mend(getattr(kind, method)))
            _repaired.add(kind)
    return model


def merge_windows_at_once(merge: Forward) -> Forward:
    """MiniCPM-V's merger of windows, which takes all pictures of a call for as large as the first: here of any sizes,
    with one call of its parts, as ranks need that share its weights.

    Its input is (1, patches of all pictures, D), with `target_sizes` (pictures, 2) in patches.
    """

    @wraps(merge)
    def forward(
        self: torch.nn.Module, hidden_states: torch.Tensor, target_sizes: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        order, ends, longest = self.get_window_index(target_sizes, kwargs=kwargs)
        order, ends = order.to(hidden_states.device), ends.to(hidden_states.device)
        mixed, _ = self.self_attn(
            hidden_states=self.layer_norm1(hidden_states)[:, order], cu_seqlens=ends, max_seqlen=longest
        )
        windows = (hidden_states[:, order] + mixed)[0].unflatten(0, (-1, longest))
        merged = self.linear_2(self.act(self.linear_1(self.pre_norm(windows.flatten(1)))))
        return (merged + windows.mean(dim=1))[None]

    return forward


def merge_blocks_at_once(merge: Forward) -> Forward:
    """MiniCPM-V's last merger, whose parts run once a picture: here once for all, as ranks need that share them."""

    @wraps(merge)
    def forward(self: torch.nn.Module, hidden_states: torch.Tensor, target_sizes: torch.Tensor) -> list[torch.Tensor]:
        states, sizes, (high, wide) = hidden_states[0], target_sizes.tolist(), self.merge_kernel_size
        for mlp in self.mlp:
            blocks = states[block_order(sizes, high, wide).to(states.device)]
            states = mlp(blocks.reshape(-1, high * wide * states.shape[-1]))
            sizes = [(h // high, w // wide) for h, w in sizes]
        return list(states.split([h * w for h, w in sizes]))

    return forward


def block_order(sizes: Sequence[tuple[int, int]], high: int, wide: int) -> torch.Tensor:
    """The places of all pictures' patches, of `sizes` (rows, columns), block by block of `high` x `wide` patches.

    >>> block_order([(2, 4)], 2, 2).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    places = torch.arange(sum(h * w for h, w in sizes)).split([h * w for h, w in sizes])
    grids = (p.view(h // high, high, w // wide, wide) for p, (h, w) in zip(places, sizes, strict=True))
    return torch.cat([grid.permute(0, 2, 1, 3).flatten() for grid in grids])


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


def end_each_video(features: Forward) -> Forward:
    """LLaVA-OneVision's features of videos (B, T, C, H, W), of which the shorter end in frames of zeros: these have
    none, and the videos stand one behind the other, (1, tokens, D), each with the line's end that the model puts
    behind it, so that those of several prompts join."""

    @wraps(features)
    def get_video_features(self: PreTrainedModel, pixel_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        there = pixel_values.flatten(2).ne(0).any(-1)  # (B, T)
        output = features(self, pixel_values[there][:, None], *args, **kwargs)
        videos = output.pooler_output.split(there.sum(-1).tolist())
        end = self.image_newline.to(output.pooler_output)[None]
        output.pooler_output = torch.cat([part for video in videos for part in (video.flatten(0, 1), end)])[None]
        output.token_dimension = 1  # on which those of several prompts join (`rollout/vision_features.py`)
        return output

    return get_video_features


def leave_out_second_end(mask: Forward) -> Forward:
    """LLaVA-OneVision's masks of image and of video tokens: its forward pass puts one more line's end behind features
    that have their own, for which there is no token and which it then does not take."""

    @wraps(mask)
    def get_placeholder_mask(
        self: PreTrainedModel,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor,
        image_features: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ended = None if video_features is None else video_features[:-1]
        return mask(self, input_ids, inputs_embeds, image_features, ended)

    return get_placeholder_mask


Mend = tuple[str, Callable[[Forward], Forward]]  # a method, and what mends it
_TELL_FRAMES: Mend = ("get_placeholder_mask", tell_frames_from_pictures)
_COUNT_CHANNELS: Mend = ("get_rope_index", count_all_channels)
REPAIRS: dict[str, tuple[Mend, ...]] = {  # of a class
    "MiniCPMV4_6ViTWindowAttentionMerger": (("forward", merge_windows_at_once),),
    "MiniCPMV4_6Merger": (("forward", merge_blocks_at_once),),
    "SmolVLMModel": (("inputs_merger", merge_in_type_of_text),),
    "AriaModel": (("get_image_features", take_pixels_in_own_type),),
    "Kimi_K25Model": (("get_image_features", take_pixels_in_own_type),),
    "Llama4ForConditionalGeneration": (("get_image_features", take_pixels_in_own_type),),
    "Glm4vModel": (_TELL_FRAMES,),
    "Glm4vMoeModel": (_TELL_FRAMES,),
    "Glm46VModel": (_TELL_FRAMES,),
    "LlavaOnevisionModel": (
        ("get_video_features", end_each_video),
        ("get_placeholder_mask", leave_out_second_end),
    ),
    "Qwen2VLModel": (_COUNT_CHANNELS,),
    "Qwen2_5_VLModel": (_COUNT_CHANNELS,),
    "Ernie4_5_VLMoeModel": (_COUNT_CHANNELS,),
}
