"""The picture beside the file that names it, and the JSON files of a folder. (torch-free)"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from open_r1.errors import DataError
from open_r1.tasks.importers.items import LeftOut
from open_r1.tasks.importers.pictures import SUBFOLDERS, Pictures, places_of_splits
from open_r1.tasks.importers.sources import Source
from open_r1.tasks.importers.splits import split_folders


def near_name(name: str, beside: Path, files: Pictures, of: Path | None = None) -> str:
    """The whole path of the picture in the folder `beside` or its usual subfolders, else the name as it is.

    `train/a.json` and `val/a.json` may each have a `0001.jpg` of their own. The folders that are named after the split
    of the file `of` come first.
    """
    own = split_folders(of, (*places_of_splits(beside), *files.folders)) if of is not None else ()
    for folder in (*own, *(beside / folder for folder in SUBFOLDERS)):
        path = folder / name
        if path.is_file() and files.has(str(path.resolve())):
            return str(path.resolve())
    return name


def json_of(source: Source) -> Any:
    """The value of one JSON file of a folder, None for a broken one (`broken_json`) and for files of another kind."""
    try:
        return source.document if source.path.is_file() and source.kind == "json" else None
    except DataError:
        return None


def broken_json(paths: Iterable[Path]) -> Iterator[LeftOut]:
    """The files of a folder that are JSON by name and cannot be read, each with the reason."""
    for path in paths:
        try:
            _ = Source(path).document if path.is_file() else None
        except DataError as error:
            yield LeftOut(str(path), f"a file that cannot be read: {error.problems[0].got}")
