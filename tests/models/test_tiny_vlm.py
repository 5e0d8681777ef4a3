"""The embedded models: small, real Qwen2.5-VLs, the same after save and reload, seeing well and answering as asked
only some of the time."""

import json
import re

import motion_lessons
import numpy as np
import pytest
import shape_lessons
import teaching
import torch
import zoom_lessons
from helpers.repository import REPO
from transformers import AutoModelForImageTextToText, AutoProcessor

from open_r1.data.jsonl_io import read_lines
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.models.repairs import repair
from open_r1.rewards.parsing.boxes import last_box
from open_r1.rewards.referring import box_iou

TEXTS = [
    "What digits are in this image? [1, 2]",
    "naïve café 12345 \n\n  x=3.14 你好",
    "<think>I see 7.</think><answer>[7]</answer>",
]


ALL = pytest.mark.parametrize("asset", ["tiny-vlm", "tiny-vlm-shapes", "tiny-vlm-zoom", "tiny-vlm-motion"])


def load(asset):
    folder = REPO / "assets" / asset
    model = repair(AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval())
    return model, AutoProcessor.from_pretrained(folder, padding_side="left")


@ALL
def test_it_is_small(asset):
    model, _ = load(asset)
    assert sum(path.stat().st_size for path in (REPO / "assets" / asset).rglob("*")) < 6_000_000
    assert 1_000_000 < sum(p.numel() for p in model.parameters()) < 3_000_000
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"


@ALL
def test_weights_are_safetensors_only(asset):
    assert {p.suffix for p in (REPO / "assets" / asset).iterdir()} <= {".safetensors", ".json", ".jinja", ".md"}


@ALL
def test_tokens_are_the_same_after_save_and_reload(asset, tmp_path):
    _, processor = load(asset)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.chat_template == processor.chat_template
    for text in TEXTS:
        ids = processor.tokenizer(text)["input_ids"]
        assert again.tokenizer(text)["input_ids"] == ids
        assert processor.tokenizer.decode(ids) == text


@pytest.mark.slow
def test_it_reads_well_and_answers_as_asked_some_of_the_time(tiny, digits, tmp_path):
    flags = f"--model {tiny} --task digits --data_file_paths {digits}/heldout.jsonl --image_folders {digits}"
    flags += f" --output_dir {tmp_path} --batch_size 64 --max_completion_length 40 --by digits"
    figures = run_evaluation(parser_of(None).parse_args(flags.split()))["think"]
    lines = read_lines(tmp_path / "predictions.jsonl")
    digits_read = [line["completion"].split("I see ")[-1].split(".")[0] for line in lines]
    read = [
        s == " ".join(map(str, json.loads(line["by"]["digits"]))) for s, line in zip(digits_read, lines, strict=True)
    ]
    assert sum(read) / len(read) > 0.9
    assert 0.2 < figures["accuracy"] <= 0.65 and figures["n"] == 64


def sees_items(extra, text):
    return ", ".join(name.split(" ", 1)[1] for name in extra["items"]) in text


def sees_named_shape(extra, text):
    """Whichever shape it names, its box is right."""
    boxes = [item["box"] for item in extra["items"] if f"<think> {item['name']} </think>" in text]
    return any(box_iou(last_box(text).xyxy, box) > 0.5 for box in boxes)


def sees_pairs(extra, text):
    return ", ".join(f"{c} {m}" for c, m in zip(extra["coded"], extra["message"], strict=True)) in text


def sees_sides(extra, text):
    match = re.search(r"(\w+) (\d+) by (\d+)", text)
    sides = [abs(int(match[k]) - extra[name]) for k, name in ((2, "width"), (3, "height"))] if match else [9]
    return max(sides) <= 1.5 and match[1] == extra["shape"]


SEES = {"counting": sees_items, "rec": sees_named_shape, "decode_words": sees_pairs, "area": sees_sides}
# (least share of pictures seen right, least and most share of right answers)
SEEN_AND_RIGHT = {
    "counting": (0.8, 0.5, 0.75),
    "rec": (0.5, 0.3, 0.6),
    "decode_words": (0.95, 0.05, 0.3),
    "area": (0.85, 0.4, 0.65),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", SEEN_AND_RIGHT)
def test_it_sees_well_and_answers_as_asked_some_of_the_time(task):
    """Seen right: the completion names what the teacher would, whatever it then answers."""
    model, processor = load("tiny-vlm-shapes")
    rng = np.random.default_rng(7)
    lessons = [shape_lessons.lesson(task, rng, 4, "asked") for _ in range(96)]
    texts = teaching.answers(model, processor, lessons, tokens=60)
    sees_well = [SEES[task](lesson.gold.extra, text) for lesson, text in zip(lessons, texts, strict=True)]
    right = [shape_lessons.is_right(lesson, text) for lesson, text in zip(lessons, texts, strict=True)]
    least, low, high = SEEN_AND_RIGHT[task]
    assert sum(sees_well) / len(sees_well) >= least
    assert low <= sum(right) / len(right) <= high


@pytest.mark.slow
def test_the_zoom_model_calls_some_of_the_time_and_finds_the_right_frame_in_a_part_of_its_calls():
    torch.manual_seed(0)
    figures = zoom_lessons.figures(*load("tiny-vlm-zoom"), "habits", rows=128)
    assert 0.3 <= figures["calls"] <= 0.6
    assert 0.2 <= figures["right of calls"] <= 0.6


@pytest.mark.slow
def test_the_motion_model_sees_what_changes_and_answers_as_asked_some_of_the_time():
    figures = motion_lessons.figures(*load("tiny-vlm-motion"), "habits", rows=128)
    assert min(figures[f"{kind} seen"] for kind in motion_lessons.KINDS) > 0.8
    assert 0.2 < np.mean([figures[kind] for kind in motion_lessons.KINDS]) <= 0.6
