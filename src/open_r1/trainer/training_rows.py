"""The rows of a run, from its flags: those that it trains on, and those that it holds out."""

from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.field_names import renaming_of
from open_r1.data.hub_dataset import load_hub_records
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.tasks.find import find_task


def jsonl_rows(data: JsonlArguments, training: GRPOArguments) -> tuple[RecordDataset, RecordDataset | None]:
    """(training rows, held-out rows or None) of JSONL and parquet files. Raises DataError with all their problems."""
    records = load_records(
        data.data_file_paths,
        data.image_folders,
        reward_methods=data.reward_method or find_task(data.task_type).method,
        renaming=renaming_of(data.fields),
    )
    seed = training.seed if training.data_seed is None else training.data_seed
    return records.split(data.val_split_ratio, seed) if data.val_split_ratio else (records, None)


def hub_split(data: HubArguments, split: str) -> RecordDataset:
    """The rows of a split. Raises DataError with every problem of them, UsageError for what cannot be read."""
    method, renaming = data.reward_method or find_task(data.task_type).method, renaming_of(data.columns, "--columns")
    return load_hub_records(data.dataset_name, data.dataset_config, split, method, renaming, data.image_folders)


def training_rows(data: JsonlArguments | HubArguments, training: GRPOArguments) -> RecordDataset:
    """The rows that a run of either script trains on. Raises as `jsonl_rows` and `hub_split`."""
    if isinstance(data, HubArguments):
        return hub_split(data, data.dataset_train_split)
    return jsonl_rows(data, training)[0]
