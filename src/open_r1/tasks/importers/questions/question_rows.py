"""Reads rows of a question and its answer: question files of data sets, and the rows of other trainers. (torch-free)

Each form is a line of QUESTION_FORMS: the fields that tell it, and those of question and answer. Rows with options
become multiple choice; a list of answers by people becomes the accepted ones.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from open_r1.tasks.importers.fields import answer_text, first_of, pictures_by_field_or_id, row_split
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, Remark, Turns, read_each_row
from open_r1.tasks.importers.picture_values import SourcePicture
from open_r1.tasks.importers.questions.conversations import dialogue_row, read_content, read_turns
from open_r1.tasks.importers.questions.options import (
    INDEX_FIELDS,
    counted_from,
    gold_letter,
    list_value,
    option_texts,
    options_of_row,
    with_options,
)
from open_r1.tasks.importers.questions.problem_types import method_of_type, type_remarks
from open_r1.tasks.importers.questions.swift_objects import fill_objects
from open_r1.tasks.importers.questions.visual_search import without_tool_prompt
from open_r1.tasks.importers.source_videos import videos_in_row
from open_r1.tasks.importers.sources import Source, Unusable

_TAGGED = re.compile(r"\s*<answer>(.*?)</answer>\s*", re.S)  # Video-R1's golds
AGREEING = 3  # of ten people, whose answer then counts in full (VQAv2)
CONTEXT_FIELDS = ("hint", "context", "passage")  # what stands before a question (ScienceQA, MMBench)


@dataclass(frozen=True)
class QuestionForm:
    """A form by the fields that its rows have: one of each group in `told_by`; `method` grades its free answers.
    Rows of a form that `has_options` may be multiple choice."""

    title: str
    told_by: tuple[tuple[str, ...], ...]
    question: tuple[str, ...]
    answer: tuple[str, ...]
    method: str = ""
    has_options: bool = False


_ANSWERS = ("answer", "answers", "solution", "ground_truth", "gt_answer", "multiple_choice_answer", "label")
_CHOICES = ("options", "choices", "multiple_choices", "A")
VIDEO_R1 = QuestionForm(
    "Video-R1",
    (("problem",), ("problem_type",), ("data_type",), ("solution",)),
    ("problem",),
    ("solution",),
    has_options=True,
)
QUESTION_FORMS: dict[str, QuestionForm] = {  # the first that fits is taken
    "verl": QuestionForm("verl rows (prompt, reward_model)", (("prompt",), ("reward_model",)), ("prompt",), ()),
    "video_r1": VIDEO_R1,
    "problem": QuestionForm(
        "rows of problem and answer (EasyR1, R1-V)",
        (("problem",), ("answer", "solution", "ground_truth")),
        ("problem",),
        ("answer", "solution", "ground_truth"),
    ),
    "query": QuestionForm("ms-swift rows (query, response)", (("query",), ("response",)), ("query",), ("response",)),
    "instruction": QuestionForm(
        "instruction rows (LLaMA-Factory)", (("instruction",), ("output",)), ("instruction",), ("output",)
    ),
    "chartqa": QuestionForm("ChartQA", (("query",), ("label",)), ("query",), ("label",)),
    "gqa": QuestionForm("GQA questions", (("question",), ("imageId",), ("answer",)), ("question",), ("answer",)),
    "docvqa": QuestionForm(
        "DocVQA",
        (("question",), ("answers",), ("questionId", "docId", "ucsf_document_id", "image_local_name")),
        ("question",),
        ("answers",),
        "anls",
    ),
    "textvqa": QuestionForm(
        "TextVQA", (("question",), ("answers",), ("image_id",)), ("question",), ("answers",), "anls"
    ),
    "choices": QuestionForm(
        "multiple-choice questions (MMMU, ScienceQA, A-OKVQA, AI2D, MathVista)",
        (("question",), _CHOICES, (*_ANSWERS, *INDEX_FIELDS)),
        ("question",),
        _ANSWERS,
        has_options=True,
    ),
    "prompt": QuestionForm(
        "TRL rows (prompt, solution)",
        (("prompt",), ("solution", "answer", "ground_truth", "completion", "response")),
        ("prompt",),
        ("solution", "answer", "ground_truth", "completion", "response"),
    ),
    "vqa": QuestionForm("questions and answers", (("question",), _ANSWERS), ("question",), _ANSWERS),
}


def question_form(source: Source) -> str:
    """The name of the form of a source's rows, "" for none."""
    return form_of_fields(source.first)


def form_of_fields(fields: Iterable[str]) -> str:
    """The name of the form of rows with these fields, "" for none."""
    known = set(fields)
    return next((name for name, form in QUESTION_FORMS.items() if _tells(form, known)), "")


def _tells(form: QuestionForm, known: set[str]) -> bool:
    return all(known.intersection(group) for group in form.told_by)


def read_questions(source: Source, options: ImportOptions, form: QuestionForm) -> Iterator[ImportedItem]:
    """A row for each question with its answer."""
    first = counted_from(_answers_of_choices(source, form))
    if first:
        yield Remark(
            str(source.path), "the numbers of the right options are counted from 1: one is as large as its options"
        )
    if form is VIDEO_R1:
        yield from type_remarks(source)

    def read_row(row: Mapping[str, Any], where: str, options: ImportOptions) -> Iterator[ImportedRow]:
        yield question_row(row, where, options, form, first)

    yield from read_each_row(source, options, read_row)


def _answers_of_choices(source: Source, form: QuestionForm) -> Iterator[tuple[Sequence[Any], Any]]:
    if not form.has_options:
        return
    for _, row in source.rows():
        if isinstance(row, Mapping) and first_of(row, INDEX_FIELDS) is None:
            try:
                yield options_of_row(row), first_of(row, form.answer)
            except Unusable:  # told for its row
                continue


def question_row(
    row: Mapping[str, Any], where: str, options: ImportOptions, form: QuestionForm, first: int = 0
) -> ImportedRow:
    """The row of one question. Raises Unusable for one without question or answer."""
    turns, inside = _asked(row, form)
    pictures = inside or pictures_by_field_or_id(row, options.pictures, beside_videos=True)
    choices = options_of_row(row) if form.has_options else []
    extra: dict[str, Any] = {}
    frame = ""
    if choices:
        texts = option_texts(choices)
        turns[-1] = ("human", with_options(turns[-1][1], texts))
        index = first_of(row, INDEX_FIELDS)
        answer = gold_letter(
            choices, _stated_answer(row, form) if index is None else index, first if index is None else 0
        )
        extra = {"accu_reward_method": "mcq", "options": texts}
    else:
        method = method_of_type(row) if form is VIDEO_R1 else form.method
        answer, method = gold_of(_stated_answer(row, form), method)
        filled, frame = fill_objects([*turns, ("gpt", answer)], row.get("objects"))
        turns, answer = filled[:-1], filled[-1][1]
        extra = {"accu_reward_method": method} if method else {}
    made = dialogue_row(where, [*turns, ("gpt", answer)], pictures, _identity(row), row_split(row), **extra)
    return replace(made, videos=videos_in_row(row), box_frame=frame)


def _asked(row: Mapping[str, Any], form: QuestionForm) -> tuple[Turns, tuple[SourcePicture, ...]]:
    """(the turns up to the question, pictures of its parts): a text, or a chat that ends with a user's turn."""
    value = list_value(first_of(row, form.question))
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, Mapping) and ("role" in item or "from" in item) for item in value)
    ):
        turns, pictures = read_turns([*value, {"role": "assistant", "content": "?"}], row.get("system"))
        return without_tool_prompt(turns[:-1]), pictures
    if value is None:
        raise Unusable(f"a row without a question, in the field {' or '.join(form.question)}")
    text, pictures = read_content(value)
    if not text.strip():
        raise Unusable("a row without a question")
    context = first_of(row, CONTEXT_FIELDS) if form is QUESTION_FORMS["choices"] else row.get("input")
    if isinstance(context, str) and context.strip() not in ("", "nan"):
        text = f"{context.strip()}\n{text}" if form is QUESTION_FORMS["choices"] else f"{text}\n{context.strip()}"
    system = row.get("system")
    before: Turns = [("system", system)] if isinstance(system, str) and system.strip() else []
    return [*before, *_history(row.get("history")), ("human", text)], tuple(pictures)


def _history(value: Any) -> Turns:
    """The turns before a question: [[question, answer], ...]."""
    pairs = value if isinstance(value, list) else []
    if not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    ):
        raise Unusable("a history that is no list of questions with answers")
    return [turn for asked, answered in pairs for turn in (("human", asked), ("gpt", answered))]


def _stated_answer(row: Mapping[str, Any], form: QuestionForm) -> Any:
    if not form.answer:
        reward = row.get("reward_model")
        return reward.get("ground_truth") if isinstance(reward, Mapping) else None
    value = first_of(row, form.answer)
    if isinstance(value, str) and (tagged := _TAGGED.fullmatch(value)):
        value = tagged[1]
    if form.has_options:  # MMMU's open questions have a list as text
        value = list_value(value)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "content" in item for item in value):
        return value[-1]["content"]  # TRL's completion as a chat
    return value


def gold_of(value: Any, method: str = "") -> tuple[str, str]:
    """(gold answer, its method, "" for the usual one): of a list of texts those that are accepted.

    >>> gold_of(["12", "12 %"]), gold_of([{"answer": "red"}] * 9 + [{"answer": "pink"}]), gold_of(3, "anls")
    (('["12","12 %"]', 'anls'), ('red', ''), ('3', 'anls'))
    """
    texts = accepted_answers(value)
    if len(texts) > 1:
        return orjson.dumps(texts).decode(), "anls"
    return texts[0] if texts else answer_text(value), method


def accepted_answers(value: Any) -> list[str]:
    """The accepted texts of a list of answers, each once; [] for a value that is no such list.

    All count where each was given once; else those that at least AGREEING people gave, or the most frequent.
    """
    items = (
        [item.get("answer") if isinstance(item, Mapping) else item for item in value]
        if isinstance(value, list)
        else []
    )
    if not items or not all(isinstance(item, str) for item in items):
        return []
    counts = Counter(text for item in items if (text := item.strip()))
    if not counts:
        raise Unusable("a row without an answer")
    most = max(counts.values())
    least = 1 if most == 1 else min(AGREEING, most)
    return [text for text, count in counts.most_common() if count >= least]


def _identity(row: Mapping[str, Any]) -> Any:
    return first_of(row, ("id", "question_id", "questionId", "qid", "pid"))
