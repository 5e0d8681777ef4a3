"""A fingerprint of a dataset: shows whether a resumed run goes on with the same rows. (torch-free)"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from open_r1.data.record import Record
from open_r1.data.video.fields import video_paths

SAMPLED = 256  # rows whose pictures are looked at
HASHED_FRONT, HASHED_BACK = 1 << 20, 1 << 16  # bytes of a picture that are hashed


def digest(records: Any) -> str:
    """sha256 of the JSONL files' bytes, and of the rows of tables, which name their pictures by content."""
    hashed = hashlib.sha256()
    for source in getattr(records, "sources", ()):
        with open(source.lines, "rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()


def picture_sizes(records: Sequence[Record]) -> str:
    """sha256 of path and size in bytes of the pictures of `SAMPLED` evenly spaced rows; -1: a missing file."""
    hashed = hashlib.sha256()
    for name, path in sampled_pictures(records):
        size = path.stat().st_size if path.is_file() else -1
        hashed.update(f"{name} {size}\n".encode(errors="surrogatepass"))
    return hashed.hexdigest()


def picture_digest(records: Sequence[Record]) -> str:
    """sha256 of the bytes of the same pictures: of each at most `HASHED_FRONT` and the last `HASHED_BACK` bytes.

    Pictures of other rows are not looked at.
    """
    hashed = hashlib.sha256()
    for _, path in sampled_pictures(records):
        if path.is_file():
            with open(path, "rb") as file:
                hashed.update(file.read(HASHED_FRONT))
                file.seek(max(file.tell(), path.stat().st_size - HASHED_BACK))
                hashed.update(file.read())
    return hashed.hexdigest()


def sampled_pictures(records: Sequence[Record]) -> Iterator[tuple[str, Path]]:
    """(name, path) of the pictures and videos of about `SAMPLED` evenly spaced rows."""
    for index in range(0, len(records), max(1, len(records) // SAMPLED)):
        record = records[index]
        names = (*record.images, *video_paths(record.videos))
        yield from ((name, Path(record.folder, name)) for name in names)
