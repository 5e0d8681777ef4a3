"""Reads a `datasets` dataset (columns image or images, problem, solution) as `Record`s like those of a JSONL file.

Pictures inside the dataset are written to a cache folder when their row is first used, so that every later step sees
files below one folder: the same limits, one decoding for each image. A row may also name a file, but only one inside
the dataset's own folder or inside what `datasets` has downloaded.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Image, List, config, load_dataset, load_from_disk
from huggingface_hub.constants import HF_HUB_CACHE

from open_r1.data.jsonl_dataset import default_cache_dir
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.paths import ImageFolder
from open_r1.data.record import Record, parse_row
from open_r1.errors import DataError, Problem, data_error, shorten

ROWS_AT_ONCE = 1000  # rows whose image column is read together


class HubRecords(Sequence[Record]):
    """Row i of the dataset as a Record; `where` is `name[split]:i`. All texts are checked at construction.

    Raises DataError with every problem of the text columns.
    """

    def __init__(self, dataset: Dataset, name: str, split: str, method: str | None):
        self.where, self.method = f"{name}[{split}]", method
        self.column = next((c for c in ("images", "image") if c in dataset.column_names), None)
        self.dataset = undecoded(dataset, self.column) if self.column else dataset
        self.folder = default_cache_dir() / "hub_images" / dataset._fingerprint
        self.counts = image_counts(self.dataset, self.column)
        self.roots = roots(name)
        self._check()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record:
        row = self.dataset[index]
        pictures = row.pop(self.column) if self.column else None
        pictures = pictures if isinstance(pictures, list) else [pictures] if pictures else []
        names = [self._cached_image(picture, f"{index}_{k}") for k, picture in enumerate(pictures)]
        return self._record(row, index, names)

    def _record(self, row: dict[str, Any], index: int, names: list[str]) -> Record:
        fields = {key: value for key, value in row.items() if value is not None or key in ("problem", "solution")}
        images = {"images": names} if names else {}
        return parse_row({**fields, **images}, f"{self.where}:{index}", index, str(self.folder), self.method)

    def _cached_image(self, picture: dict[str, Any], name: str) -> str:
        """Writes a picture to the cache folder, once; returns its name there."""
        path = self.folder / name
        if not path.exists():
            data = picture["bytes"]
            if data is None:
                data = Path(place_of(picture["path"], self.roots, self.where)).read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        return name

    def _check(self) -> None:
        """Raises DataError with every problem of the texts and of the named files; no picture is read."""
        problems: list[Problem] = []
        texts = self.dataset.remove_columns([self.column]) if self.column else self.dataset
        for index, path in files_named(self.dataset, self.column):
            try:
                place_of(path, self.roots, f"{self.where}:{index}")
            except DataError as error:
                problems += error.problems
        for index, row in enumerate(texts):
            try:
                self._record(row, index, [f"{index}_{k}" for k in range(self.counts[index])])
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError(problems)


def undecoded(dataset: Dataset, column: str) -> Dataset:
    """The dataset with images as bytes or paths: only `open_r1.data.images` decodes pixels."""
    many = isinstance(dataset.features[column], List)
    return dataset.cast_column(column, List(Image(decode=False)) if many else Image(decode=False))


def image_counts(dataset: Dataset, column: str | None) -> list[int]:
    """The number of images of each row; reads no image."""
    if column is None:
        return [0] * len(dataset)
    values = dataset.with_format("arrow")[column][:]
    if isinstance(dataset.features[column], List):
        return pc.fill_null(pc.list_value_length(values), 0).to_pylist()
    return [int(valid) for valid in pc.is_valid(values).to_pylist()]


def files_named(dataset: Dataset, column: str | None) -> Iterator[tuple[int, str]]:
    """(row, path) of each picture that is given as a file's path and not as bytes."""
    if column is None:
        return
    feature = dataset.features[column]
    names = dataset.with_format("arrow").select_columns([column])
    for start in range(0, len(names), ROWS_AT_ONCE):
        values = names[start : start + ROWS_AT_ONCE][column]
        rows = range(start, start + len(values))
        if isinstance(feature, List):
            rows = [rows[i] for i in pc.list_parent_indices(values.combine_chunks()).to_pylist()]
            values = pc.list_flatten(values)
        inside, paths = (pc.struct_field(values, name) for name in ("bytes", "path"))
        pictures = zip(rows, pc.is_valid(inside).to_pylist(), paths.to_pylist(), strict=True)
        yield from ((row, path) for row, is_inside, path in pictures if not is_inside and path is not None)


def roots(name: str) -> list[ImageFolder]:
    """Folders whose files a dataset may name: its own, or what `datasets` and the hub's client have downloaded."""
    folders = [config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, HF_HUB_CACHE]
    return [ImageFolder(str(Path(folder).absolute())) for folder in ([name] if Path(name).is_dir() else folders)]


def place_of(path: str, allowed: Sequence[ImageFolder], where: str) -> str:
    """The real path of a file that a row names. Raises DataError for one outside the allowed folders, a link that
    leads out of them, a pipe, a device or a URL."""
    for folder in allowed:
        for root in {folder.folder, folder.root}:
            if path.startswith(f"{root}/"):
                return folder.resolve(path.removeprefix(f"{root}/"), where)
    expected = f"a picture inside the dataset, or a file below {' or '.join(one.folder for one in allowed)}"
    remedy = "put the pictures into the dataset: Dataset.push_to_hub and to_parquet do so"
    raise data_error(where, "image", shorten(path), expected, remedy)


def load_hub_records(name: str, config: str | None, split: str, method: str | None) -> HubRecords:
    """A hub dataset, a folder written by `save_to_disk`, or any folder that `load_dataset` reads.

    Raises DataError where the split or the columns problem and solution are missing.
    """
    folder = Path(name)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    loaded = load_from_disk(name) if saved else load_dataset(name, config)
    splits = loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
    if split not in splits:
        raise data_error(name, "split", repr(split), f"one of {', '.join(splits)}", "set --dataset_train_split")
    missing = {"problem", "solution"} - set(splits[split].column_names)
    if missing:
        got = ", ".join(splits[split].column_names)
        raise data_error(f"{name}[{split}]", "columns", got, "problem, solution, image or images", "rename them")
    return HubRecords(splits[split], name, split, method)
