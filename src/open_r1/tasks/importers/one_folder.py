"""Brings the pictures of one output below one folder, as training reads them. (torch-free)"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path


def one_folder(files: Iterable[Path], folders: Sequence[Path], out: Path) -> tuple[Path, dict[Path, str]]:
    """(the folder below which all files lie, the path of each relative to it).

    It is the innermost search folder that holds all; else `out`, where files from elsewhere are linked, or copied
    where links are impossible.
    """
    files = dict.fromkeys(files)
    roots = sorted({*folders, out.resolve()}, key=lambda folder: -len(folder.parts))
    for root in roots:
        if all(path.is_relative_to(root) for path in files):
            return root, {path: path.relative_to(root).as_posix() for path in files}
    out = out.resolve()
    places = {path: _place_in(out, path, roots) for path in files}
    return out, {path: place.relative_to(out).as_posix() for path, place in places.items()}


def _place_in(out: Path, path: Path, roots: Sequence[Path]) -> Path:
    """The place of a file below `out`, linked or copied there where it lies elsewhere."""
    if path.is_relative_to(out):
        return path
    root = next((root for root in roots if path.is_relative_to(root)), path.parent)
    tag = _folder_tag(root)
    place = out / tag / path.relative_to(root)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, place)
    return place


@lru_cache
def _folder_tag(root: Path) -> str:
    """A short name for a folder, another one for each."""
    return f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:6]}"
