"""The embedded model: small, a real Qwen2.5-VL, the same after save and reload, reading well and answering as asked
only some of the time."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from open_r1.evaluation import answer_batches
from open_r1.records import load_records
from open_r1.rewards import METHODS
from open_r1.tasks import TASKS

TEXTS = [
    "What digits are in this image? [1, 2]",
    "naïve café 12345 \n\n  x=3.14 你好",
    "<think>I see 7.</think><answer>[7]</answer>",
]


@pytest.fixture(scope="module")
def model(tiny):
    return AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor(tiny):
    return AutoProcessor.from_pretrained(tiny, padding_side="left")


def test_it_is_small(tiny, model):
    assert sum(path.stat().st_size for path in Path(tiny).rglob("*")) < 6_000_000
    assert 1_000_000 < sum(p.numel() for p in model.parameters()) < 3_000_000
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"


def test_weights_are_safetensors_only(tiny):
    assert {p.suffix for p in Path(tiny).iterdir()} <= {".safetensors", ".json", ".jinja", ".md"}


def test_tokens_are_the_same_after_save_and_reload(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.chat_template == processor.chat_template
    for text in TEXTS:
        ids = processor.tokenizer(text)["input_ids"]
        assert again.tokenizer(text)["input_ids"] == ids
        assert processor.tokenizer.decode(ids) == text


def test_it_reads_well_and_answers_as_asked_some_of_the_time(model, processor, digits):
    records = load_records(str(digits / "heldout.jsonl"), str(digits), reward_methods="digits")
    batches = answer_batches(model, processor, records, TASKS["digits"].prompts["think"], 64, 40)
    answers = [pair for batch in batches for pair in batch]
    seen = [text.split("I see ")[-1].split(".")[0] for _, text, _ in answers]
    read = [s == " ".join(map(str, record.extra["digits"])) for s, (record, _, _) in zip(seen, answers, strict=True)]
    right = [METHODS["digits"].score(text, record) for record, text, _ in answers]
    assert sum(read) / len(read) > 0.9
    assert 0.2 < sum(right) / len(right) <= 0.65
