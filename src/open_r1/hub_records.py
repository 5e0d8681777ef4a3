"""`datasets` rows (columns image or images, problem, solution) -> `Record`s, as if they had come from a JSONL file.

Pictures inside the dataset are written, when their row is first used, to a cache folder, so that every later step sees
files below one folder: the same limits, the same once-per-image decoding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Image, List, load_dataset, load_from_disk

from open_r1.errors import DataError, Problem
from open_r1.records import default_cache_dir
from open_r1.rows import Record, parse_row


class HubRecords(Sequence[Record]):
    """Row i of the dataset as a Record; `where` is `name[split]:i`. Every row's text is checked when it is made.

    Raises DataError with every problem of the text columns.
    """

    def __init__(self, dataset: Dataset, name: str, split: str, method: str | None):
        self.where, self.method = f"{name}[{split}]", method
        self.column = next((c for c in ("images", "image") if c in dataset.column_names), None)
        self.dataset = undecoded(dataset, self.column) if self.column else dataset
        self.folder = default_cache_dir() / "hub_images" / dataset._fingerprint
        self.counts = image_counts(self.dataset, self.column)
        self._check()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record:
        row = self.dataset[index]
        pictures = row.pop(self.column) if self.column else None
        pictures = pictures if isinstance(pictures, list) else [pictures] if pictures else []
        names = [self._spool(picture, f"{index}_{k}") for k, picture in enumerate(pictures)]
        return self._record(row, index, names)

    def _record(self, row: dict[str, Any], index: int, names: list[str]) -> Record:
        shown = {key: value for key, value in row.items() if value is not None or key in ("problem", "solution")}
        images = {"images": names} if names else {}
        return parse_row({**shown, **images}, f"{self.where}:{index}", index, str(self.folder), self.method)

    def _spool(self, picture: dict[str, Any], name: str) -> str:
        path = self.folder / name
        if not path.exists():
            data = picture["bytes"] if picture["bytes"] is not None else Path(picture["path"]).read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{name}.part")
            partial.write_bytes(data)
            partial.rename(path)
        return name

    def _check(self) -> None:
        problems: list[Problem] = []
        texts = self.dataset.remove_columns([self.column]) if self.column else self.dataset
        for index, row in enumerate(texts):
            try:
                self._record(row, index, [f"{index}_{k}" for k in range(self.counts[index])])
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError(problems)


def undecoded(dataset: Dataset, column: str) -> Dataset:
    """The image column as bytes or paths: pixels are decoded by `open_r1.images` alone."""
    many = isinstance(dataset.features[column], List)
    return dataset.cast_column(column, List(Image(decode=False)) if many else Image(decode=False))


def image_counts(dataset: Dataset, column: str | None) -> list[int]:
    """Images of each row, without reading any."""
    if column is None:
        return [0] * len(dataset)
    values = dataset.with_format("arrow")[column][:]
    if isinstance(dataset.features[column], List):
        return pc.fill_null(pc.list_value_length(values), 0).to_pylist()
    return [int(valid) for valid in pc.is_valid(values).to_pylist()]


def load_hub_records(name: str, config: str | None, split: str, method: str | None) -> HubRecords:
    """A hub dataset, a folder written by `save_to_disk`, or any folder that `load_dataset` reads.

    Raises DataError where the split or the columns problem and solution are missing.
    """
    folder = Path(name)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    loaded = load_from_disk(name) if saved else load_dataset(name, config)
    splits = loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
    if split not in splits:
        raise DataError(
            [Problem(name, "split", repr(split), f"one of {', '.join(splits)}", "set --dataset_train_split")]
        )
    missing = {"problem", "solution"} - set(splits[split].column_names)
    if missing:
        got = ", ".join(splits[split].column_names)
        raise DataError(
            [Problem(f"{name}[{split}]", "columns", got, "problem, solution, image or images", "rename them")]
        )
    return HubRecords(splits[split], name, split, method)
