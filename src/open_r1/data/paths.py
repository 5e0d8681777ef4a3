"""Splits path lists as users type them; resolves image paths that must stay below their folder. (torch-free)"""

import glob
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from open_r1.data.media_keys import is_picture_text
from open_r1.data.near_paths import near_path, right_folder
from open_r1.data.video.types import VIDEO_ENDINGS
from open_r1.errors import DataError, Problem, data_error, shorten

_COLON = re.compile(r"\\?:")
_WEB = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://", re.I)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_UNSAFE = (
    re.compile(  # an absolute path, a drive letter, a URL or data: URI, a ".." part, a NUL, half a surrogate pair
        r"[/\\]|[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*://|(?i:data|file):|(?:.*[/\\])?\.\.(?:[/\\]|$)"
        r"|.*[\0\ud800-\udc7f\udd00-\udfff]",
        re.S,
    )
)
_ENDING = re.compile(r"\.[A-Za-z]{3,4}$")
_WORDS = {"image": "picture", "video": "video"}  # field -> what stands in its file
_A_FILE = {"image": "an image file", "video": "a video file"}
FEW_MISSES = 10  # missing pictures by which a whole folder is judged
SAMPLED_MISSES = 8


def split_paths(value: str | os.PathLike | Sequence[str | os.PathLike], flag: str = "paths") -> list[str]:
    r"""Parts of a colon-separated list; a sequence is taken as it is, one path an entry.

    A letter before `:\` or `:/` at the start of a part is a Windows drive, `\:` is a colon inside a name.
    (So a one-letter folder before an absolute path is written `./a:/data`.)

    Raises DataError where a part is empty.

    >>> split_paths(r"C:\data\a.jsonl:D:/b.jsonl:x\:y.jsonl")
    ['C:\\data\\a.jsonl', 'D:/b.jsonl', 'x:y.jsonl']
    """
    parts = _split_text(value) if isinstance(value, str) else [os.fspath(v) for v in _as_sequence(value)]
    if not parts or not all(part.strip() for part in parts):
        remedy = "remove the stray colon, or write \\: for a colon that belongs to a name"
        raise data_error(flag, "value", shorten(value), "a path on each side of every colon", remedy)
    return parts


def data_files(value: str | os.PathLike | Sequence[str | os.PathLike]) -> list[str]:
    """The files of `--data_file_paths`: a pattern (`shards/*.parquet`), or a folder of parquet files, stands for its
    files in the order of their names. What stands for none stays as it is."""
    return [file for path in split_paths(value, "--data_file_paths") for file in _files_of(path)]


def _files_of(path: str) -> list[str]:
    if Path(path).exists() and not Path(path).is_dir():
        return [path]
    pattern = str(Path(glob.escape(path), "*.parquet")) if Path(path).is_dir() else path
    return sorted(glob.glob(pattern)) or [path]  # noqa: PTH207 (a pattern may be absolute)


def _as_sequence(value: os.PathLike | Sequence[str | os.PathLike]) -> Sequence[str | os.PathLike]:
    return [value] if isinstance(value, os.PathLike) else value


def _split_text(text: str) -> list[str]:
    parts, start = [], 0
    for colon in _COLON.finditer(text):
        is_drive = colon.start() == start + 1 and _DRIVE.match(text, start)
        if colon[0] == ":" and not is_drive:
            parts.append(text[start : colon.start()])
            start = colon.end()
    return [part.replace("\\:", ":") for part in [*parts, text[start:]]]


def drive_hint(path: str) -> str:
    """A hint for the remedy where a missing path was read as a Windows drive, else "".

    >>> drive_hint("a:/data"), drive_hint("data/a")
    (' (read as a Windows drive; for a folder named a write ./a:/data)', '')
    """
    return f" (read as a Windows drive; for a folder named {path[0]} write ./{path})" if _DRIVE.match(path) else ""


def _no_path(value: str) -> tuple[str, str] | None:
    """(what it is, what helps) of a value that is no path of a picture, but its content or several paths."""
    if is_picture_text(value) and len(value) > 30 and not _ENDING.search(value):
        return "a picture as base64", "write it to a file: python -m open_r1.convert FILE --out DIR"
    if re.fullmatch(r"\s*\[.*\]\s*", value, re.S):
        return "a list written as text", 'write it as a list: "images": ["a.png", "b.png"]'
    if len(parts := re.split(r"\s*[,;|]\s*", value)) > 1 and all(map(_ENDING.search, parts)):
        return f"{len(parts)} paths in one text", 'write a list: "images": ["a.png", "b.png"]'
    return None


def _is_path(value: str, field: str) -> bool:
    """Whether a value may be looked for as a path: a picture's may be its content."""
    names_video = field == "video" and Path(value).suffix.lower() in VIDEO_ENDINGS
    return "\0" not in value and (names_video or is_picture_text(value))


def folder_problem(folder: str) -> Problem | None:
    """The problem of an image folder, or None where it is a directory with reachable files."""
    expected, where = "a readable folder", "--image_folders"
    if not Path(folder).exists():
        remedy = "correct the path; it is relative to the working directory" + drive_hint(folder)
        return Problem(where, "folder", f"{folder!r}, which does not exist", expected, remedy)
    if not Path(folder).is_dir():
        return Problem(
            where, "folder", f"{folder!r}, which is a file", expected, "name the folder that holds the images"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        return Problem(where, "folder", f"{folder!r} without permission", expected, f"chmod u+rx {folder}")
    return None


class ImageFolder:
    """Resolves relative paths to regular files below one folder; opens no file.

    Resolved sub-folders are cached, so that a path costs one `lstat`.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self.root = os.path.realpath(folder)
        self.directories: dict[str, str] = {}  # sub-folder as written -> resolved, "" where it leaves the root
        self.has_any = False  # whether any of the asked files is there
        self.missing: list[str] = []  # the first of those that are not, and their number
        self.misses = 0

    def problem(self, relative: str, where: str, field: str = "image") -> Problem | None:
        """The problem of the path of an image, or of what else `field` names (unsafe, missing, outside, not a regular
        file), or None."""
        try:
            self.resolve(relative, where, field)
        except DataError as error:
            self.misses += 1
            if len(self.missing) < SAMPLED_MISSES:
                self.missing.append(relative)
            return error.problems[0]
        self.has_any = True
        return None

    def wrong_folder(self, beside: str) -> Problem | None:
        """The problem of a folder in which none of many asked files is; `beside`: the file of the rows."""
        if self.has_any or self.misses < FEW_MISSES:
            return None
        right = right_folder(self.folder, self.missing, beside)
        remedy = (
            f"did you mean --image_folders {right}?" if right else "give the folder that the paths are relative to"
        )
        got = f"{self.folder!r}, below which none of {self.misses:,} pictures lies, as {shorten(self.missing[0])}"
        return Problem("--image_folders", "folder", got, "the folder of the pictures", remedy)

    def resolve(self, relative: str, where: str, field: str = "image") -> str:
        """The real path of an image, or of what else `field` names. Raises DataError, with that field, where it is
        unsafe, missing or not a file."""
        if _UNSAFE.match(relative):
            raise self._unsafe_path_error(relative, where, field)
        head, _, tail = relative.rpartition("/")
        try:
            directory = self._directory(head)
            path = directory and f"{directory}/{tail}"
            mode = os.lstat(path).st_mode if path else 0
            if stat.S_ISLNK(mode):
                path = self._inside(os.path.realpath(path, strict=True))
                mode = Path(path).stat().st_mode if path else 0
        except OSError as error:
            raise self._missing_error(relative, where, error, field) from error
        if not path:
            raise self._outside_error(relative, where, field)
        if not stat.S_ISREG(mode):
            raise self._file_type_error(relative, where, mode, field)
        return path

    def _directory(self, head: str) -> str:
        if head not in self.directories:
            self.directories[head] = self._inside(os.path.realpath(f"{self.root}/{head}", strict=True))
        return self.directories[head]

    def _inside(self, path: str) -> str:
        """The path where it lies below the folder, else ""."""
        return path if path == self.root or path.startswith(self.root.rstrip("/") + "/") else ""

    def _unsafe_path_error(self, relative: str, where: str, field: str) -> DataError:
        expected = f"a path relative to {self.folder!r} without '..', drive, URL, NUL or half a character"
        got, remedy = shorten(relative), f"copy the {field} below the folder and write its relative path"
        if _WEB.match(relative):
            remedy = f"download the {_WORDS[field]} below the folder: nothing is fetched"
        elif (other := _no_path(relative)) is not None:
            got, remedy = f"{got}, {other[0]}", other[1]
        elif near := near_path(self.root, relative):
            remedy = f"write {near!r}"
        elif relative[:5].lower() == "data:":
            remedy = "write it to a file: python -m open_r1.convert FILE --out DIR"
        elif relative[0] == "/" and _is_path(relative, field) and Path(relative).is_file():
            remedy = (
                f"give a folder above it, such as --image_folders {Path(relative).parent}, or copy it below the folder"
            )
        return data_error(where, field, got, expected, remedy)

    def _outside_error(self, relative: str, where: str, field: str) -> DataError:
        got = f"{shorten(relative)}, a link that leads outside"
        remedy = f"copy the {field} below the folder, or give the folder that holds it"
        return data_error(where, field, got, f"a file inside {self.folder!r}", remedy)

    def _missing_error(self, relative: str, where: str, error: OSError, field: str) -> DataError:
        if (other := _no_path(relative)) is not None:
            got, expected = f"{shorten(relative)}, {other[0]}", f"the path of a {_WORDS[field]}"
            return data_error(where, field, got, expected, other[1])
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            expected, remedy = f"an existing file under {self.folder!r}", "correct the path or --image_folders"
            if "\\" in relative:
                remedy = "write paths with forward slashes, below --image_folders"
            if near := near_path(self.root, relative):
                remedy = f"write {near!r}"
            return data_error(where, field, shorten(relative), expected, remedy)
        got, remedy = f"{shorten(relative)} ({error.strerror})", "correct the path or its permissions"
        return data_error(where, field, got, f"a reachable file under {self.folder!r}", remedy)

    def _file_type_error(self, relative: str, where: str, mode: int, field: str) -> DataError:
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        return data_error(where, field, f"{shorten(relative)}, {kind}", "a regular file", f"name {_A_FILE[field]}")
