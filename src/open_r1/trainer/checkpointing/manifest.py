"""Writes and verifies `manifest.json`: every file of a checkpoint with its size and sha256. (torch-free)

It is written last, so a folder without it is incomplete, or another program's. transformers 5.17 takes the checkpoint
of the highest number without any check, and continues without a missing optimizer, scheduler or random state.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
THREADS = 4  # for hashing files; hashing releases the interpreter lock


def write_manifest(folder: Path) -> None:
    """Write the manifest of a folder, and sync files, manifest and folders to the disk.

    Raises OSError.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = list(pool.map(file_sha256, files))
        list(pool.map(sync, files))
    entries = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(files, hashes, strict=True)
    }
    (folder / MANIFEST).write_text(json.dumps({"files": entries}, indent=1), encoding="utf-8")
    for path in (folder / MANIFEST, *(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync(path)


def damages(folder: Path, rank: int = 0, ranks: int = 1) -> list[str]:
    """A sentence for each difference from the manifest; empty where the folder is as it was written.

    With several ranks each hashes its share of the files, and checks the sizes of all.

    >>> damages(Path("nowhere"))
    ['there is no manifest.json, which is written last: it was never finished, or another program wrote it']
    """
    if problems := size_problems(folder):
        return problems
    files = read_manifest(folder)
    share = list(files)[rank::ranks]
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = pool.map(file_sha256, (folder / name for name in share))
        names = [name for name, digest in zip(share, hashes, strict=True) if digest != files[name]["sha256"]]
    return [f"{name} holds other bytes than were written (its sha256 differs)" for name in names]


def size_problems(folder: Path) -> list[str]:
    """A sentence for each file that is missing or has another size than in the manifest; reads no weights."""
    try:
        files = read_manifest(folder)
    except FileNotFoundError:
        return [f"there is no {MANIFEST}, which is written last: it was never finished, or another program wrote it"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST} is damaged ({type(error).__name__}: {error})"]
    problems = [size_problem(folder / name, entry["bytes"], name) for name, entry in files.items()]
    return [problem for problem in problems if problem]


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """File name -> {"bytes", "sha256"}. Raises FileNotFoundError, or another error for a damaged manifest."""
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    return {str(name): {"bytes": int(e["bytes"]), "sha256": str(e["sha256"])} for name, e in files.items()}


def size_problem(path: Path, size: int, name: str) -> str | None:
    """The sentence about a file that is missing or has another size than expected, or None."""
    if not path.is_file():
        return f"{name} is missing"
    actual = path.stat().st_size
    return None if actual == size else f"{name} has {actual} bytes, expected {size}"


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of the files among `paths`."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
