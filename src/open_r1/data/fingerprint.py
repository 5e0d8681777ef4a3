"""A fingerprint of a dataset: shows whether a resumed run goes on with the same rows. (torch-free)"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_r1.data.record import Record


def digest(records: Any) -> str:
    """sha256 of the JSONL files' bytes, or of a hub dataset's texts."""
    hashed = hashlib.sha256()
    for source in getattr(records, "sources", ()):
        with open(source.path, "rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    if hasattr(records, "dataset"):
        for batch in records.dataset.select_columns(["problem", "solution"]).iter(1000):
            hashed.update(repr(batch).encode(errors="surrogatepass"))
    return hashed.hexdigest()


def picture_sizes(records: Sequence[Record], sample: int = 256) -> str:
    """sha256 of path and size in bytes of the pictures of `sample` evenly spaced rows; -1 stands for a missing file.

    Hub datasets hold their pictures in themselves and give the hash of no picture.
    """
    hashed = hashlib.sha256()
    if hasattr(records, "sources"):
        for index in range(0, len(records), max(1, len(records) // sample)):
            record = records[index]
            for name in record.images:
                path = Path(record.folder, name)
                size = path.stat().st_size if path.is_file() else -1
                hashed.update(f"{name} {size}\n".encode(errors="surrogatepass"))
    return hashed.hexdigest()
