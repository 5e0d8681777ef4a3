"""The split that a file or folder is named after. (torch-free)"""

import re
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
