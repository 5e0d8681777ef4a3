"""What is known of every family's processor by trying it: how many tokens a prompt has, and what its fields count."""

import pytest
import torch
from helpers import families
from helpers.families.prompts import picture

from open_r1.data.chat import messages, with_images
from open_r1.data.images import load_images
from open_r1.data.prompt_length import LengthBound
from open_r1.data.prompt_tokens import prompt_tokens
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.models.banned_tokens import image_token_ids, is_media
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompts import process_chat

SIZES = {"tiny": (9, 5), "wide": (900, 30), "tall": (30, 400), "large": (600, 500), "plain": (80, 100)}
ROWS = [[], ["tiny"], ["wide"], ["tall"], ["large"], ["plain", "wide"]]
TEXT_ROWS_REFUSED = {"paligemma"}  # its processor takes no prompt without a picture
ONE_SIZE = {"perception_lm"}  # its processor takes no two pictures of different sizes
NO_NARROW = {"lfm2_vl"}  # its processor fails on one


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    for name, size in SIZES.items():
        picture(size, torch.Generator().manual_seed(1)).save(made / f"{name}.png")
    return made


def row_of(names: list[str], folder) -> Record:
    turn = Turn("user", "<image>" * len(names) + "What?")
    return Record("1", tuple(f"{name}.png" for name in names), str(folder), (turn,), "1", where="a.jsonl:1")


def is_refused(name: str, pictures: list[str]) -> bool:
    """Whether the family's own processor raises."""
    narrow = name in NO_NARROW and {"wide", "tall"} & set(pictures)
    return bool(narrow) or (name in TEXT_ROWS_REFUSED and not pictures) or (name in ONE_SIZE and len(pictures) > 1)


@pytest.mark.parametrize("name", families.PROCESSORS)
def test_prompts_have_the_tokens_that_are_counted_and_no_more_than_the_bound(name, folder):
    processor = families.processor_of(name)
    bound, fields = LengthBound(processor, None, False), prompt_fields(processor)
    for pictures in ROWS:
        record = row_of(pictures, folder)
        if is_refused(name, pictures):
            continue
        chat = with_images(messages(record), load_images([record])[0])
        made = len(process_chat(processor, chat, fields, {}).ids)
        assert prompt_tokens(record, processor, None) == made <= bound(record), record.images


# the special tokens of the tiny tokenizers that a completion may hold; all others stand for pictures and sound
WRITABLE = {"<pad>", "<bos>", "<|im_end|>", "<|im_start|>", "<end_of_utterance>"}


@pytest.mark.parametrize("name", families.PROCESSORS)
def test_each_special_token_is_banned_or_free(name):
    processor = families.processor_of(name)
    banned = set(image_token_ids(families.config_of(name), processor))
    special = {i: t.content for i, t in processor.tokenizer.added_tokens_decoder.items() if t.special}
    assert {token for i, token in special.items() if i not in banned} <= WRITABLE
    assert not WRITABLE & {special.get(i) for i in banned}


def test_tokens_that_answers_are_written_with_are_free():
    media = "<|vision_pad|> <|begin_of_image|> <|tile_x_separator|> <start_of_audio> <IMG_GRID> <|media_begin|>"
    answers = "<|box_start|> <|begin_of_box|> <point> <loc0001> <ref> <patch_index_0001> <|object_ref_start|> <think>"
    assert all(map(is_media, media.split()))
    assert not any(map(is_media, [*answers.split(), "<|im_start|>", "<|im_end|>", "<tool_call>"]))
