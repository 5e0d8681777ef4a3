"""Inference: the evaluator's own answers, streamed and stopped, drawn at the right place; rows without gold."""

import io
import json
import re
import runpy
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.repository import REPO, make_dataset, run_script
from PIL import Image, ImageColor
from rich.console import Console

from open_r1.data.chat import messages, with_images
from open_r1.data.jsonl_io import read_lines
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.data.unlabeled import PLACEHOLDER_FIELD, files_with_placeholders, with_placeholder
from open_r1.errors import UsageError
from open_r1.evaluation.attention.maps import attend
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.evaluation.question import Question
from open_r1.evaluation.session import Answer, ModelSession, session_settings
from open_r1.rewards.drawing import ANSWERED, GOLD
from open_r1.tasks.registry import TASKS
from open_r1.tools.asked_boxes import strip_of

SCRIPT = REPO / "eval" / "infer.py"
INFER = runpy.run_path(str(SCRIPT))
FLAGS = INFER["options"]()


def settings_for(*words: object):
    return session_settings(FLAGS.parse_args([str(word) for word in words]))


@pytest.fixture(scope="module")
def session(tiny) -> ModelSession:
    return ModelSession(settings_for("--model", tiny, "--task", "digits", "--max_completion_length", 40))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """`heldout.jsonl` of task rec with pictures of 112 px."""
    out = tmp_path_factory.mktemp("shapes")
    make_dataset("rec", out, "--rows", 4, "--heldout_rows", 4)
    return out


def questions(folder: Path, count: int) -> list[Question]:
    rows = [json.loads(line) for line in (folder / "heldout.jsonl").read_text().splitlines()[:count]]
    texts = [[turn["value"].replace(IMAGE_TAG, "") for turn in row["conversations"]] for row in rows]
    return [Question(text, (folder / row["image"],), gold) for row, (text, gold) in zip(rows, texts, strict=True)]


def last(texts) -> Answer:
    *_, answer = texts
    return answer


def test_answers_and_scores_are_the_evaluators(session, tiny, digits, tmp_path):
    words = ["--model", tiny, "--task", "digits", "--data_file_paths", digits / "heldout.jsonl", "--limit", 6]
    words += ["--image_folders", digits, "--output_dir", tmp_path, "--max_completion_length", 40]
    run_evaluation(parser_of(None).parse_args([str(word) for word in words]))
    for line, question in zip(read_lines(tmp_path / "predictions.jsonl"), questions(digits, 6), strict=True):
        answer = last(session.ask(question))
        assert (answer.completion, len(answer.ids), answer.truncated) == (line["completion"], line["tokens"], False)
        assert answer.parsed == line["parsed"]
        assert answer.rewards() == [("accuracy", 1.0, line["score"]), ("format", 1.0, line["format"])]


def test_the_demo_that_is_printed_has_the_tools_of_the_answers(tiny):
    words = ["--model", tiny, "--question", "Which?", "--task", "digits"]
    bare = INFER["demo_command"](FLAGS.parse_args(words), settings_for(*words))
    assert bare.endswith(f"eval/demo.py --model {tiny} --task digits")
    words += ["--tools", "zoom", "--max_tool_turns", "2", "--tool_seconds", "30"]  # the last one is the default
    assert (
        INFER["demo_command"](FLAGS.parse_args(words), settings_for(*words))
        == f"{bare} --tools zoom --max_tool_turns 2"
    )


def test_text_streams_token_by_token_and_grows_into_the_answer(session, digits):
    *texts, answer = session.ask(questions(digits, 1)[0])
    assert len(texts) > 3 and all(later.startswith(text) for text, later in pairwise(texts))
    assert texts[-1] == answer.completion and answer.seconds > 0


@pytest.mark.slow
def test_an_answer_with_tools_has_its_turns_and_a_strip_of_what_was_seen(tmp_path):
    make_dataset("zoom_digits", tmp_path, "--rows", 4, "--heldout_rows", 4)
    model, words = REPO / "assets" / "tiny-vlm-zoom", ("--task", "zoom_digits", "--max_completion_length", 128)
    asking = ModelSession(settings_for("--model", model, *words, "--tools", "zoom", "--temperature", 1.0))
    (first, *_) = questions(tmp_path, 4)
    answers = (last(asking.ask(first, replace(asking.settings, seed=seed))) for seed in range(40))
    answer = next(one for one in answers if any(a.pictures for turn in one.turns for a in turn.answers))
    texts = [turn.text for turn in answer.turns]
    assert "<tool_call>" in texts[0] and answer.completion == texts[-1] and answer.final in texts[-1]
    strip = answer.strip()
    assert len(strip) == 1 + sum(len(a.pictures) for turn in answer.turns for a in turn.answers)
    assert strip[0].size == answer.example.pictures[0].size and strip_of(strip).width > strip[0].width
    red = np.array(ImageColor.getrgb(ANSWERED))
    assert (np.abs(np.array(strip[0]).astype(int) - red).sum(axis=-1) < 60).any()  # the box that was asked for
    assert [name for name, *_ in answer.rewards()] == list(TASKS["zoom_digits"].rewards)
    attention, before = asking.attention(answer), len(answer.trajectory.segments[0].ids)
    assert len(attention.images) == len(answer.pictures) == len(strip)
    assert not attention.on_images[:before, 1:].any() and (attention.on_images[before:, 1] > 0).all()
    assert "<tool_response>" in "".join(attention.prompt_tokens)


def test_an_answer_that_calls_no_tool_makes_its_folder_and_says_so(tiny, digits, tmp_path):
    """The tiny model that knows no tools."""
    flags = ("--model", tiny, "--task", "digits", "--max_completion_length", 20, "--tools", "zoom")
    asking, console = ModelSession(settings_for(*flags)), Console(file=io.StringIO(), width=500)
    answer = last(asking.ask(questions(digits, 1)[0]))
    assert not any(turn.answers for turn in answer.turns)
    INFER["save_drawings"](answer, tmp_path / "out", "think", console)
    assert f"nothing is drawn in {tmp_path / 'out'}: no tool was called" in console.file.getvalue()
    assert (tmp_path / "out").is_dir() and not list((tmp_path / "out").iterdir())


def test_a_call_whose_answer_is_left_out_is_shown_with_the_limit(tmp_path):
    make_dataset("zoom_digits", tmp_path, "--rows", 4, "--heldout_rows", 4)
    words = ("--model", REPO / "assets" / "tiny-vlm-zoom", "--task", "zoom_digits", "--max_completion_length", 128)
    asking = ModelSession(settings_for(*words, "--tools", "zoom", "--max_tool_images", 0, "--temperature", 1.0))
    (first, *_) = questions(tmp_path, 4)
    answers = ((seed, last(asking.ask(first, replace(asking.settings, seed=seed)))) for seed in range(40))
    seed = next(seed for seed, answer in answers if answer.turns[-1].limit)
    console = Console(file=io.StringIO(), width=200)
    INFER["follow"](asking.ask(first, replace(asking.settings, seed=seed)), console)
    shown = console.file.getvalue()
    assert "<tool_call>" in shown and "said" not in shown
    assert re.search(r"left out +the answer, by --max_tool_images 0", shown) and "raise --max_tool_images\n" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--max_tool_turns 0 --tools zoom", "--max_tool_turns: got 0, expected at least 1"),
        ("--tool_seconds nan --tools zoom", "--tool_seconds: got nan, expected a positive number"),
        ("--tool_memory_gb -1 --tools zoom", "--tool_memory_gb: got -1, expected a positive number"),
        ("--tool_memory_gb 8", "--tool_memory_gb: acts only with --tools or --environment; add one, or remove it"),
    ],
)
def test_flags_of_tools_that_cannot_act_are_refused(words, message, tiny):
    with pytest.raises(UsageError, match=f"^{message}$"):
        settings_for("--model", tiny, *words.split())


def test_a_tool_whose_docstring_would_end_a_turn_is_refused_by_its_name(tiny, tmp_path):
    (tmp_path / "marks.py").write_text('def look():\n    """Shows <|image_pad|>."""\n    return "seen"\n')
    message = (
        r"^tool .*marks\.py:look: docstring: got text with '<\|image_pad\|>', .*; write it otherwise, such as '< \|im"
    )
    with pytest.raises(UsageError, match=message):
        ModelSession(settings_for("--model", tiny, "--tools", f"{tmp_path / 'marks.py'}:look"))


@pytest.mark.parametrize("leave", [False, True])
def test_a_stopped_answer_is_what_was_said_and_the_next_one_is_whole(session, digits, leave):
    stop, first_texts = threading.Event(), []
    texts = session.ask(questions(digits, 1)[0], stop=stop)
    first_texts = [next(texts), next(texts)]
    if leave:
        texts.close()  # the listener went away
    else:
        stop.set()
        answer = last(texts)
        assert answer.truncated and answer.completion.startswith(first_texts[-1])
        assert len(answer.ids) < 19  # nineteen tokens are the whole answer
    assert not last(session.ask(questions(digits, 1)[0])).truncated


def test_sampling_depends_on_the_seed_alone(session, digits):
    warm = replace(session.settings, temperature=1.5)
    (question,) = questions(digits, 1)

    def sampled(seed: int) -> str:
        return last(session.ask(question, replace(warm, seed=seed))).completion

    completions = [sampled(seed) for seed in range(4)]
    assert [sampled(seed) for seed in range(4)] == completions and len(set(completions)) > 1


@pytest.mark.parametrize("factor", [1, 3])
def test_boxes_are_drawn_in_pixels_of_the_picture_whatever_size_the_model_saw(shapes, tmp_path, factor):
    """The model sees 112 px, its processor's limit; its numbers are drawn `factor` times as large."""
    model = REPO / "assets" / "tiny-vlm-shapes"
    words = ("--model", model, "--task", "rec", "--max_completion_length", 48, "--max_pixels", 112 * 112)
    (question,) = questions(shapes, 1)
    picture, gold = Image.open(question.images[0]), np.array([60, 8, 100, 48])  # apart from what is answered
    picture.resize((112 * factor, 112 * factor), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    question = replace(question, images=(tmp_path / "large.png",), gold=str((gold * factor).tolist()))
    answer = last(ModelSession(settings_for(*words)).ask(question))
    numbers = np.array(json.loads(answer.final))
    assert np.allclose(answer.parsed, numbers * factor)
    (drawing,) = answer.drawings()
    pixels = np.asarray(drawing).astype(int)
    changed = (pixels != np.asarray(answer.example.pictures[0])).any(axis=2)
    assert drawing.size == (112 * factor, 112 * factor)
    for colour, box in ((ANSWERED, numbers * factor), (GOLD, gold * factor)):
        rows, columns = np.nonzero(changed & (np.abs(pixels - ImageColor.getrgb(colour)) < 40).all(axis=2))
        red_box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(red_box - box).max() <= 2 * factor + 1, (colour, red_box, box)


def test_attention_is_that_of_the_processors_own_prompt(session, digits):
    (question,) = questions(digits, 1)
    answer = last(session.ask(question))
    chat = with_images(messages(answer.record, TASKS["digits"].prompts["think"]), answer.example.pictures)
    fields = session.processor.apply_chat_template(
        [chat], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    expected = attend(session.engine.model, session.processor, dict(fields), [(112, 56)], answer.ids)
    attention = session.attention(answer)
    assert attention.tokens == expected.tokens and attention.layer == 2
    assert np.allclose(attention.images[0], expected.images[0]) and np.allclose(attention.prompt, expected.prompt)
    with pytest.raises(UsageError, match="--layer: got 9"):
        session.attention(answer, layer=9)


def test_without_gold_nothing_is_scored_and_all_is_read(session, digits):
    (question,) = questions(digits, 1)
    answer = last(session.ask(replace(question, gold=None)))
    assert answer.rewards() == [] and answer.parsed == last(session.ask(question)).parsed is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": "many"}, "solution: got 'many', expected an integer or a list"),
        ({"text": "<image> and <image>?"}, r"got 2 <image> tag\(s\) for 1 image"),
        ({"text": " "}, "question: got none, expected what you want to know"),
        ({"images": (REPO / "README.md",)}, "no image"),
        ({"images": (REPO / "none.png",)}, "'none.png', expected an existing file"),
    ],
)
def test_what_cannot_be_asked_is_refused(session, digits, change, message):
    with pytest.raises(UsageError, match=message):
        last(session.ask(replace(questions(digits, 1)[0], **change)))


# --------------------------------------------------------------------------------------------------- rows without gold


@pytest.mark.parametrize(
    ("row", "changed"),
    [
        ({"problem": "a"}, {"solution": "-"}),
        ({"problem": "a", "solution": None, "options": ["x", "y"]}, {"solution": "A"}),
        (
            {"conversations": [{"from": "human", "value": "a"}]},
            {"conversations": [{"from": "human", "value": "a"}, {"from": "assistant", "value": "-"}]},
        ),
        (
            {"messages": [{"role": "user", "content": "a"}]},
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "-"}]},
        ),
        ({"problem": "a", "solution": 0}, None),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, None),
        ({"messages": []}, None),
        ({"conversations": [{"from": "nobody", "value": "a"}]}, None),
    ],
)
def test_only_rows_without_gold_get_a_stand_in(row, changed):
    assert with_placeholder(row, "a.jsonl:1") == (
        row if changed is None else {**row, **changed, PLACEHOLDER_FIELD: True}
    )


def test_a_file_with_gold_is_read_as_it_is_and_lines_keep_their_numbers(tmp_path):
    (tmp_path / "gold.jsonl").write_text('{"problem": "a", "solution": "b"}\n')
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"problem": "a"}\n\n[1]\n{"problem": "a", "solution": "b"}')
    paths = files_with_placeholders([str(tmp_path / "gold.jsonl"), str(tmp_path / "rows.jsonl")], tmp_path / "out")
    assert paths == [str(tmp_path / "gold.jsonl"), str(tmp_path / "out" / "1" / "rows.jsonl")]
    lines = Path(paths[1]).read_text().splitlines()
    assert lines == ['{"problem":"a","solution":"-","no_gold":true}', "", "[1]", '{"problem":"a","solution":"b"}']


# ------------------------------------------------------------------------------------------------------- command line


def infer(monkeypatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["infer.py", *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_rows_are_answered_scored_where_they_have_gold_and_drawn(monkeypatch, shapes, tmp_path, capsys):
    rows = [json.loads(line) for line in (shapes / "heldout.jsonl").read_text().splitlines()]
    del rows[1]["conversations"][1]
    (shapes / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model", REPO / "assets" / "tiny-vlm-shapes", "--task", "rec", "--max_completion_length", 48]
    words += ["--data_file_paths", shapes / "some.jsonl", "--image_folders", shapes, "--out", tmp_path]
    infer(monkeypatch, *words)
    lines = read_lines(tmp_path / "predictions.jsonl")
    assert [line["score"] is None for line in lines] == [line["right"] is None for line in lines]
    assert [line["solution"] is None for line in lines] == [False, True, False, False]
    assert lines[1]["parsed"] and lines[1]["measures"] == {} and lines[0]["measures"]
    assert json.loads((tmp_path / "summary.json").read_text())["think"]["n"] == 3
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [f"some_{n}_think.png" for n in range(1, 5)]
    green = [ImageColor.getrgb(GOLD) in set(Image.open(path).getdata()) for path in sorted(tmp_path.glob("drawn/*"))]
    assert any(green) and not green[1]
    assert "4 answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--question", "a", "--limit", "2"], "--limit: got a value, which acts with --data_file_paths only"),
        (["--data_file_paths", "a.jsonl", "--gold", "3"], "--gold: got a value, which acts without --data_file_paths"),
        ([], "--question: got nothing"),
        (["--question", "a", "--image", "none.png"], "'none.png', expected an existing file"),
        (["--question", "a", "--task", "digit"], "--task: got 'digit'.*did you mean 'digits'"),
        (["--data_file_paths", "none.jsonl"], "No such file"),
    ],
)
def test_what_cannot_act_is_said(monkeypatch, tiny, words, message):
    with pytest.raises(SystemExit, match=message):
        infer(monkeypatch, "--model", tiny, *words)


def test_the_page_of_attention_is_given_every_flag_that_decides_an_answer():
    names = runpy.run_path(str(SCRIPT))
    of_both = {action.dest for action in names["options"]()._actions}
    of_both &= {action.dest for action in runpy.run_path(str(SCRIPT.with_name("attention.py")))["options"]()._actions}
    asked = {"model", "task", "trust_remote_code", "image", "video", "question", "prompt_mode", "out"}
    assert of_both == asked | {"help"} | set(names["LOOKED_AT_WITH"])


def test_hostile_text_reaches_the_terminal_as_text():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    console.print(runpy.run_path(str(SCRIPT))["talk"]("<answer>\x1b]0;title\x07[red]\ud800</answer>"))
    assert r"\x1b]0;title\x07[red]\ud800" in console.file.getvalue()


@pytest.mark.slow
def test_the_command_prints_plain_text_where_nobody_watches(tiny, digits):
    (question,) = questions(digits, 1)
    words = ("--image", question.images[0], "--question", question.text, "--gold", question.gold)
    done = run_script("eval/infer.py", "--model", tiny, "--task", "digits", *words, "--prompt_mode", "both")
    names = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert names == 2 * ["mode", "thinking", "answer", "read", "tokens", "rewards"] + ["next"]
    assert "\x1b" not in done.stdout
