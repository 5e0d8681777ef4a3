"""Reads VQAv2's and OK-VQA's pairs of files: questions, and annotations with ten answers each. (torch-free)"""

from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.errors import data_error
from open_r1.tasks.importers.fields import picture_by_id
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, Remark, read_each_row
from open_r1.tasks.importers.questions.conversations import dialogue_row
from open_r1.tasks.importers.questions.question_rows import gold_of
from open_r1.tasks.importers.sources import Source, Unusable
from open_r1.tasks.importers.splits import split_in_name


def is_vqa_questions(source: Source) -> bool:
    """Whether a file holds questions by `question_id` about pictures by `image_id`, without answers."""
    fields = set(source.first)
    return fields >= {"question", "question_id", "image_id"} and not fields & {"answer", "answers", "choices"}


def is_vqa_annotations(source: Source) -> bool:
    """Whether a file holds the answers to questions by their `question_id`."""
    notes = _annotations(source)
    first = notes[0] if notes and isinstance(notes[0], Mapping) else {}
    return "question_id" in first and bool({"answers", "multiple_choice_answer"} & first.keys())


def _annotations(source: Source) -> list[Any]:
    document = source.document if source.kind == "json" else None
    notes = document.get("annotations") if isinstance(document, Mapping) and "images" not in document else None
    return notes if isinstance(notes, list) else []


def read_vqa_questions(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """A row for each question with its annotation in another file of the command. Raises DataError without one."""
    answers = [other for other in options.others if is_vqa_annotations(other)]
    notes = {str(note.get("question_id")): note for other in answers for note in _annotations(other) if _is_note(note)}
    if str(source.first.get("question_id")) not in notes:
        got = "questions without answers" if not answers else "questions of other annotations"
        remedy = "give both files: python -m open_r1.convert QUESTIONS.json ANNOTATIONS.json --out DIR"
        raise data_error(str(source.path), "answers", got, "the annotations file beside it", remedy)
    split = split_in_name(str(source.document.get("data_subtype", ""))) if source.kind == "json" else ""

    def read_row(row: Mapping[str, Any], where: str, options: ImportOptions) -> Iterator[ImportedRow]:
        note = notes.get(str(row.get("question_id")))
        if note is None:
            raise Unusable("a question without an annotation")
        value = note.get("multiple_choice_answer") or note.get("answers")
        answer, method = gold_of(value)
        extra = {"accu_reward_method": method} if method else {}
        turns = [("human", str(row.get("question") or "")), ("gpt", answer)]
        yield dialogue_row(where, turns, picture_by_id(row, options.pictures), row["question_id"], split, **extra)

    yield from read_each_row(source, options, read_row)


def _is_note(note: Any) -> bool:
    return isinstance(note, Mapping) and note.get("question_id") is not None


def read_vqa_annotations(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """No rows: they come with the questions. Raises DataError where these are not among the files."""
    if not any(is_vqa_questions(other) for other in options.others):
        remedy = "give both files: python -m open_r1.convert QUESTIONS.json ANNOTATIONS.json --out DIR"
        raise data_error(str(source.path), "questions", "answers without questions", "the questions file too", remedy)
    yield Remark(str(source.path), "its answers were read with the questions")
