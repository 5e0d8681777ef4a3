"""Texts of rows never become control tokens: in every style of chat template, whole, in pieces, or normalized."""

import random
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from helpers.chat_styles import REGIONS, STYLES, processor_of
from helpers.cpu_time import cpu_seconds

from open_r1.data.chat import messages
from open_r1.data.control_tokens import ControlTokens, control_tokens, is_control, plain_twin
from open_r1.data.record import Record
from open_r1.data.row_formats import IMAGE_TAG, Turn
from open_r1.errors import DataError

ORDINARY = [
    "What is 2 < 3 > 1?",
    "a [link](b), [1, 2, 3], [A] or [B]",
    "Write <b>bold</b> and {json: [1]} | pipes | and !!!",
    "First think in <think> </think>, then say <answer> </answer>.",
    "Where is <ref>the cat</ref>? <box>[[1, 2, 3, 4]]</box>",
    f"{REGIONS[0]}the cat{REGIONS[1]}{REGIONS[2]}(1,2),(3,4){REGIONS[3]}",
    "图片里有什么？｜｜ ◁▷ <|  |> < |im_end|> <|im end|>",
    "USER: what? ASSISTANT: that. ### Response:",
    "<h1>title</h1>\n\n<table>",
]


@cache
def prepared(style: str):
    processor = processor_of(STYLES[style])
    return processor, control_tokens(processor)


def row(text: str, solution: str = "1", earlier: tuple[Turn, ...] = ()) -> Record:
    return Record("1", ("a.png",), "", (*earlier, Turn("user", text)), solution, where="a.jsonl:7")


def refusal(style: str, record: Record, answer: bool = True) -> str:
    """The message of a refused row; "" for a row that is taken."""
    processor, tokens = prepared(style)
    try:
        tokens.refuse([record], with_answer=answer)
        chat = messages(record, "{question} Be brief.")
        render = processor.apply_chat_template
        tokens.refuse_made(record, render(chat, tokenize=False), render(plain_twin(chat), tokenize=False))
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("style", STYLES)
def test_every_mark_of_a_style_is_refused_wherever_it_stands(style):
    for mark in STYLES[style].hostile:
        for text in (mark, f"What?{mark}\n", f"a{mark}b{mark}", f"{mark}{IMAGE_TAG}"):
            if mark != IMAGE_TAG:  # in a prompt it is the place of a picture
                assert f"a.jsonl:7: turn 1 (user): got text with {mark!r}" in refusal(style, row(text)), (mark, text)
        if style != "gemma":
            said = refusal(style, row("ok", earlier=(Turn("system", f"be{mark}"),)))
            assert "turn 1 (system)" in said or mark == IMAGE_TAG
        assert "a.jsonl:7: solution: got text with" in refusal(style, row("ok", f"<answer>{mark}</answer>"))
        assert refusal(style, row("ok", mark), answer=False) == ""


@pytest.mark.parametrize("style", STYLES)
def test_ordinary_texts_pass_in_every_style(style):
    for text in ORDINARY:
        assert refusal(style, row(f"{IMAGE_TAG}{text}", text)) == "", text


def test_tokens_made_of_two_pieces_are_refused():
    """By pictures that a template shows first, and by what a template writes beside a text."""
    split = row(f"a<|im_{IMAGE_TAG}end|>")
    assert "turn 1 (user): got text with '<|im_end|>'" in refusal("chatml, pictures first", split)
    assert "prompt: got text with '</s>'" in refusal("mistral, text", row("/s>", earlier=(Turn("system", "<"),)))
    processor = processor_of(replace(STYLES["chatml"], template="{% for m in messages %}<|im_PARTS{% endfor %}"))
    tokens, record = control_tokens(processor), replace(row("end|> what?"), images=())
    rendered = [
        processor.apply_chat_template(c, tokenize=False) for c in (messages(record), plain_twin(messages(record)))
    ]
    assert not list(tokens.problems(record, True))
    with pytest.raises(DataError, match=r"a\.jsonl:7: prompt: got text with '<\|im_end\|>'"):
        tokens.refuse_made(record, *rendered)


@pytest.mark.parametrize("text", ["＜|im_end|＞", "a＜|end|>", "<|im_ｅｎｄ|>"])
def test_what_a_tokenizer_normalizes_into_a_token_is_refused(text):
    assert "turn 1 (user)" in refusal("normalized", row(text))
    assert refusal("chatml", row(text)) == ""  # there it stays what it is


@pytest.mark.parametrize("style", STYLES)
def test_what_passes_has_no_control_token_for_the_tokenizer(style):
    """The tokenizer as oracle, on random texts of fragments of marks."""
    (processor, _), random_ = prepared(style), random.Random(style)
    marks = STYLES[style].hostile
    pieces = [*"<>[]/｜ \n\u200b＜s", "<|", "|>", "im_end", "INST", IMAGE_TAG]
    cut = [mark[:at] for mark in marks for at in (1, 2, len(mark) // 2)] + [mark[len(mark) // 2 :] for mark in marks]
    ids = {processor.tokenizer.convert_tokens_to_ids(mark) for mark in marks} - {None}

    def count(chat) -> Counter:
        encoded = processor.tokenizer(processor.apply_chat_template(chat, tokenize=False), add_special_tokens=False)
        return Counter(token for token in encoded["input_ids"] if token in ids)

    passed = 0
    for _ in range(400):
        text = "".join(random_.choices([*pieces, *cut, *cut, *marks[:2]], k=random_.randint(1, 6)))
        if refusal(style, row(text or "x")) == "":
            chat, passed = messages(row(text or "x")), passed + 1
            assert count(chat) == count(plain_twin(chat)), text
    assert passed > 40


def test_thousands_of_tokens_are_looked_for_in_a_hundred_thousand_rows_a_second():
    many = ControlTokens("m", frozenset(f"<unused{i}>" for i in range(6000)) | {"<bos>", "◁media▷"})
    record = row(f"{IMAGE_TAG}Find <b>the</b> box [1, 2, 3] of " + "the red car left of the tree " * 10)

    def look() -> None:
        for _ in range(20_000):
            assert not list(many.problems(record, True))

    assert cpu_seconds(look, 1) < 1  # 50 microseconds a row


def test_words_of_regions_do_not_free_other_tokens():
    assert not any(map(is_control, ("<think>", "</answer>", "<loc0001>", "<|ref|>", "<|begin_of_box|>", "◁/think▷")))
    control = ("<|fim_prefix|>", "<|im_start|>", "<boxing>", "<|AUDIO|>", "<IMG_CONTEXT>", "<row_1_col_1>", "<</SYS>>")
    assert all(map(is_control, control))


def test_the_tiny_model_refuses_its_own_marks(tiny):
    from transformers import AutoProcessor

    tokens = control_tokens(AutoProcessor.from_pretrained(tiny))
    for mark in ("<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|video_pad|>", "<|endoftext|>", "<|vision_start|>"):
        with pytest.raises(DataError, match=r"a\.jsonl:7"):
            tokens.refuse([row(f"What{mark}?")])
