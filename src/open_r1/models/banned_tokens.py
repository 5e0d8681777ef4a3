"""Tokens that no completion may hold: those that stand for an image, a video or sound, or frame one.

Found by rule: ids that the configuration names so, tokens that processor and tokenizer name so, and special tokens
whose own words say so. Free stay the tokens that an answer is written with (boxes, points, references), as
`data.control_tokens` has them, and those that end a completion.
"""

import re
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig, ProcessorMixin

from open_r1.data.control_tokens import CONTENT

MEDIA = {"image", "images", "img", "imgs", "imgpad", "video", "videos", "vision", "visual", "media", "audio", "sound"}
MEDIA |= {"picture", "frame", "tile", "patch", "slice", "boi", "eoi", "boa", "eoa", "bov", "eov"}
IM = MEDIA | {"im"}  # in the name of a setting; ChatML's <|im_start|> is no image
ID = re.compile(r"_(id|ids|index)$")
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
TILE_PLACE = re.compile(r"row_\d+_col_\d+|^<?\|?global-img")  # the frame of a tile that names its place
PLACE = re.compile(r"patch_index_\d+")  # Kosmos-2 writes boxes with these


def words_of(name: str) -> set[str]:
    """The words of a name or a token, in small letters.

    >>> sorted(words_of("<|IMAGE_START|>")), sorted(words_of("visual_indicator_token_ids"))
    (['image', 'start'], ['ids', 'indicator', 'token', 'visual'])
    """
    return set(map(str.lower, _WORD.findall(_CAMEL.sub(" ", name).replace("_", " "))))


def is_media(token: str) -> bool:
    """Whether a special token says by its words that it stands for a picture, a video or sound, or frames one.

    >>> [is_media(token) for token in ("<|image_pad|>", "<row_1_col_2>", "<|box_start|>", "<loc0001>")]
    [True, True, False, False]
    """
    words = words_of(token)
    return not words & CONTENT and not PLACE.search(token) and bool(words & MEDIA or TILE_PLACE.search(token))


def image_token_ids(config: PreTrainedConfig, processor: ProcessorMixin) -> list[int]:
    """Ids of the tokens that stand for an image, a video or sound, or frame one. `config` is the model's."""
    tokenizer = processor.tokenizer
    special = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = {*ids_in(config.to_dict()), *(i for i, token in special.items() if is_media(token))}
    named = [*tokens_in(vars(processor)), *tokens_in(getattr(tokenizer, "special_tokens_map", {}))]
    ids |= {tokenizer.convert_tokens_to_ids(token) for token in named} - {tokenizer.unk_token_id}
    free = {i for i, token in special.items() if words_of(token) & CONTENT or PLACE.search(token)}
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}
    size = config.get_text_config().vocab_size
    return sorted(i for i in ids - free - ends - {None} if 0 <= i < size)


def ids_in(settings: dict[str, Any]) -> Iterator[int]:
    """Ids in nested settings under names such as `vision_start_token_id`, `eoi_token_index`, `im_newline_id`."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from ids_in(value)
        elif ID.search(str(name)) and words_of(str(name)) & IM:
            yield from (i for i in (value if isinstance(value, (list, tuple)) else [value]) if type(i) is int)


def tokens_in(fields: dict[str, Any]) -> Iterator[str]:
    """Tokens in fields such as `image_token`, `boi_token`, `vision_bos_token`."""
    for name, value in fields.items():
        if name.endswith("_token") and words_of(name) & IM and value:
            yield str(value)
