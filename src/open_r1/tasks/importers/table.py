"""Reads rows by the fields that the user names: `--fields problem=question,solution=answer,image=img`. (torch-free)"""

from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.data.field_names import IMAGE_FIELDS, has_field, renamed
from open_r1.tasks.importers.fields import PICTURE_FIELDS
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, read_each_row
from open_r1.tasks.importers.questions.conversations import TURN_LISTS, conversation_rows
from open_r1.tasks.importers.questions.question_rows import QuestionForm, question_row
from open_r1.tasks.importers.sources import Source, Unusable

TABLE_FORM = QuestionForm("rows by --fields", (), ("problem",), ("solution",), has_options=True)


def read_table(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The rows of a source by `options.fields`."""
    return read_each_row(source, options, table_rows)


def table_rows(row: Mapping[str, Any], where: str, options: ImportOptions) -> Iterator[ImportedRow]:
    """The row by `options.fields`, several for a conversation with `all_turns`. Raises Unusable."""
    missing = next((path for path in options.fields.values() if not has_field(row, path)), None)
    if missing is not None:
        raise Unusable(f"a row without the field {missing}")
    ours = renamed(row, options.fields)
    if options.fields.keys() & set(IMAGE_FIELDS):  # no other field is the picture then
        ours = {name: value for name, value in ours.items() if name in IMAGE_FIELDS or name not in PICTURE_FIELDS}
    if any(ours.get(name) for name in TURN_LISTS):
        yield from conversation_rows(ours, where, options)
    else:
        yield question_row(ours, where, options, TABLE_FORM)
