"""Finds the file that a wrong path means, and the folder that wrong paths are relative to. (torch-free)"""

import os
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

LISTED = 100_000  # names of a folder that are compared
TRIED_FOLDERS = 200


def near_path(root: str, path: str) -> str | None:
    """The file below `root` that a path most likely means, as it is written there; None where there is none.

    Looked at are its forms with forward slashes and without URL escapes, each also without its first parts (a drive, a
    folder that `root` is within), and names that differ in case, Unicode form or ending.
    """
    slashed = path.replace("\\", "/")
    parsed = urlsplit(slashed) if slashed.startswith("file://") else None
    plain = (parsed.path if parsed else slashed).strip()
    for form in dict.fromkeys((plain, unquote(plain))):
        parts = [part for part in form.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in form:
            return None
        for start in range(len(parts)):
            found = _same(root, parts[start:])
            if found and found != path:
                return found
    return None


def _same(root: str, parts: Sequence[str]) -> str | None:
    """`parts` as a file below `root`, or as a name there that differs in case, Unicode form or ending."""
    place, folder = Path(root, *parts), Path(root, *parts[:-1])
    if _is(place.is_file):
        return "/".join(parts)
    if not _is(folder.is_dir):
        return None
    names = _names(folder)
    found = names.get(_plain(place.name)) or names.get(_plain(place.stem))
    return "/".join([*parts[:-1], found]) if found else None


def _is(test: Callable[[], bool]) -> bool:
    """Whether a test of a path holds; False for a path that no file can have or that may not be looked at."""
    try:
        return test()
    except OSError:
        return False


@lru_cache(64)
def _names(folder: Path) -> dict[str, str]:
    """Plain name -> name of the files of a folder, with and without their endings."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(LISTED), strict=False) if entry.is_file()]
    except OSError:  # a folder that cannot be listed: no name is proposed
        return {}
    return {_plain(Path(name).stem): name for name in names} | {_plain(name): name for name in names}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def right_folder(folder: str, paths: Sequence[str], beside: str) -> str | None:
    """The folder below which all `paths` exist, where `folder` is wrong: one above it, one within it, that of the file
    `beside`, or the working directory; None where none is right."""
    root, cwd = Path(folder), Path()
    above = list(root.parents)[:3] if root.is_absolute() or len(root.parts) > 1 else [cwd]
    try:
        within = sorted(child for child in root.iterdir() if child.is_dir())[:TRIED_FOLDERS]
    except OSError:  # no folder, which is a defect of its own
        within = []
    for tried in (*above, *within, Path(beside).parent, cwd):
        if tried != root and all((tried / path).is_file() for path in paths):
            return str(tried)
    return None


@lru_cache(64)
def _roots(folder: str, cwd: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys((os.path.normpath(cwd / folder), os.path.realpath(folder))))


def relative_below(path: str, folder: str) -> str:
    """The relative form of an absolute path or `file://` URL that lies below a folder, also through a link; else the
    path as it is.

    >>> relative_below("/data/img/a.png", "/data/img"), relative_below("/data/b.png", "/data/img")
    ('a.png', '/data/b.png')
    """
    local = unquote(path.removeprefix("file://").removeprefix("localhost")) if path.startswith("file://") else path
    if not folder or not local.startswith("/") or "/../" in f"{local}/" or "\0" in local:
        return path
    resolved = str(Path(os.path.realpath(Path(local).parent), Path(local).name))
    for place in (os.path.normpath(local), resolved):
        for root in _roots(folder, Path.cwd()):
            if place.startswith(root.rstrip("/") + "/"):
                return os.path.relpath(place, root)
    return path
