"""The split that a file or folder is named after. (torch-free)"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_WORD = re.compile(r"[A-Za-z]+")
_PICTURE_WORDS = frozenset({"images", "image", "imgs", "img", "pictures"})


def split_in_name(name: str) -> str:
    """The split whose name is a word of a name, "" where none or several are.

    >>> split_in_name("instances_train2017"), split_in_name("d.labelme"), split_in_name("labels/valid")
    ('train', '', 'val')
    """
    found = {SPLIT_WORDS[word] for word in map(str.lower, _WORD.findall(name)) if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""


def split_of_folder(folder: Path) -> str:
    """The split that a folder's whole name is, "" for any other name.

    >>> split_of_folder(Path("data/valid")), split_of_folder(Path("test_pictures"))
    ('val', '')
    """
    return SPLIT_WORDS.get(folder.name.lower(), "")


@lru_cache
def split_folders(file: Path, roots: Sequence[Path]) -> tuple[Path, ...]:
    """The folders in `roots` that are named after the split in a file's name, and after pictures at most: `train2017`
    or `train_images` of `instances_train2017.json`; those with the file's own word first."""
    split = split_in_name(file.stem)
    if not split:
        return ()
    found = [folder for root in roots if root.is_dir() for folder in root.iterdir() if _holds(folder, split)]
    return tuple(sorted(dict.fromkeys(found), key=lambda folder: (not file.stem.endswith(folder.name), folder)))


def _holds(folder: Path, split: str) -> bool:
    words = set(map(str.lower, _WORD.findall(folder.name))) - _PICTURE_WORDS
    return len(words) == 1 and SPLIT_WORDS.get(words.pop()) == split and folder.is_dir()
