"""Patches and tokens of the largest picture and the longest video of a prompt."""

import logging
from math import ceil
from operator import itemgetter

from PIL import Image
from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin

from open_r1.data.prompt_length import frame_ids, frame_sizes
from open_r1.data.video.types import FrameSampling
from open_r1.errors import UsageError
from open_r1.models.configuration import one_line
from open_r1.models.loading import set_frame_limits
from open_r1.plan.config_numbers import patches_of_token, side_of, vision_config_of
from open_r1.rollout.processing import process, user_turn
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.video_form import resolved_form

logger = logging.getLogger(__name__)

TIME_TOKENS = 10  # of a frame's time as text, "<12.5 seconds>", and of its marks
TILES = 12  # most tiles an image of a model that cuts images into tiles, plus one of the whole image
LARGE_SHAPES = (
    (2048, 2048),
    (4096, 1024),
    (1024, 4096),
)  # (width, height) in pixels of pictures whose tokens are counted


def per_image(
    config: PreTrainedConfig, max_pixels: int, tokens: int | None = None, tiles: int = TILES, name: str | None = None
) -> tuple[int, int]:
    """(patches, tokens) of the largest image: of `tokens` where given; of `max_pixels` where images are resized by
    area, of `tiles` tiles and the whole image where they are cut, of the family's one size, else what the processor
    of the model `name` counts. Raises UsageError where that is unknown.
    """
    vision, per_token = vision_config_of(config), patches_of_token(config)
    if tokens is None and hasattr(vision, "spatial_merge_size"):
        tokens = max_pixels // side_of(vision.patch_size) ** 2 // per_token
    elif tokens is None and (config.model_type == "internvl" or hasattr(config, "mm_tokens_per_image")):
        pieces = tiles + 1 if config.model_type == "internvl" and tiles > 1 else 1
        tokens = pieces * (side_of(vision.image_size) // side_of(vision.patch_size)) ** 2 // per_token
    elif tokens is None:
        tokens = counted_tokens(config, name)
    return tokens * per_token, tokens


def per_video(
    config: PreTrainedConfig, frames: int, max_pixels: int, tokens: int | None = None, name: str | None = None
) -> tuple[int, int]:
    """(patches, tokens) of the longest video, of `frames` frames of `max_pixels`: as the processor of the model `name`
    makes them; where it cannot be read or `tokens` of a frame are given, of a pair of frames where the vision tower
    takes pairs, with TIME_TOKENS each. Raises UsageError as `per_image`."""
    processor = processor_of_model(name) if name is not None and tokens is None else None
    if processor is not None:
        return longest_video(processor, config, FrameSampling(max_frames=frames, max_pixels=max_pixels))
    pairs = ceil(frames / getattr(vision_config_of(config), "temporal_patch_size", 1))
    patches, seen = per_image(config, max_pixels, tokens, 1, name)
    return pairs * patches, pairs * (seen + TIME_TOKENS)


def processor_of_model(name: str) -> ProcessorMixin | None:
    """The processor of a model folder or hub name, None where it cannot be read."""
    try:
        return AutoProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        logger.info("%s: its processor cannot be read (%s)", name, one_line(error))
        return None


def longest_video(processor: ProcessorMixin, config: PreTrainedConfig, frames: FrameSampling) -> tuple[int, int]:
    """(patches, tokens) that a processor makes of the most frames of the largest area, in the form that a run of
    `--video_form auto` shows, else as pictures: of the longest of several proportions."""
    form = resolved_form("auto", processor, config.model_type)[0] or "frames"
    set_frame_limits(processor, frames)
    fields = prompt_fields(processor, video_form=form)
    media, none = fields.image_ids | fields.video_ids, process(processor, [user_turn(".")])["input_ids"].shape[1]

    def counted(size: tuple[int, int]) -> tuple[int, int]:
        ids = frame_ids(processor, size, frames, form)
        return patches_of_token(config) * sum(i in media for i in ids), len(ids) - none

    return max(map(counted, frame_sizes(frames)), key=itemgetter(1))


def counted_tokens(config: PreTrainedConfig, name: str | None) -> int:
    """The most tokens that the processor of the model `name` makes of an image. Raises UsageError without one."""
    why = f"{config.model_type} resizes in its own way"
    if name is not None:
        try:
            return largest_image(AutoProcessor.from_pretrained(name, trust_remote_code=False))
        except (OSError, ValueError, ImportError) as error:
            why += f", and its processor cannot be read ({one_line(error)})"
    raise UsageError(
        f"--image_tokens: got nothing, expected the tokens of an image, as {why}; python -m open_r1.check --model "
        "counts prompts"
    )


def largest_image(processor: ProcessorMixin) -> int:
    """The most tokens that a processor makes of large pictures of three shapes."""

    def length(pictures: list[Image.Image]) -> int:
        parts = [*({"type": "image", "image": each} for each in pictures), {"type": "text", "text": "."}]
        fields = processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=True, return_dict=True, return_tensors="pt"
        )
        return fields["input_ids"].shape[1]

    return max(length([Image.new("RGB", size)]) for size in LARGE_SHAPES) - length([])
