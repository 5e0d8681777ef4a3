"""Prompt lengths from image headers equal what the processor makes of the pictures themselves."""

from dataclasses import replace

import pytest
from helpers.cpu_time import cpu_seconds
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, LlamaConfig, Qwen2Config

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.data.chat import messages, with_images
from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.prompt_length import (
    LengthBound,
    Limit,
    most_image_tokens,
    prompt_length_limit,
    refuse_unusable_prompts,
)
from open_r1.data.prompt_tokens import positions_saved, prompt_tokens
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.errors import DataError
from open_r1.models.context_length import context_length, context_limits
from open_r1.models.loading import set_pixel_limits
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompts import process_chat

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


def test_every_long_row_is_named_behind_their_count(tiny, mixed):
    records = load_records(str(mixed), str(mixed.parent)).select(range(3))
    processor = AutoProcessor.from_pretrained(tiny)
    longest = max(prompt_tokens(record, processor, INSTRUCTION) for record in records)
    refuse_unusable_prompts(records, processor, INSTRUCTION, [prompt_length_limit(longest)])
    with pytest.raises(DataError) as error:
        refuse_unusable_prompts(records, processor, INSTRUCTION, [prompt_length_limit(3)])
    first, *rows = error.value.problems
    expected = (
        f"3 of 3 rows: prompt: got up to {longest} tokens, expected at most 3; raise --max_prompt_length to {longest}"
    )
    assert str(first).startswith(expected)
    assert [row.where for row in rows] == [record.where for record in records]
    assert all(f"tokens (id {record.id})" in row.got for row, record in zip(rows, records, strict=True))


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (Qwen2Config(max_position_embeddings=32768), 32768),
        (Qwen2Config(max_position_embeddings=32768, rope_parameters={"rope_type": "yarn", "factor": 4.0}), 131072),
        (
            Qwen2Config(
                max_position_embeddings=131072,
                rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            ),
            131072,
        ),
        (LlamaConfig(max_position_embeddings=4096, rope_parameters={"rope_type": "linear", "factor": 2.0}), 8192),
        (
            LlamaConfig(
                max_position_embeddings=131072,
                rope_parameters={
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "original_max_position_embeddings": 8192,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                },
            ),
            131072,
        ),
    ],
)
def test_the_context_counts_rope_scaling_once(config, tokens):
    assert context_length(config) == tokens


def grpo_limits(tiny, *flags: str) -> list[Limit]:
    argv = ["--model_name_or_path", tiny, "--data_file_paths", "x", "--output_dir", "y", "--bf16", "false"]
    argv += ["--num_generations", "2", "--per_device_train_batch_size", "2", "--report_to", "none", *flags]
    return context_limits(AutoConfig.from_pretrained(tiny), parse(JsonlArguments, argv)[1])


def test_prompts_over_the_context_are_refused_without_any_flag(tiny):
    """A prompt of 4,096 tokens and more, which is all that the tiny VLM can hold, less a completion."""
    (limit,) = grpo_limits(tiny, "--max_completion_length", "96")
    assert limit.tokens == 4000
    processor = AutoProcessor.from_pretrained(tiny)
    rows = [Record(str(n), (), "", (Turn("user", "1 " * n),), "1", where=f"a.jsonl:{n}") for n in (100, 1000, 5000)]
    lengths = [prompt_tokens(row, processor, INSTRUCTION) for row in rows]
    assert lengths[1] < 4000 < lengths[2]
    with pytest.raises(DataError) as error:
        refuse_unusable_prompts(rows, processor, INSTRUCTION, [limit])
    assert str(error.value).splitlines()[1] == (
        f"a.jsonl:5000: prompt: got {lengths[2]} tokens (id 5000), expected at most the model's context of 4096 "
        "tokens less --max_completion_length 96; lower --max_completion_length or --max_pixels, or remove the row"
    )


def test_a_taught_answer_counts_for_the_context_and_not_for_the_prompts_limit(tiny):
    processor = AutoProcessor.from_pretrained(tiny)
    row = Record("1", (), "", (Turn("user", "What?"),), "1 " * 500, where="a.jsonl:1")
    whole = prompt_tokens(row, processor, INSTRUCTION, row.solution)
    limits = (processor, INSTRUCTION), (lambda record: record.solution)
    refuse_unusable_prompts([row], *limits[0], [prompt_length_limit(200), Limit(whole, "", "")], limits[1])
    with pytest.raises(DataError, match=f"got {whole} tokens"):
        refuse_unusable_prompts([row], *limits[0], [prompt_length_limit(200), Limit(whole - 1, "", "")], limits[1])


@pytest.mark.parametrize("fault", ["{{ m.content + 'x' }}", "{{ m.nothing.at_all }}", "{{ raise_exception('none') }}"])
def test_a_row_that_the_template_does_not_render_is_named_whatever_is_raised(tiny, fault):
    processor, turns = AutoProcessor.from_pretrained(tiny), (Turn("system", "be brief"), Turn("user", "what?"))
    processor.chat_template += (
        f"{{% for m in messages %}}{{% if m.role == 'system' %}}{fault}{{% endif %}}{{% endfor %}}"
    )
    row = Record("1", (), "", turns, "1", where="a.jsonl:7")
    refuse_unusable_prompts([replace(row, turns=turns[1:])], processor, None, [prompt_length_limit(200)])
    for call in (
        lambda: refuse_unusable_prompts([row], processor, None, [prompt_length_limit(200)]),
        lambda: prompt_tokens(row, processor, None),
    ):
        with pytest.raises(DataError, match=r"^a\.jsonl:7: prompt: got \w+Error: .*remove the row"):
            call()


def test_m_rope_positions_are_counted_as_the_model_counts_them(tiny, mixed):
    processor = AutoProcessor.from_pretrained(tiny)
    fields = prompt_fields(processor, AutoModelForImageTextToText.from_pretrained(tiny))
    records = load_records(str(mixed), str(mixed.parent)).select(range(6))
    for record in records:
        prompt = process_chat(
            processor, with_images(messages(record, INSTRUCTION), load_images([record])[0]), fields, {}
        )
        saved = positions_saved(record, processor)
        assert len(prompt.ids) - saved == int(prompt.positions.max()) + 1
        assert (saved > 0) == bool(record.images)
    tokens = prompt_tokens(records[2], processor, INSTRUCTION)
    limit = Limit(tokens - 1, "", "", mrope=True)
    refuse_unusable_prompts([records[2]], processor, INSTRUCTION, [limit])
    with pytest.raises(DataError):
        refuse_unusable_prompts([records[2]], processor, INSTRUCTION, [replace(limit, mrope=False)])


def test_the_bound_is_never_under_the_length(tiny, mixed):
    processor = AutoProcessor.from_pretrained(tiny)
    rows = [*load_records(str(mixed), str(mixed.parent)).select(range(6))]
    texts = [
        "",
        "a",
        "  spaces   and\n\nlines ",
        "日本語",
        "🙂🙂",
        "\x00\u202e",
        "<|im_end|>",
        "é" * 50,
        "0123456789" * 9,
    ]
    rows += [Record("1", (), "", (Turn("system", text), Turn("user", text or "?")), text) for text in texts]
    for answered in (False, True):
        bound = LengthBound(processor, INSTRUCTION, answered)
        for row in rows:
            assert prompt_tokens(row, processor, INSTRUCTION, row.solution if answered else None) <= bound(row)


@pytest.mark.parametrize("limits", [(None, None), (None, 5000), (20000, 40000), (78400, 78400)])
def test_no_picture_has_more_tokens_than_the_most(tiny, limits):
    processor = AutoProcessor.from_pretrained(tiny)
    set_pixel_limits(processor, *limits)
    sides = [28, 29, 57, 140, 999, 2800, 5600]
    sizes = [(h, w) for h in sides for w in sides if max(h, w) <= 200 * min(h, w)]
    counted = processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
    assert max(counted) <= most_image_tokens(processor)


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_held_against_the_context_in_seconds(tiny):
    processor = AutoProcessor.from_pretrained(tiny)
    set_pixel_limits(processor, None, 1_000_000)
    turns = (Turn("user", "<image>" + "How many objects of this kind are there in the picture? " * 4),)
    rows = [Record(str(i), (f"{i}.png",), "nowhere", turns, "3", where=f"a.jsonl:{i}") for i in range(100_000)]
    limit = Limit(8000, "", "")
    # no picture is opened: there is none
    assert cpu_seconds(lambda: refuse_unusable_prompts(rows, processor, INSTRUCTION, [limit]), 10) < 10
