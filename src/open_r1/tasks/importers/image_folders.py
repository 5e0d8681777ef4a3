"""Reads folders of pictures: with metadata.jsonl or metadata.csv beside them, or with a folder for each label."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from open_r1.errors import data_error
from open_r1.tasks.importers.annotations.object_columns import has_object_column
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, read_each_row
from open_r1.tasks.importers.pictures import ENDINGS
from open_r1.tasks.importers.questions.conversations import conversation_rows, dialogue_row
from open_r1.tasks.importers.questions.question_rows import QUESTION_FORMS, form_of_fields, question_row
from open_r1.tasks.importers.sources import Source, Unusable
from open_r1.tasks.importers.splits import SPLIT_WORDS
from open_r1.tasks.importers.table import table_rows

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
LABEL_QUESTION = "What does the image show? Answer with one of: {labels}."
MOST_LABELS = 1000


def is_metadata_folder(source: Source) -> bool:
    """Whether a folder, or one in it that is named after a split, has a metadata file."""
    return source.kind == "folder" and bool(_metadata(source.path)) and not has_object_column(source)


def _metadata(folder: Path) -> list[tuple[Path, str]]:
    """(metadata file, split) of a folder and of those in it."""
    found = [(folder / name, SPLIT_WORDS.get(folder.name, "")) for name in METADATA]
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    found += [(path / name, SPLIT_WORDS.get(path.name, "")) for path in inner for name in METADATA]
    return [(path, split) for path, split in found if path.is_file()]


def read_metadata_folder(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The rows of each metadata file, whose `file_name` names a picture beside it."""
    for path, split in _metadata(source.path):
        metadata = Source(path)
        form = form_of_fields(metadata.first)
        if not (form or options.fields or "conversations" in metadata.first or "messages" in metadata.first):
            got = f"the fields {', '.join(metadata.first)}"
            remedy = "name them: --fields problem=...,solution=..."
            raise data_error(str(path), "fields", got, "a question and its answer", remedy)

        def read_row(
            row: Mapping[str, Any],
            where: str,
            options: ImportOptions,
            folder: Path = path.parent,
            split: str = split,
            form: str = form,
        ) -> Iterator[ImportedRow]:
            name = row.get("file_name")
            if not isinstance(name, str) or not name:
                raise Unusable("a row of metadata without file_name")
            row = {"split": split, **row, "file_name": str((folder / name).resolve())}
            if options.fields:
                yield from table_rows({"image": row["file_name"], **row}, where, options)
            elif form:
                yield question_row(row, where, options, QUESTION_FORMS[form])
            else:
                yield from conversation_rows(row, where, options)

        yield from read_each_row(metadata, options, read_row)


def is_class_folder(source: Source) -> bool:
    """Whether a folder holds at least two folders with pictures and nothing else in them."""
    return source.kind == "folder" and not _metadata(source.path) and len(_classes(source.path)) > 1


def _classes(folder: Path) -> dict[str, list[tuple[Path, str]]]:
    """Label -> (picture, split) of FOLDER/LABEL/*.jpg or FOLDER/SPLIT/LABEL/*.jpg."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    is_split = bool(inner) and all(path.name in SPLIT_WORDS for path in inner)
    labelled = [
        (label, SPLIT_WORDS[path.name] if is_split else "")
        for path in inner
        for label in (sorted(sub for sub in path.iterdir() if sub.is_dir()) if is_split else [path])
    ]
    classes: dict[str, list[tuple[Path, str]]] = {}
    for label, split in labelled:
        files = [path for path in label.iterdir() if path.is_file() and not path.name.startswith(".")]
        if not files or any(path.suffix.lower() not in ENDINGS for path in files):
            return {}
        classes.setdefault(label.name, []).extend((path, split) for path in sorted(files))
    return classes


def read_class_folder(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """A row for each picture that asks for its label, the name of its folder."""
    classes = _classes(source.path)
    labels = [name.replace("_", " ") for name in classes]
    if len(classes) > MOST_LABELS:
        got, remedy = f"{len(classes)} folders", "write a metadata.jsonl with a question for each picture"
        raise data_error(str(source.path), "labels", got, f"at most {MOST_LABELS}", remedy)
    question = LABEL_QUESTION.format(labels=", ".join(labels))
    for label, files in zip(labels, classes.values(), strict=True):
        for path, split in files:
            yield dialogue_row(str(path), [("human", question), ("gpt", label)], (str(path.resolve()),), None, split)
