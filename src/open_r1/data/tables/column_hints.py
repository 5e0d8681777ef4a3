"""Says what is missing among the columns of a table, and the mapping that most likely is right. (torch-free)"""

import difflib
import shlex
from collections.abc import Iterator, Mapping

import pyarrow as pa

from open_r1.data.field_names import IMAGE_FIELDS, MEDIA_FIELDS, VIDEO_FIELDS, Renaming
from open_r1.data.media_keys import key_kind
from open_r1.data.row_formats import row_format
from open_r1.data.tables.rows import ColumnReader, Table, holds_bytes
from open_r1.errors import DataError, Problem

# our field -> names that it has in public datasets, the likeliest first
KNOWN_NAMES = {
    "problem": "question query prompt instruction input user text en_question extra_info.question",
    "solution": (
        "answer multiple_choice_answer ground_truth reward_model.ground_truth gt gt_answer final_answer answers label "
        "labels target response output completion assistant extra_info.answer"
    ),
    "images": (
        "images image decoded_image img imgs image_path image_paths images_path picture pictures photo file_name"
    ),
}
OPTIONS = {"options", "choices", "multiple_choices", "A"}  # columns of a question's options
EXPECTED_COLUMNS = "problem and solution, conversations, or messages, with image or images, video or videos"


def column_problem(table: Table, renaming: Renaming) -> Problem | None:
    """The problem of a table whose columns, under our names, make no rows."""
    where, schema, fields, flag = table.where, table.schema, renaming.fields, renaming.flag
    for ours, theirs in fields.items():
        if theirs not in (names := list(paths_in(schema))):
            nearest = difflib.get_close_matches(theirs, names, n=1, cutoff=0.5)
            remedy = f"did you mean {flag} {ours}={nearest[0]}?" if nearest else "correct the name"
            return Problem(where, flag, f"{ours}={theirs}", f"one of {', '.join(names)}", remedy)
    names = {*schema.names} - {*fields.values()} | {*fields}
    try:
        if row_format(dict.fromkeys(names), where) == "problem" and not names >= {"problem", "solution"}:
            return _missing(table, renaming)
        has_media = names & {*IMAGE_FIELDS, *VIDEO_FIELDS, "messages"} or ColumnReader(schema, fields).numbered
        likely = likely_fields(schema)
        ours, kind = ("images", "pictures") if "images" in likely else ("videos", "videos")
        if has_media or ours not in likely:
            return None
        mapping = typed_mapping({**fields, ours: likely[ours]})
        remedy = f"name the column of {kind}, {flag} {mapping}, or leave {likely[ours]} out of the file"
    except DataError:
        return _missing(table, renaming)
    return Problem(where, "columns", ", ".join(schema.names), EXPECTED_COLUMNS, remedy)


def _missing(table: Table, renaming: Renaming) -> Problem:
    """The problem of columns that make no row, with the mapping that most likely is right."""
    names, found, flag = table.schema.names, likely_fields(table.schema), renaming.flag
    remedy = f"name yours, such as {flag} problem=COLUMN,solution=COLUMN,images=COLUMN"
    if OPTIONS & set(names):
        remedy = "a question with options is made a row by python -m open_r1.convert FILE --out DIR"
    elif {"problem", "solution"} <= found.keys() | set(names):
        remedy = f"name yours: {flag} {typed_mapping({**found, **renaming.fields})}"
    return Problem(table.where, "columns", ", ".join(names), EXPECTED_COLUMNS, remedy)


def likely_fields(schema: pa.Schema) -> dict[str, str]:
    """Our field -> the column that most likely holds it, for fields that no column is named as.

    >>> likely_fields(pa.schema({"question": pa.string(), "answer": pa.string(), "img": pa.binary()}))
    {'problem': 'question', 'solution': 'answer', 'images': 'img'}
    >>> likely_fields(pa.schema({"mp4": pa.binary()}))
    {'videos': 'mp4'}
    """
    names = list(paths_in(schema))
    typed = [name for name in schema.names if is_picture(schema.field(name).type)]
    moving = [name for name in typed if key_kind(name).startswith("video")]
    still, found = [name for name in typed if name not in moving], {}
    for ours, known in {**KNOWN_NAMES, "videos": ""}.items():
        likely = {"images": still, "videos": moving}.get(ours, []) + known.split()
        theirs = next((name for name in likely if name in names), None)
        is_named = ours in names or any(ours in fields and theirs in fields for fields in MEDIA_FIELDS)
        if theirs and not is_named:
            found[ours] = theirs
    return found


def is_picture(kind: pa.DataType) -> bool:
    """Whether a column of this type holds pictures: bytes, {bytes, path}, or lists of one."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_picture(kind.value_type)
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and kind.get_field_index("path") >= 0
    return holds_bytes(kind)


def paths_in(schema: pa.Schema) -> Iterator[str]:
    """The names of all columns, and `column.field` of objects."""
    for field in schema:
        yield field.name
        if pa.types.is_struct(field.type) and not is_picture(field.type):
            yield from (f"{field.name}.{inner.name}" for inner in field.type)


def typed_mapping(fields: Mapping[str, str]) -> str:
    """The mapping as it is typed."""
    return shlex.quote(",".join(f"{ours}={theirs}" for ours, theirs in fields.items()))
