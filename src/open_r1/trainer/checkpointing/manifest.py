"""What says that a checkpoint is whole: `manifest.json` names every file of it with its size and sha256. (torch-free)

It is written last, so a folder without it was never finished, or is another program's. transformers 5.17 picks the
checkpoint of the highest number unread, and goes on without an optimizer, scheduler or random state that is missing.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
THREADS = 4  # that hash files; hashing leaves the interpreter to others


def write_manifest(folder: Path) -> None:
    """Name all files below a folder, and see them on the disk: files, manifest and folders are synced.

    Raises OSError.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
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
    """What differs from the manifest; empty where the folder is as it was written.

    Of several ranks each reads the contents of its share of the files, and sees the sizes of all.

    >>> damages(Path("nowhere"))
    ['there is no manifest.json, which is written last: it was never finished, or another program wrote it']
    """
    try:
        files = read_manifest(folder)
    except FileNotFoundError:
        return [f"there is no {MANIFEST}, which is written last: it was never finished, or another program wrote it"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST} is damaged ({type(error).__name__}: {error})"]
    found = [size_problem(folder / name, entry["bytes"], name) for name, entry in files.items()]
    if any(found):
        return [problem for problem in found if problem]
    mine = list(files)[rank::ranks]
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = pool.map(file_sha256, (folder / name for name in mine))
        wrong = [name for name, digest in zip(mine, hashes, strict=True) if digest != files[name]["sha256"]]
    return [f"{name} holds other bytes than were written (its sha256 differs)" for name in wrong]


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    return {str(name): {"bytes": int(e["bytes"]), "sha256": str(e["sha256"])} for name, e in files.items()}


def size_problem(path: Path, size: int, name: str) -> str | None:
    if not path.is_file():
        return f"{name} is missing"
    found = path.stat().st_size
    return None if found == size else f"{name} has {found} bytes, expected {size}"


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of the files among `paths`."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, is on the disk afterwards."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
