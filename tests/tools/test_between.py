"""Between turns stands what the chat template writes, in every style; a tool's text never becomes a control token."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.chat_styles import STYLES, processor_of
from PIL import Image

from open_r1.data.control_tokens import control_tokens
from open_r1.errors import UsageError
from open_r1.tools.between import broken_up, text_between
from open_r1.tools.listing import offer_tools
from open_r1.tools.toolbox import ToolAnswer, make_toolbox, told

PICTURE = Image.new("RGB", (56, 28))
SEEN = ToolAnswer("zoom", ("here:", PICTURE))
FAMILIES = (
    *("qwen2_5_vl", "qwen3_vl", "qwen3_5_think", "qwen3_5_nothink", "smolvlm", "idefics3", "gemma3", "gemma4"),
    *("llava_next", "lfm2_2_5_vl", "glm4moe"),
)


@cache
def prepared(style: str) -> tuple:
    processor = processor_of(STYLES[style])
    return processor, control_tokens(processor)


@cache
def family(name: str) -> tuple:
    """A processor with the chat template that trl keeps of a family, and its control tokens."""
    folder = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"
    fast = processor_of(STYLES["chatml"])
    fast.tokenizer.chat_template = (folder / f"{name}.jinja").read_text(encoding="utf-8")
    return fast, control_tokens(fast)


def said(text: str) -> list[dict]:
    return [{"type": "text", "text": text}]


def whole_chat(processor: SimpleNamespace, words: str, answer: list[dict], **options: object) -> str:
    chat = [
        {"role": "user", "content": said("what?")},
        {"role": "assistant", "content": said(words)},
        {"role": "user", "content": answer},
    ]
    return processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_words_and_the_text_between_are_what_the_template_writes_of_the_whole_chat(name: str) -> None:
    processor, control = family(name)
    text, pictures = text_between(processor, [SEEN], {}, control)
    parts = [*said("<tool_response>\nhere:"), {"type": "image"}, *said("\n</tool_response>")]
    assert whole_chat(processor, "I look closer.", parts).endswith("I look closer." + text)
    assert pictures == [PICTURE] and text.count("<tool_response>") == text.count("</tool_response>") == 1


OWN_TURNS = {  # what the templates that list tools make of an answer with a picture in a turn of role `tool`
    "the same text": ("qwen3_vl", "qwen3_5_think", "qwen3_5_nothink"),
    "another turn, with all parts": ("lfm2_2_5_vl",),
    "no place for a picture": ("gemma4", "glm4moe"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in OWN_TURNS.items() for name in names])
def test_the_turn_of_a_user_is_the_templates_own_tool_turn_where_that_takes_pictures(kind: str, name: str) -> None:
    processor, control = family(name)
    ours, _ = text_between(processor, [SEEN], {}, control)
    turns = [{"role": "user", "content": said("a")}, {"role": "assistant", "content": said("look")}]
    turns += [{"role": "tool", "name": "zoom", "content": [*said("here:"), {"type": "image"}]}]
    own = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True).partition("look")[2]
    eye = ours.partition("here:")[2].partition("\n</tool_response>")[0]
    assert (own == ours) == (kind == "the same text")
    assert bool(eye and f"here:{eye}" in own) == (kind != "no place for a picture")


QWEN = "\n<|im_start|>user\n<tool_response>\n{}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
EYE = "<|vision_start|><|image_pad|><|vision_end|>"
IN_QWENS_FORM = {
    "a text": ([ToolAnswer("f", ("seven",))], "seven"),
    "a picture": ([ToolAnswer("f", (PICTURE,))], EYE),
    "texts and pictures": ([ToolAnswer("f", ("a", "b", PICTURE, "c", PICTURE))], f"ab{EYE}c{EYE}"),
    "two answers": ([SEEN, told("f", "no")], f"here:{EYE}\n</tool_response>\n<tool_response>\nError: no"),
    "nothing": ([ToolAnswer("f", ())], ""),
}


@pytest.mark.parametrize("name", IN_QWENS_FORM)
@pytest.mark.parametrize("qwen", ["qwen2_5_vl", "qwen3_vl"])
def test_answers_in_qwens_form_after_the_end_token_that_the_model_wrote(qwen: str, name: str) -> None:
    answers, inside = IN_QWENS_FORM[name]
    processor, control = family(qwen)
    assert text_between(processor, answers, {}, control, ended_by="<|im_end|>")[0] == QWEN.format(inside)
    assert text_between(processor, answers, {}, control)[0] == "<|im_end|>" + QWEN.format(inside)


def test_another_end_token_than_the_templates_stays() -> None:
    processor, control = family("qwen2_5_vl")
    assert text_between(processor, [SEEN], {}, control, ended_by="<|endoftext|>")[0].startswith("<|im_end|>\n")


@pytest.mark.parametrize("style", STYLES)
def test_control_tokens_in_a_tools_text_are_no_tokens(style: str) -> None:
    processor, control = prepared(style)
    hostile = STYLES[style].hostile
    texts = [
        *hostile,
        "".join(hostile),
        *(f"{mark[0]}{mark}{mark[1:]}" for mark in hostile),
        "<<tool_response>>" + hostile[0],
    ]
    plain, _ = text_between(processor, [ToolAnswer("f", ("x",))], {}, control)
    for text in texts:
        between, _ = text_between(processor, [ToolAnswer("f", (text,))], {}, control)
        assert sorted(control.found(between)) == sorted(control.found(plain)), text
        ids = processor.tokenizer(between, add_special_tokens=False)["input_ids"]
        assert processor.tokenizer.decode(ids).count("<tool_response>") == 1


@pytest.mark.parametrize("style", STYLES)
def test_marks_in_pieces_around_a_picture_or_across_texts_are_no_tokens(style: str) -> None:
    processor, control = prepared(style)
    plain, _ = text_between(processor, [ToolAnswer("f", ("x", PICTURE, "y"))], {}, control)
    for mark in STYLES[style].hostile:
        answer = ToolAnswer("f", (mark[:2], mark[2:], PICTURE, mark))
        between, _ = text_between(processor, [answer], {}, control)
        assert sorted(control.found(between)) == sorted(control.found(plain)), mark


@pytest.mark.parametrize("style", STYLES)
def test_ordinary_texts_stay_as_they_are(style: str) -> None:
    control = prepared(style)[1]
    for text in ("7", "a [link](b), [1, 2]", "1 < 2 > 0", "<b>bold</b>", "图片", "<think>a</think>", "{'a': [1]}", ""):
        assert broken_up(text, control) == text


def test_a_megabyte_of_marks_is_broken_up() -> None:
    control = prepared("chatml")[1]
    assert control.found(broken_up("<|im_end|>" * 2_000, control)) == []
    assert control.found(broken_up("<|im" * 2_000 + "_end|>" * 2_000, control)) == []


@pytest.mark.parametrize(
    "template", ["{{ messages[0].role }}", "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"]
)
def test_a_template_that_drops_or_repeats_what_was_said_is_refused(template: str) -> None:
    processor = processor_of(STYLES["chatml"])
    control = control_tokens(processor)
    processor.tokenizer.chat_template = template
    with pytest.raises(UsageError, match="expected it once"):
        text_between(processor, [SEEN], {}, control)


CHAT = [{"role": "user", "content": said("what?")}]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_template_offers_the_tool_and_its_argument(name: str) -> None:
    processor, _ = family(name)
    toolbox = make_toolbox(["zoom"], processor.tokenizer.chat_template)
    chat, options = offer_tools(CHAT, toolbox)
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
    assert "zoom" in text and "bbox_2d" in text and text.index("zoom") < text.index("what?")
    assert [{"role": "user", "content": said("what?")}] == CHAT


def test_a_template_without_tools_writes_what_qwen3s_own_writes() -> None:
    without, own = family("qwen2_5_vl")[0], family("qwen3_vl")[0]
    toolbox = make_toolbox(["zoom"], without.tokenizer.chat_template)
    assert not toolbox.native
    chat, options = offer_tools([{"role": "system", "content": said("Be brief.")}, *CHAT], toolbox)
    system = [{"role": "system", "content": said("Be brief.")}]
    expected = own.apply_chat_template(
        [*system, *CHAT], tokenize=False, add_generation_prompt=True, tools=toolbox.schemas
    )
    assert without.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options) == expected
    alone = without.apply_chat_template(offer_tools(CHAT, toolbox)[0], tokenize=False)
    assert alone.startswith("<|im_start|>system\nYou are a helpful assistant.\n\n# Tools\n\n")
