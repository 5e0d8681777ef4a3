"""Prompt lengths from image headers equal what the processor makes of the pictures themselves."""

import pytest
from PIL import Image
from transformers import AutoProcessor

from open_r1.conversation import messages
from open_r1.errors import DataError
from open_r1.images import load_images
from open_r1.lengths import prompt_tokens, refuse_long_prompts
from open_r1.models import set_pixel_limits
from open_r1.records import load_records

INSTRUCTION = "{question} Think."


def processed_tokens(record, processor) -> int:
    text = processor.apply_chat_template(messages(record, INSTRUCTION), add_generation_prompt=True)
    return len(processor(text=[text], images=load_images([record])[0] or None)["input_ids"][0])


@pytest.mark.parametrize("limits", [(None, None), (None, 5000), (20000, 40000)])
def test_lengths_are_those_of_the_processor(tiny, mixed, limits):
    processor = AutoProcessor.from_pretrained(tiny)
    set_pixel_limits(processor, *limits)
    for record in load_records(str(mixed), str(mixed.parent)).select(range(6)):
        assert prompt_tokens(record, processor, INSTRUCTION) == processed_tokens(record, processor)


def test_small_and_odd_pictures(tiny, tmp_path):
    rows = []
    for i, size in enumerate([(5, 9), (27, 300), (301, 97), (28, 28)]):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
        rows.append(f'{{"image": "{i}.png", "problem": "a?", "solution": "b"}}')
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    processor = AutoProcessor.from_pretrained(tiny)
    for record in load_records(str(tmp_path / "t.jsonl"), str(tmp_path)):
        assert prompt_tokens(record, processor, INSTRUCTION) == processed_tokens(record, processor)


def test_every_long_row_is_named(tiny, mixed):
    records = load_records(str(mixed), str(mixed.parent)).select(range(3))
    processor = AutoProcessor.from_pretrained(tiny)
    longest = max(prompt_tokens(record, processor, INSTRUCTION) for record in records)
    refuse_long_prompts(records, processor, INSTRUCTION, longest)
    with pytest.raises(DataError) as error:
        refuse_long_prompts(records, processor, INSTRUCTION, 3)
    assert len(error.value.problems) == 3 and "raise --max_prompt_length to" in str(error.value)
