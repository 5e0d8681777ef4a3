"""Reads rows by the fields that the user names: `--fields problem=question,solution=answer,image=img`. (torch-free)"""

from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.tasks.importers.conversations import dialogue_row, read_content
from open_r1.tasks.importers.fields import answer_text, pictures_of
from open_r1.tasks.importers.options import gold_letter, option_texts, options_of_row, with_options
from open_r1.tasks.importers.picture_values import pictures_in
from open_r1.tasks.importers.sources import Source, Unusable
from open_r1.tasks.importers.types import ImportedItem, ImportedRow, ImportOptions, read_each_row

READ_HERE = ("problem", "solution", "image", "images", "id", "options", "split")


def read_table(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """A row for each row of a source, by `options.fields`."""

    def read_row(row: Mapping[str, Any], where: str, options: ImportOptions) -> Iterator[ImportedRow]:
        yield table_row(row, where, options)

    return read_each_row(source, options, read_row)


def table_row(row: Mapping[str, Any], where: str, options: ImportOptions) -> ImportedRow:
    """The row by `options.fields`; a field of ours that is not named there has its own name. Raises Unusable."""
    value = {name: field_at(row, options.fields.get(name, name), name in options.fields) for name in READ_HERE}
    extra = {name: field_at(row, path) for name, path in options.fields.items() if name not in READ_HERE}
    question, inside = read_content(value["problem"])
    named = pictures_in(value["image"]) or pictures_in(value["images"])
    pictures = tuple(inside) or named or (() if {"image", "images"} & options.fields.keys() else pictures_of(row))
    choices = options_of_row({"options": value["options"]})
    if choices:
        texts = option_texts(choices)
        question, answer = with_options(question, texts), gold_letter(choices, value["solution"])
        extra = {"accu_reward_method": "mcq", "options": texts, **extra}
    else:
        answer = answer_text(value["solution"])
    turns = [("human", question), ("gpt", answer)]
    extra = {name: found for name, found in extra.items() if found is not None}
    return dialogue_row(where, turns, pictures, value["id"], str(value["split"] or ""), **extra)


def field_at(row: Mapping[str, Any], path: str, is_needed: bool = False) -> Any:
    """The value of a field, or of one inside it (`reward_model.ground_truth`); None without one.

    Raises Unusable for a row without a field that is needed.

    >>> field_at({"a": {"b": 1}}, "a.b"), field_at({"a.b": 2}, "a.b"), field_at({}, "a")
    (1, 2, None)
    """
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            if is_needed:
                raise Unusable(f"a row without the field {path}")
            return None
        value = value[name]
    return value
