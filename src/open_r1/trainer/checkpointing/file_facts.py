"""Fingerprints of the files that shape a run: DeepSpeed's, rewards with what they import, processor, model, template.

Small files are hashed whole. Of weights the header and a few bytes of each tensor are read: training or merging moves
them all, and a model of 3B takes far less than a second.
"""

import ast
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin
from transformers.utils import cached_file

from open_r1.config.model_arguments import VLMConfig
from open_r1.models.lora import adapter_config
from open_r1.rewards.custom import user_file

# Settings that a file holds and that act on nothing, or that a call leaves in a tokenizer.
TRANSIENT = {"padding", "truncation", "name_or_path", "_name_or_path", "transformers_version"}
WHOLE_UP_TO = 64 << 20  # bytes; larger files of weights are sampled
SAMPLE = 256  # bytes read in the middle of each tensor
SLICES = 4096  # of a large file that is no safetensors


def deepspeed_facts(config: str | dict[str, Any] | None) -> dict[str, Any]:
    """`--deepspeed section.key` -> value, of every setting in the file.

    >>> deepspeed_facts({"zero_optimization": {"stage": 3}})
    {'--deepspeed zero_optimization.stage': 3}
    """
    settings = config if isinstance(config, dict) else json.loads(Path(config).read_text()) if config else {}

    def flat(section: dict[str, Any], place: str) -> Iterable[tuple[str, Any]]:
        for key, value in section.items():
            yield from flat(value, f"{place}{key}.") if isinstance(value, dict) else [(f"{place}{key}", value)]

    return {f"--deepspeed {name}": value for name, value in flat(settings, "")}


# ------------------------------------------------------------------------------------------------------------- rewards


def reward_facts(names: Iterable[str]) -> dict[str, str]:
    """sha256 of the file of each of the user's own rewards or tasks, and of files beside it that it imports."""
    paths = [file for path, _ in map(user_file, names) if path for file in imported_files(Path(path))]
    return {f"sha256 of {path}": file_hash(path) for path in dict.fromkeys(paths)}


def imported_files(path: Path, known: frozenset[Path] = frozenset()) -> list[Path]:
    """A Python file and, at any depth, the modules and packages in its folder that it imports."""
    found = [path]
    for name in imported_names(path):
        place = path.parent.joinpath(*name.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file() and file not in known.union(found):
                found += imported_files(file, known.union(found))
    return list(dict.fromkeys(found))


def imported_names(path: Path) -> Iterator[str]:
    """The dotted names in the import statements of a Python file, also of what may be modules of a package.

    A file that is no Python, which cannot be imported, has none.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module] if node.module else []
            yield from (f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names)


# ------------------------------------------------------------------------------------------------- processor, template


def processor_facts(processor: ProcessorMixin) -> dict[str, str]:
    """sha256 of each file that `save_pretrained` writes: tokenizer, chat template, sizes of pictures."""
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {f"sha256 of the processor's {path.name}": file_hash(path) for path in files}


def template_facts(path: str | None) -> dict[str, str]:
    """sha256 of the file of `--chat_template_path`, which SFT has."""
    file = Path(path or "")
    return {"sha256 of the processor's --chat_template_path": file_hash(file)} if file.is_file() else {}


def file_hash(path: Path) -> str:
    """sha256 of a file; of JSON without order, spaces and `TRANSIENT` settings."""
    data = path.read_bytes()
    if path.suffix == ".json":
        value = json.loads(data)
        kept = {k: v for k, v in value.items() if k not in TRANSIENT} if isinstance(value, dict) else value
        data = json.dumps(kept, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


# --------------------------------------------------------------------------------------------------------------- model


def model_facts(model_args: VLMConfig, beta: float) -> dict[str, str]:
    """Fingerprints of the model that the run began with: its configuration; its weights where they shape a resumed
    run too, as the base of an adapter or as the reference of `--beta`."""
    name, revision = model_args.model_name_or_path, model_args.model_revision
    adapter = adapter_config(name, revision)
    places = [(name, revision)]
    if adapter:
        places.append((adapter["base_model_name_or_path"], adapter.get("revision")))
    needed = bool(adapter or model_args.use_peft or beta)
    return {
        f"{what} of the {'base ' * number}model": value
        for number, (place, version) in enumerate(places)
        for what, value in facts_of_model(place, version, needed)
    }


def facts_of_model(name: str, revision: str | None, weights: bool) -> Iterator[tuple[str, str]]:
    """(what, fingerprint) of a folder's files, or the commit of a model of the hub."""
    folder = Path(name)
    if not folder.is_dir():
        path = cached_file(name, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
        if path:
            yield "commit", Path(path).parent.name
        return
    if (folder / "config.json").is_file():
        yield "sha256 of config.json", file_hash(folder / "config.json")
    if weights:
        yield "sha256 of sampled weights", weights_hash(folder)


def weights_hash(folder: Path) -> str:
    """sha256 of name, size, header and sampled bytes of each file of weights in a folder."""
    hashed = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin")):
        hashed.update(f"{path.name} {path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            for start, length in sampled_places(path):
                hashed.update(os.pread(file.fileno(), length, start))
    return hashed.hexdigest()


def sampled_places(path: Path) -> list[tuple[int, int]]:
    """(offset, length) in bytes of what is read of a file: all of a small one, else its header and of each tensor."""
    size = path.stat().st_size
    if size <= WHOLE_UP_TO:
        return [(0, size)]
    if path.suffix != ".safetensors":
        return [(size * number // SLICES, SAMPLE) for number in range(SLICES)]
    with open(path, "rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(begin - 8))
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    return [(0, begin), *((begin + (start + end) // 2, min(SAMPLE, end - start)) for start, end in spans)]
