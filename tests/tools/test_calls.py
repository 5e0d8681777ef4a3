"""Calls are read where a turn ends with them, in each family's form; what only looks like one stays text."""

import json

import pytest
from helpers.cpu_time import cpu_seconds

from open_r1.tools.call_forms import FORMS, ToolCall, form_of
from open_r1.tools.calls import MAX_CALL_CHARS, MAX_CALLS, MalformedCall, read_calls

BOX = [0, 14, 56, 42]
CALL = '<tool_call>\n{"name": "zoom", "arguments": {"bbox_2d": [0, 14, 56, 42], "label": "a cat"}}\n</tool_call>'
READ = ToolCall("zoom", {"bbox_2d": BOX, "label": "a cat"})
IN_FORMS = {
    "hermes": CALL,
    "tagged": "<tool_call>\n<function=zoom>\n<parameter=bbox_2d>\n[0, 14, 56, 42]\n</parameter>\n<parameter=label>\n"
    "a cat\n</parameter>\n</function>\n</tool_call>",
    "keyed": "<tool_call>zoom\n<arg_key>bbox_2d</arg_key>\n<arg_value>[0, 14, 56, 42]</arg_value>\n<arg_key>label"
    "</arg_key>\n<arg_value>a cat</arg_value>\n</tool_call>",
    "gemma": '<|tool_call>call:zoom{bbox_2d:[0,14,56,42],label:<|"|>a cat<|"|>}<tool_call|>',
    "python": "<|tool_call_start|>[zoom(bbox_2d=[0, 14, 56, 42], label='a cat')]<|tool_call_end|>",
}
BEFORE = ["", "I look. ", "<|channel>thought\na<channel|>", "<think>where?</think>\n", "```json\n[1]\n```\n"]
AS_TEXT = ToolCall("zoom", {"bbox_2d": "[0, 14, 56, 42]", "label": "a cat"}, as_text=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_call_that_ends_the_turn_is_read_in_each_form(form: str, before: str) -> None:
    expected = AS_TEXT if form in ("tagged", "keyed") else READ
    assert read_calls(before + IN_FORMS[form] + "\n", form) == (expected,)


@pytest.mark.parametrize("form", FORMS)
def test_several_calls_are_read_in_order(form: str) -> None:
    calls = read_calls(IN_FORMS[form] + "\n" + IN_FORMS[form].replace("zoom", "look"), form)
    assert [call.name for call in calls] == ["zoom", "look"]


STAYS_TEXT = {
    "words behind it": f"{CALL} is what I would write.",
    "a quote behind it": f'He wrote "{CALL}"',
    "backticks around it": f"`{CALL}`",
    "in a code block": f"```\n{CALL}\n```",
    "in an open code block": f"```json\n{CALL}",
    "in open thinking": f"<think>perhaps {CALL}",
    "in thinking that goes on again": f"<think>a</think> b <think>{CALL}",
    "in Gemma's open thinking": f"<|channel>thought\n{CALL}",
    "in closed thinking": f"<think>{CALL}</think> 7",
    "in an answer": f"<answer>{CALL}</answer>",
    "an answer behind it": f"{CALL}<answer>7</answer>",
    "only the tag's name": "There is a tag <tool_call> in Qwen's form.",
    "only the closing tag": "</tool_call>",
    "another family's form": IN_FORMS["gemma"],
    "JSON without tags": '{"name": "zoom", "arguments": {"bbox_2d": [0, 14, 56, 42]}}',
    "nothing": "",
}


@pytest.mark.parametrize("name", STAYS_TEXT)
def test_what_only_looks_like_a_call_stays_text(name: str) -> None:
    assert read_calls(STAYS_TEXT[name]) == ()


def test_thinking_that_the_template_opened_holds_no_call_until_it_is_closed() -> None:
    assert read_calls(CALL, in_thinking=True) == ()
    assert read_calls(f"where?</think>{CALL}", in_thinking=True) == (READ,)


def wrapped(content: str) -> str:
    return f"<tool_call>{content}</tool_call>"


MALFORMED = {
    "no JSON": wrapped("zoom(1, 2)"),
    "single quotes": wrapped("{'name': 'zoom', 'arguments': {}}"),
    "nothing": wrapped(""),
    "a list": wrapped("[1]"),
    "no name": wrapped('{"arguments": {}}'),
    "a name that is no text": wrapped('{"name": 7, "arguments": {}}'),
    "arguments as text": wrapped('{"name": "zoom", "arguments": "{}"}'),
    "arguments as list": wrapped('{"name": "zoom", "arguments": [1]}'),
    "another key": wrapped('{"name": "zoom", "parameters": {}}'),
    "NaN": wrapped('{"name": "zoom", "arguments": {"bbox_2d": [NaN]}}'),
    "Infinity": wrapped('{"name": "zoom", "arguments": {"bbox_2d": [-Infinity]}}'),
    "1e400": wrapped('{"name": "zoom", "arguments": {"bbox_2d": [1e400]}}'),
    "5,000 digits": wrapped(f'{{"name": "zoom", "arguments": {{"image": {"9" * 5000}}}}}'),
    "deep": wrapped('{"name": "zoom", "arguments": {"a": ' + "[" * 5000 + "]" * 5000 + "}}"),
    "a lone surrogate": wrapped('{"name": "zoom", "arguments": {"label": "\\ud800"}}'),
    "cut JSON": wrapped('{"name": "zoom", "arguments": {"bbox_2d": [0, 1'),
    "never closed": '<tool_call>{"name": "zoom", "arguments": {}}',
    "never closed after one": CALL + '<tool_call>{"name": "zoom"',
    "a tag within": wrapped('{"name": "zoom", "arguments": {"label": "<tool_call>"}}'),
    "1 MB": wrapped(json.dumps({"name": "zoom", "arguments": {"label": "a" * 1_000_000}})),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_call_is_one_and_says_why_in_one_short_sentence(name: str) -> None:
    (call,) = read_calls(MALFORMED[name])
    assert isinstance(call, MalformedCall)
    assert "expected" in call.reason and len(call.reason) < 300 and "\n" not in call.reason


IN_OTHER_FORMS = [
    ("tagged", "<tool_call>zoom</tool_call>"),
    ("tagged", "<tool_call><function=zoom><parameter=a>1</function></tool_call>"),
    ("tagged", "<tool_call><function=zoom>"),
    ("keyed", "<tool_call>zoom <arg_key>a</arg_key></tool_call>"),
    ("keyed", "<tool_call></tool_call>"),
    ("gemma", "<|tool_call>zoom{}<tool_call|>"),
    ("gemma", '<|tool_call>call:zoom{label:<|"|>a}<tool_call|>'),
    ("gemma", "<|tool_call>call:zoom{label:cat}<tool_call|>"),
    ("python", "<|tool_call_start|>zoom()<|tool_call_end|>"),
    ("python", "<|tool_call_start|>[zoom([1])]<|tool_call_end|>"),
    ("python", "<|tool_call_start|>[zoom(a=open('x'))]<|tool_call_end|>"),
    ("python", "<|tool_call_start|>[a.b(c=1)]<|tool_call_end|>"),
    ("python", "<|tool_call_start|>[zoom(a=" + "[" * 3000 + "]" * 3000 + ")]<|tool_call_end|>"),
    ("python", "<|tool_call_start|>[zoom(a=1+1)]<|tool_call_end|>"),
    ("python", "<|tool_call_start|>[zoom(**{'a': 1}, b=2)]<|tool_call_end|>"),
]


@pytest.mark.parametrize(("form", "text"), IN_OTHER_FORMS)
def test_malformed_calls_of_other_forms(form: str, text: str) -> None:
    (call,) = read_calls(text, form)
    assert isinstance(call, MalformedCall)


def test_python_calls_read_the_constants_of_json_and_of_python() -> None:
    text = "<|tool_call_start|>[f(a=True, b=None, c=[true, null], d={'k': -1.5}), g()]<|tool_call_end|>"
    first, second = read_calls(text, "python")
    assert first.arguments == {"a": True, "b": None, "c": [True, None], "d": {"k": -1.5}}
    assert (second.name, second.arguments) == ("g", {})


HOSTILE = {
    "10,000 calls": CALL * 10_000,
    "a million openings": "<tool_call>" * 100_000,
    "a million closings": "</tool_call>" * 100_000,
    "1 MB of spaces": CALL + " " * 1_000_000,
    "1 MB of fences": "```\n" * 250_000 + CALL,
    "a parameter without end": "<tool_call><function=a>" + "<parameter=a>" * 1_400 + "</tool_call>",
    "keys without end": "<tool_call>a" + "<arg_key>a</arg_key>" * 900 + "</tool_call>",
    "gemma's quotes": "<|tool_call>call:a{" + '<|"|>' * 3_500 + "}<tool_call|>",
    "python's brackets": "<|tool_call_start|>" + "[" * 19_000 + "<|tool_call_end|>",
    "python's minus": "<|tool_call_start|>[a(b=" + "-" * 19_000 + "1)]<|tool_call_end|>",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_turns_are_read_in_bounded_time(name: str, form: str) -> None:
    assert cpu_seconds(lambda: read_calls(HOSTILE[name], form), 2) < 2  # 0.3 s at most on an idle core
    assert len(read_calls(HOSTILE[name], form)) <= MAX_CALLS


def test_10000_calls_are_refused_as_one() -> None:
    (call,) = read_calls(CALL * 10_000)
    assert call.reason == f"got 10,000 calls in one turn, expected at most {MAX_CALLS}"


def test_a_call_of_the_largest_size_is_read() -> None:
    empty = json.dumps({"name": "f", "arguments": {"a": ""}})
    (call,) = read_calls(wrapped(empty.replace('""', '"' + "x" * (MAX_CALL_CHARS - len(empty)) + '"')))
    assert isinstance(call, ToolCall)


TEMPLATES = {
    "{% if tools %}<tool_call>{{ tools }}": "hermes",
    "{% if tools %}<tool_call><function=a>": "tagged",
    "{% if tools %}<tool_call><arg_key>": "keyed",
    "{% if tools %}<|tool_call>": "gemma",
    "{% if tools %}<|tool_call_start|>": "python",
    "{{ messages }}": None,
    "{% if tools %}[TOOL_CALLS]": None,
    "<tool_call>": None,
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_names_its_form(template: str) -> None:
    assert form_of(template) == TEMPLATES[template]
