"""Images stand where their tags stand, and templates touch the last question only."""

import pytest

from open_r1.data.chat import PROMPTS, image_count, messages
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn

I = {"type": "image"}  # noqa: E741


def t(text: str) -> dict:
    return {"type": "text", "text": text}


def record(images: int, *turns: tuple[str, str]) -> Record:
    return Record("1", tuple(f"{i}.png" for i in range(images)), "", tuple(Turn(*turn) for turn in turns), "A")


@pytest.mark.parametrize(
    ("images", "turns", "contents"),
    [
        (0, [("user", "Q")], [[t("Q")]]),
        (1, [("user", "<image>Q")], [[I, t("Q")]]),
        (1, [("user", "Q\n<image>")], [[t("Q\n"), I]]),
        (1, [("user", "<image>")], [[I]]),
        (2, [("user", "<image><image>Q")], [[I, I, t("Q")]]),
        (2, [("user", "a <image> or\n<image> ?")], [[t("a "), I, t(" or\n"), I, t(" ?")]]),
        (2, [("user", "Q")], [[I, I, t("Q")]]),  # no tag: images first
        (
            1,
            [("system", "S"), ("user", "Q"), ("assistant", "x"), ("user", "R")],
            [[t("S")], [I, t("Q")], [t("x")], [t("R")]],
        ),
        (2, [("user", "<image>Q"), ("assistant", "x"), ("user", "R<image>")], [[I, t("Q")], [t("x")], [t("R"), I]]),
    ],
)
def test_images_in_place(images: int, turns: list, contents: list) -> None:
    chat = messages(record(images, *turns))
    assert [message["content"] for message in chat] == contents
    assert [message["role"] for message in chat] == [role for role, _ in turns]
    assert image_count(chat) == images


@pytest.mark.parametrize(
    ("turns", "instruction", "last"),
    [
        ([("user", "<image>Q")], "{question} Be brief.", [I, t("Q Be brief.")]),
        ([("user", "Q<image>")], "{question} Be brief.", [t("Q"), I, t(" Be brief.")]),
        ([("user", "<image>Q")], "Look: {question}", [t("Look: "), I, t("Q")]),
        ([("user", "Q")], "Look: {question}", [I, t("Look: Q")]),  # no tag: still first
        ([("user", "{x} {} {question}<image>")], "{question} {y}", [t("{x} {} {question}"), I, t(" {y}")]),
        ([("user", "<image>P"), ("assistant", "x"), ("user", "Q")], "{question}!", [t("Q!")]),
    ],
)
def test_instruction(turns: list, instruction: str, last: list) -> None:
    chat = messages(record(1, *turns), instruction)
    assert chat[-1]["content"] == last and image_count(chat) == 1
    assert chat[:-1] == messages(record(1, *turns))[:-1]


@pytest.mark.parametrize("instruction", ["no slot", "{question} {question}", "<image>{question}", ""])
def test_bad_instruction(instruction: str) -> None:
    with pytest.raises(ValueError, match=r"expected text with {question} once and without <image>"):
        messages(record(0, ("user", "Q")), instruction)


def test_prompts_are_upstreams_and_messages_are_fresh() -> None:
    think = messages(record(0, ("user", "Q")), PROMPTS["think"])[0]["content"][0]["text"]
    assert think.startswith("Q First output the thinking process in <think> </think> tags and then output the final")
    direct = messages(record(0, ("user", "Q")), PROMPTS["direct"])[0]["content"]
    assert direct == [t("Q Output the final answer directly in <answer> </answer> tags.")]
    first, second = messages(record(2, ("user", "Q")))[0]["content"][:2]
    assert first is not second  # processors write into the parts


CALL = '<tool_call>{"name": "zoom", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("answers", "content"),
    [
        (["3"], [t("<tool_response>\n3\n</tool_response>")]),
        (["<image>"], [t("<tool_response>\n"), I, t("\n</tool_response>")]),
        (["a cat<image>"], [t("<tool_response>\na cat"), I, t("\n</tool_response>")]),
        (["3", "<image>"], [t("<tool_response>\n3\n</tool_response>\n<tool_response>\n"), I, t("\n</tool_response>")]),
    ],
)
def test_answers_of_tools_are_one_turn_of_the_user_and_stay_out_of_the_prompt_template(answers, content) -> None:
    shown = sum("<image>" in answer for answer in answers)
    turns = [("user", "<image>Q"), ("assistant", CALL), *(("tool", answer) for answer in answers)]
    chat = messages(record(1 + shown, *turns), "{question} Be brief.")
    assert [message["role"] for message in chat] == ["user", "assistant", "user"]
    assert [message["content"] for message in chat] == [[I, t("Q Be brief.")], [t(CALL)], content]


def test_tools_answer_each_call_of_a_longer_dialogue() -> None:
    turns = [("user", "Q"), ("assistant", CALL), ("tool", "3"), ("assistant", CALL), ("tool", "4"), ("assistant", "x")]
    chat = messages(record(0, *turns, ("user", "R")), "{question}!")
    assert [message["role"] for message in chat] == ["user", "assistant"] * 3 + ["user"]
    assert chat[-1]["content"] == [t("R!")] and chat[0]["content"] == [t("Q")]
