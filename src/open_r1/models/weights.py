"""Refuses weights that are not the model's, by name, before they are loaded: missing, misshapen, unexpected, NaN.

transformers (5.17) makes missing weights up from random numbers, ignores unexpected ones, and under ZeRO-3 looks at
neither; vLLM says less. Here the checkpoint is loaded onto torch's `meta` device first, which costs no memory: names
are converted and ignored by transformers' own lists, and tied weights are none of the missing. Then each tensor of the
files is read for NaN and infinity, ranks taking turns. Together 0.4 s a GB that the disk's cache holds, on one core.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import cached_file
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from open_r1.config.remote_code import remote_code_errors
from open_r1.errors import UsageError
from open_r1.models.configuration import empty_model, one_line, read_config, without_zero3

SHOWN = 3  # names of tensors in a message
MODEL_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
RESTORE = "download or copy the model again"


def refuse_wrong_weights(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """The plain model `name` on the `meta` device, its configuration and weights found whole; no weight is kept.

    Raises UsageError, which names the first tensors and their number, for those that are missing, of another shape,
    unexpected, not finite, or in a file that cannot be read.
    """
    config = read_config(name, revision, trust_remote_code)
    empty_model(config, name, trust_remote_code)  # its errors are about the configuration alone
    try:
        with remote_code_errors(name), quietly(), without_zero3():
            model, info = AutoModelForImageTextToText.from_pretrained(
                name,
                revision=revision,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=trust_remote_code,
            )
    except UsageError:
        raise
    except Exception as error:  # damaged files raise errors of every kind
        raise UsageError(f"{name}: its weights cannot be read: {one_line(error)}; {RESTORE}") from error
    shapes = {
        key: f"{key} {tuple(got)} in place of {tuple(expected)}" for key, got, expected in info["mismatched_keys"]
    }
    refuse_names(name, info["missing_keys"], shapes.values(), info["unexpected_keys"])
    refuse_nonfinite(name, files_of_weights(name, MODEL_FILES, revision))
    return model


def refuse_names(name: str, missing: Iterable[str], shapes: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raises UsageError for tensors that a model or adapter lacks, has in other shapes, or has too many."""
    kinds = {
        "lacks": (missing, "they would be random numbers"),
        "has in another shape than config.json says": (shapes, "they would be random numbers"),
        "has without a place for them": (unexpected, "they would be ignored"),
    }
    found = [f"{kind} {listed(names)}: {so}" for kind, (tensors, so) in kinds.items() if (names := list(tensors))]
    if found:
        raise UsageError(f"{name}: {'; it '.join(found)}; {RESTORE}, or correct its configuration")


def listed(names: Iterable[str]) -> str:
    """The number of tensors and the first names in order.

    >>> listed(["b", "a", "d", "c"])
    '4 tensors (a, b, c, ...)'
    """
    names = sorted(names)
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''} ({shown})"


def refuse_nonfinite(name: str, files: Iterable[Path]) -> None:
    """Raises UsageError, on all ranks, for tensors in these files that hold NaN or infinity."""
    rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if in_group() else (0, 1)
    wrong: list[str] = []
    for file in files:
        try:
            wrong += [
                f"{key} in {file.name}" for key, tensor in tensors_of(file, rank, ranks) if not is_finite(tensor)
            ]
        except Exception as error:
            wrong.append(f"{file.name}, which cannot be read: {one_line(error)}")
    if ranks > 1:
        parts: list[Any] = [None] * ranks
        torch.distributed.all_gather_object(parts, wrong)
        wrong = [text for part in parts for text in part]
    if wrong:
        raise UsageError(f"{name}: NaN or infinity in {listed(wrong)}: nothing can be computed with them; {RESTORE}")


def in_group() -> bool:
    """Whether this process is one of several that talk to each other."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers of a tensor are finite: by its smallest and largest, which a NaN becomes."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    tensor = tensor.float() if tensor.element_size() == 1 else tensor  # eight bits have no order in torch
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor)).float()).all())


def tensors_of(file: Path, rank: int = 0, ranks: int = 1) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of every `ranks`-th tensor of a file, from the `rank`-th; one is in memory at a time."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as stored:
            for name in sorted(stored.keys())[rank::ranks]:
                yield name, stored.get_tensor(name)
        return
    stored = torch.load(file, map_location="cpu", mmap=is_zipfile(file), weights_only=True)  # else of torch before 1.6
    yield from [(name, stored[name]) for name in sorted(stored)][rank::ranks]


def files_of_weights(name: str, names: Iterable[str], revision: str | None = None) -> list[Path]:
    """The files of weights, of which transformers reads the first of `names` that is there, or its index's shards."""
    options = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    found = next((path for file in names if (path := cached_file(name, file, **options))), None)
    if found is None or not found.endswith(".json"):
        return [] if found is None else [Path(found)]
    shards = sorted(set(json.loads(Path(found).read_text(encoding="utf-8"))["weight_map"].values()))
    return [Path(cached_file(name, shard, revision=revision)) for shard in shards]


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' progress bar and its report, whose content becomes a message here."""
    log, bar = logging.getLogger("transformers.modeling_utils"), is_progress_bar_enabled()
    disabled, log.disabled = log.disabled, True
    disable_progress_bar()
    try:
        yield
    finally:
        log.disabled = disabled
        if bar:
            enable_progress_bar()
