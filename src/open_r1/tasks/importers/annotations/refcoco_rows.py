"""Rows of RefCOCO's public forms for `convert`, by the readers of `refcoco`. (torch-free)"""

from collections.abc import Iterator, Mapping

from open_r1.data.row_formats import IMAGE_TAG
from open_r1.errors import DataError, data_error
from open_r1.tasks.importers.annotations.annotated_tasks import plain_numbers
from open_r1.tasks.importers.annotations.refcoco import (
    JXU_COLUMNS,
    LMMS_COLUMNS,
    QUESTION_PREFIX,
    READERS,
    SPLIT_IN_NAME,
    Sources,
)
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, LeftOut, qa_row
from open_r1.tasks.importers.sources import Source

PICKLES = (b"\x80", b"(lp", b"]")  # the first bytes of a pickled list


def is_refcoco(source: Source) -> bool:
    """Whether a file is a pickle of refs, parquet with the columns of the hub's RefCOCO, or one of VLM-R1's
    rec_jsons."""
    if source.kind == "parquet":
        return source.first.keys() >= LMMS_COLUMNS or source.first.keys() >= JXU_COLUMNS
    if source.kind == "json":
        row = source.first
        asks = str(row.get("problem", "")).startswith(QUESTION_PREFIX) or "normal_caption" in row
        return asks and {"image", "problem", "solution"} <= row.keys()
    return _is_pickle(source)


def _is_pickle(source: Source) -> bool:
    if source.path.suffix not in (".p", ".pkl", ".pickle") or source.kind == "folder":
        return False
    with open(source.path, "rb") as file:
        return file.read(3).startswith(PICKLES)


def read_refcoco(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """A row for each sentence of each region. Raises DataError for a broken file, and for refs alone."""
    kind = ".p" if _is_pickle(source) else f".{source.kind}"
    instances = next((other.path for other in options.others if _has_annotations(other)), None)
    if kind == ".p" and instances is None:
        got, remedy = "a pickle of refs alone", "give the instances.json beside it in the same command"
        raise data_error(str(source.path), "FILE", got, "its instances.json too", remedy)
    split = None if SPLIT_IN_NAME.search(source.path.stem) else "train"
    for number, (row, convert) in enumerate(READERS[kind](source.path, Sources(instances, split)), 1):
        where = f"{source.path}:{number}"
        try:
            region = convert(row, where)
        except DataError as error:
            yield LeftOut(where, f"{error.problems[0].field}: got {error.problems[0].got}")
            continue
        if region is None:
            yield LeftOut(where, "a row without a box")
            continue
        size = {"image_wh": list(region.image_wh)} if region.image_wh else {}
        for question, sentence in region.questions:
            answer = str(plain_numbers(region.box))
            fields = {"accu_reward_method": "rec", **region.ids, "sentence": sentence, **size}
            text = question.replace(IMAGE_TAG, "").strip()
            yield _with_split(qa_row(where, text, answer, (region.picture or region.image,), **fields), region.split)


def _with_split(row: ImportedRow, split: str) -> ImportedRow:
    return ImportedRow(row.where, row.row, row.images, split)


def _has_annotations(source: Source) -> bool:
    return source.kind == "json" and isinstance(source.document, Mapping) and "annotations" in source.document
