"""Reads what `grpo.py --dataset_name` names as rows: a hub dataset, a folder of one, or a file.

A dataset is unpacked once (`unpacking`), so that what follows sees lines and picture files, as of JSONL files. A row
may name a picture's file, but only one below the image folder, by default the dataset's own folder, or within what
`datasets` and the hub's client have downloaded.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
from datasets import Dataset, DatasetDict, config, load_dataset, load_from_disk
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from open_r1.data.data_source import JsonlFile, index_table, reading_bar
from open_r1.data.field_names import Renaming
from open_r1.data.jsonl_dataset import RecordDataset, dataset_of, default_cache_dir, load_records
from open_r1.data.model_place import HUB_NAME, HUB_SECONDS
from open_r1.data.tables.rows import Table, rows_at_once
from open_r1.errors import DataError, UsageError, data_error, nearest_hint, shorten

AS_COLUMNS = Renaming(flag="--columns")
ADVICE = ("correct the name, or download it where the hub can be asked", "mend that, or name one of its files")
FILE_ENDINGS = {"parquet", "jsonl", "json", "csv", "tsv", "arrow", "zip", "txt"}
ROW_ENDINGS = {"parquet", "jsonl", "csv", "tsv", "arrow"}  # of files that hold rows and nothing else


def load_hub_records(
    name: str,
    config_name: str | None,
    split: str,
    method: str | None,
    renaming: Renaming = AS_COLUMNS,
    image_folder: str | None = None,
) -> RecordDataset:
    """The rows of a split of a hub dataset, of a folder (of `save_to_disk`, or any that `load_dataset` reads), or of a
    parquet or JSONL file. `where` of a row is `name[split]:17`, counted from 1; of a file `name:17`.

    `image_folder`: below which rows name pictures. Raises DataError with every problem
    of the rows, UsageError for what cannot be read.
    """
    path = Path(name)
    folder = image_folder or (str(path) if path.is_dir() else str(path.parent) if path.is_file() else None)
    if path.is_file():
        refuse_parts_of_file(name, config_name, split)
        return load_records([name], [folder], reward_methods=method and [method], renaming=renaming)
    dataset = split_of(name, config_name, split)
    source = JsonlFile(f"{name}[{split}]", folder, method)
    with reading_bar() as bar:
        part = index_table(source, hub_table(dataset, source.path), renaming, default_cache_dir(), bar, downloads())
    data, problems = dataset_of([part])
    if problems:
        raise DataError(problems)
    return data


def refuse_parts_of_file(name: str, config_name: str | None, split: str) -> None:
    """Raises UsageError for a configuration or another split of a file, which has neither."""
    for flag, value in (("--dataset_config", config_name), ("split", None if split == "train" else split)):
        if value is not None:
            raise UsageError(
                f"{flag}: got {value!r} of the file {name}, which is all one split, train; put files into a folder as "
                "train.jsonl and test.jsonl, and name the folder"
            )


def split_of(name: str, config_name: str | None, split: str) -> Dataset:
    """A split of a dataset. Raises UsageError where it cannot be loaded, DataError where it has no such split."""
    refuse_missing_path(name)
    refuse_silent_hub(name)
    folder = Path(name)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    if not saved:
        refuse_files_of_two_kinds(folder)
    try:
        loaded = load_from_disk(name) if saved else load_dataset(name, config_name)
    except Exception as error:  # of many types: no such dataset, no network, a broken file, columns that differ
        reason = error.__cause__ or error
        got = f"{type(reason).__name__}: {shorten(str(reason), 300)}"
        advice = ADVICE[folder.is_dir()]
        raise UsageError(f"--dataset_name: got {name}, which `datasets` cannot load ({got}); {advice}") from error
    splits = loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
    if split not in splits:
        flags = "set --dataset_train_split or --dataset_test_split"
        raise data_error(name, "split", repr(split), f"one of {', '.join(splits)}", flags)
    return splits[split]


def refuse_missing_path(name: str) -> None:
    """Raises UsageError for a path that does not exist, without asking the hub for it."""
    path = Path(name).expanduser()
    if path.exists():
        return
    folder = path.parent
    if HUB_NAME.fullmatch(name) and not (folder.is_dir() and folder != Path()) and path.suffix[1:] not in FILE_ENDINGS:
        return
    near = {str(folder / entry.name): None for entry in folder.iterdir()} if folder.is_dir() else {}
    hint = nearest_hint(name, near) if near else f"there is no folder {folder} either"
    raise UsageError(f"--dataset_name: got {name}, expected a file or folder that exists, or OWNER/NAME; {hint}")


def refuse_files_of_two_kinds(folder: Path) -> None:
    """Raises UsageError for a folder with rows in files of two kinds: `load_dataset` would read one kind alone, unless
    its README says which files there are."""
    readme = folder / "README.md"
    if readme.is_file() and "configs:" in readme.read_text(encoding="utf-8", errors="replace"):
        return
    rows = [path for path in folder.rglob("*.*") if path.suffix[1:] in ROW_ENDINGS and path.stem != "metadata"]
    first = {path.suffix: str(path.relative_to(folder)) for path in sorted(rows, reverse=True)}
    if len(first) > 1:
        files = ", ".join(sorted(first.values()))
        raise UsageError(
            f"--dataset_name: got {folder}, a folder with rows of {len(first)} kinds ({files}), of which `datasets` "
            "would read one; name one file, or give all to grpo_jsonl.py --data_file_paths"
        )


def refuse_silent_hub(name: str) -> None:
    """Raises UsageError for a dataset that the hub has not, or where the hub cannot be reached: `datasets` would try
    for minutes."""
    if Path(name).exists() or constants.is_offline_mode():
        return
    try:
        HfApi().dataset_info(name, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        raise UsageError(
            f"--dataset_name: got {name}, which is no folder or file, and the hub has no such dataset, or shows it to "
            "others only (hf auth login); correct the name"
        ) from None
    except HfHubHTTPError:
        return  # it answered: loading says more
    except httpx.HTTPError as error:
        raise UsageError(
            f"--dataset_name: got {name}, which is no folder or file, and the hub cannot be reached "
            f"({type(error).__name__}); correct the name, or set HF_HUB_OFFLINE=1 for what `datasets` has in its cache"
        ) from error


def hub_table(dataset: Dataset, where: str) -> Table:
    """The table of a dataset, with its pictures and videos as bytes or paths, which `datasets` does not decode."""
    arrow = dataset.with_format("arrow")

    def batches() -> Iterator[pa.RecordBatch]:
        for table in arrow.iter(rows_at_once(len(dataset), dataset.data.nbytes)):
            yield from table.to_batches()

    return Table(where, dataset._fingerprint, dataset.features.arrow_schema, len(dataset), batches)


def downloads() -> list[str]:
    """Folders of what `datasets` and the hub's client have downloaded."""
    folders = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    return [str(Path(folder).absolute()) for folder in folders]
