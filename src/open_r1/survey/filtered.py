"""Writes data files without the rows that teach nothing, with the success rate of surveyed rows. (torch-free)"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_r1.data.data_source import JsonlFile
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.record import SURVEY_RATE, SURVEY_SAMPLES
from open_r1.survey.figures import SurveyedRow

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FilteredFile:
    """A written file: its source, and the numbers of rows that stayed and that were left out."""

    path: Path
    source: JsonlFile
    kept: int
    left_out: int


def write_filtered(data: RecordDataset, rows: Mapping[tuple[int, int], SurveyedRow], out: Path) -> list[FilteredFile]:
    """Write each file of `data` without its dead rows into the folder `out`, but a file of which nothing stays.

    `rows`: (number of the file, line) -> what a survey found. Lines keep their order, and all fields; a surveyed one
    gets its success rate and the number of its completions, others stay byte for byte.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = file_names([source.path for source in data.sources])
    written = [
        write_one(source, {line: row for (file, line), row in rows.items() if file == number}, out / name)
        for number, (source, name) in enumerate(zip(data.sources, names, strict=True))
    ]
    for file in written:
        if not file.kept:
            file.path.unlink()
    return [file for file in written if file.kept]


def write_one(source: JsonlFile, rows: Mapping[int, SurveyedRow], path: Path) -> FilteredFile:
    """Write one file; `rows` by line, counted from 1."""
    kept = left_out = 0
    with open(source.lines, "rb") as lines, atomic_write(path) as new:
        for number, line in enumerate(lines, 1):
            row = rows.get(number)
            if row is not None and row.is_dead:
                left_out += 1
                continue
            kept += bool(line.strip())
            new.write(line if row is None else with_rate(line, row))
    return FilteredFile(path, source, kept, left_out)


def with_rate(line: bytes, row: SurveyedRow) -> bytes:
    r"""A line with the survey's fields at its end.

    >>> with_rate(b'{"id": 3, "x": 1.0}\r\n', SurveyedRow("a:1", 0.5, (0, 1)))
    b'{"id": 3, "x": 1.0, "survey_rate": 0.5, "survey_samples": 2}\n'
    """
    fields = json.loads(line.removeprefix(_BOM)) | {SURVEY_RATE: row.rate, SURVEY_SAMPLES: len(row.values)}
    return json.dumps(fields).encode() + b"\n"


def file_names(paths: Sequence[str]) -> list[str]:
    """A name for each file: its own, with its number where two have the same.

    >>> file_names(["a/train.jsonl", "b/train.jsonl", "c.parquet"])
    ['1-train.jsonl', '2-train.jsonl', 'c.jsonl']
    """
    stems = [Path(path).stem for path in paths]
    return [
        f"{stem}.jsonl" if stems.count(stem) == 1 else f"{number}-{stem}.jsonl" for number, stem in enumerate(stems, 1)
    ]
