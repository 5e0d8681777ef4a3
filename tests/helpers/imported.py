"""What an importer makes of a file: rows, reasons, remarks; and whether the doctor finds the rows sound."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from open_r1.data.images import with_sizes
from open_r1.data.record import parse_row
from open_r1.errors import Problem
from open_r1.report.examination import check_gold
from open_r1.tasks.importers.annotations.annotated import annotated_rows
from open_r1.tasks.importers.formats import FOREIGN_FORMATS, format_of
from open_r1.tasks.importers.items import AnnotatedPicture, ImportedRow, ImportOptions, LeftOut, Remark
from open_r1.tasks.importers.pictures import Pictures, search_folders
from open_r1.tasks.importers.sources import Source


@dataclass(frozen=True)
class Imported:
    """The items of a file; `files` finds their pictures."""

    format: str
    items: list[Any]
    files: Pictures

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [item.row for item in self.items if isinstance(item, ImportedRow)]

    @property
    def answers(self) -> list[Any]:
        """The golds, read as JSON where they are."""
        return [_value(row["conversations"][-1]["value"]) for row in self.rows]

    @property
    def questions(self) -> list[str]:
        return [row["conversations"][0]["value"] for row in self.rows]

    @property
    def reasons(self) -> Counter[str]:
        return Counter(item.reason for item in self.items if isinstance(item, LeftOut))

    @property
    def remarks(self) -> str:
        return "\n".join(item.text for item in self.items if isinstance(item, Remark))

    def problems(self) -> list[Problem]:
        """What the doctor finds in the golds on their pictures."""
        found = []
        for number, item in enumerate(item for item in self.items if isinstance(item, ImportedRow)):
            path = self.files.find(item.images[0])
            row = {**json.loads(json.dumps(item.row)), "image": path.name}
            record = with_sizes(parse_row(row, f"rows:{number}", number, str(path.parent)))
            found += check_gold(record)
        return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def imported(path: Path, task: str = "", boxes: str = "", others: tuple[Path, ...] = ()) -> Imported:
    """The items that a file becomes, as the door makes them; its format is told by its content."""
    source = Source(path)
    name = format_of(source)
    files = Pictures(search_folders([path], None), path.parent / "stored")
    options = ImportOptions(files, task=task, boxes=boxes, others=tuple(map(Source, others)))
    items = list(FOREIGN_FORMATS[name].read(source, options))
    pictures = [item for item in items if isinstance(item, AnnotatedPicture)]
    rest = [item for item in items if not isinstance(item, AnnotatedPicture)]
    return Imported(name, rest + list(annotated_rows(pictures, task, files) if pictures else ()), files)


def picture(folder: Path, name: str, size: tuple[int, int] = (300, 200), orientation: int = 1) -> Path:
    """A picture of this stored size."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, "navy")
    exif = image.getexif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def written(folder: Path, name: str, value: Any) -> Path:
    """A file with this text, or with this value as JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path
