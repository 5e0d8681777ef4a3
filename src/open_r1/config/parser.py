"""Parses a command line and `--config FILE.yaml` (the command line wins) into arguments that are checked to act.

Every accepted flag acts. A flag of older projects that has no counterpart is answered with what replaced it; an
unknown flag or YAML key ends the program with status 2, its place, and the nearest known name.
"""

import argparse
import difflib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import yaml
from trl import TrlParser

from open_r1.config.arguments import GRPOArguments, JsonlArguments, VLMConfig
from open_r1.config.hardware import prepare
from open_r1.config.idle_flags import REFUSED_GRPO_FLAGS, refuse_idle_flags
from open_r1.config.validation import IDLE, check_choices, check_values
from open_r1.errors import last_words
from open_r1.redaction import TOKEN_FLAGS, holds_secret

# Flags that users of R1-V, VLM-R1, multimodal open-r1, TRL < 1 and transformers < 5 type -> what to type here.
RETIRED: dict[str, str] = {
    "overwrite_output_dir": "remove it: a run never deletes a folder; a new one moves the logs of an earlier one "
    "in --output_dir to earlier/N, and --resume_from_checkpoint true continues it",
    "logging_dir": "remove it: curves and metrics.jsonl go to --output_dir; a tracker is chosen by --report_to",
    "vllm_device": "use --use_vllm true --vllm_mode colocate (or server) and CUDA_VISIBLE_DEVICES",
    "vllm_max_model_len": "use --vllm_max_model_length",
    "is_reward_customized_from_vlm_module": "remove it: --task_type chooses prompt and rewards, --reward_method the "
    "accuracy method",
    "torch_dtype": "use --dtype",
    "evaluation_strategy": "use --eval_strategy",
    "no_cuda": "use --use_cpu true",
    "tokenizer_name_or_path": "remove it: the processor is loaded from --model_name_or_path",
}
# The same flag can be real in one script and without meaning in another.
RETIRED_WITH_JSONL = {
    "dataset_name": "remove it: this script reads --data_file_paths and --image_folders; grpo.py reads --dataset_name",
}

Parsed = TypeVar("Parsed")


def parse(data_class: type[Parsed], argv: Sequence[str] | None = None) -> tuple[Parsed, GRPOArguments, VLMConfig]:
    """Parse flags and YAML into (data and task, training, model) arguments, fitted to this machine. Exits with
    status 2 on what cannot act."""
    return parse_classes((data_class, GRPOArguments, VLMConfig), check_values, argv, REFUSED_GRPO_FLAGS)


def parse_classes(
    classes: tuple[type, ...],
    check: Callable[[Any, Any, VLMConfig, set[str]], None],
    argv: Sequence[str] | None,
    refused: Mapping[str, str],
) -> tuple[Any, ...]:
    """Parse flags and YAML into `classes` (data, training, model), `check` them and fit them to this machine.

    `refused`: flags without meaning in this script -> why. Exits with status 2 on what cannot act.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = TrlParser(
        classes,
        allow_abbrev=False,
        conflict_handler="resolve",
        usage="%(prog)s --flag value ... [--config file.yaml]   (--help lists all flags)",
    )
    hide_flags(parser, {*refused, *TOKEN_FLAGS, *IDLE})
    flags = {f.name for cls in classes for f in fields(cls)} - set(refused) - set(TOKEN_FLAGS)
    retired = RETIRED | (RETIRED_WITH_JSONL if issubclass(classes[0], JsonlArguments) else {})
    remedies = {name: f"no longer a flag; {why}" for name, why in retired.items()} | refused
    remedies |= {name: f"no flag takes a secret; {where}" for name, where in TOKEN_FLAGS.items()}
    complaints = unknown_flags(argv, flags, remedies) + unknown_keys(argv, flags, remedies) + secret_addresses(argv)
    if complaints:
        parser.exit(2, last_words("\n".join(complaints) + "\n"))
    try:
        *parsed, stray_words = parser.parse_args_and_config(argv, return_remaining_strings=True)
        refuse_stray(stray_words)
        check_choices(parsed)
        refuse_idle_flags(parsed, set(flag_names(argv)))
        check(*parsed, typed=set(flag_names(argv)))
        prepare(parsed[1])
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, last_words(f"{error}\n"))
    return tuple(parsed)


def refuse_stray(words: Sequence[str]) -> None:
    """Raises ValueError for words of a command line that belong to no flag."""
    if words:
        raise ValueError(
            f"{' '.join(map(repr, words))}: got words that belong to no flag, expected --flag value; remove them, or "
            "put quotes around a value with spaces"
        )


def hide_flags(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Leave flags out of --help that TRL's or transformers' dataclasses have and this project refuses."""
    for action in parser._actions:
        if action.dest in names:
            action.help = argparse.SUPPRESS


def flag_names(argv: Sequence[str]) -> list[str]:
    """Names of the flags on a command line, dashes as underscores.

    >>> flag_names(["--lora-r", "8", "--bf16=true", "x"])
    ['lora_r', 'bf16']
    """
    return [a[2:].split("=")[0].replace("-", "_") for a in argv if a.startswith("--") and len(a) > 2]


def secret_addresses(argv: Sequence[str]) -> list[str]:
    """A complaint about each word that is an address with a secret in it; the secret is not repeated.

    >>> secret_addresses(["--vllm_server_base_url", "http://me:pw@host:8000"])[0][:75]
    '--vllm_server_base_url: got an address with a user, password or token in it'
    """
    pairs = [(word.split("=")[0] if word.startswith("--") else flag, word) for flag, word in pairwise(["", *argv])]
    return [secret_address(place) for place, word in pairs if holds_secret(word)]


def secret_address(place: str) -> str:
    """The complaint about an address with a secret in it, without the secret."""
    return (
        f"{place}: got an address with a user, password or token in it, expected one without: flags are seen by every "
        "user of the machine and written down; a server's user and password may stand in ~/.netrc"
    )


def unknown_flags(argv: Sequence[str], flags: set[str], remedies: Mapping[str, str]) -> list[str]:
    """A complaint about each flag of a command line that does not exist here."""
    allowed = flags | {"config", "help"} | {f"no_{name}" for name in flags}
    return [unknown_name(f"--{n}", n, flags, remedies) for n in flag_names(argv) if n not in allowed]


def unknown_keys(argv: Sequence[str], flags: set[str], remedies: Mapping[str, str]) -> list[str]:
    """Complaints about the keys of the `--config` file, and addresses with secrets in it, each with its line."""
    if "--config" not in argv:
        return []
    path = Path(argv[list(argv).index("--config") + 1])
    if not path.is_file():
        return [f"--config: got {path}, expected a YAML file; correct the path"]
    root = yaml.compose(path.read_text(encoding="utf-8"))
    if not isinstance(root, yaml.MappingNode):
        return [f"{path}:1: got {type(root).__name__}, expected `flag: value` lines"]
    lines = [(key.value, f"{path}:{key.start_mark.line + 1}: {key.value}", value) for key, value in root.value]
    unknown = [unknown_name(place, key, flags, remedies) for key, place, _ in lines if key not in flags | {"env"}]
    return unknown + [secret_address(place) for key, place, value in lines if key != "env" and secrets_in(value)]


def secrets_in(node: yaml.Node) -> bool:
    """Whether a YAML node holds, at any depth, an address with a secret in it."""
    if isinstance(node, yaml.ScalarNode):
        return holds_secret(node.value)
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    return any(map(secrets_in, parts))


def unknown_name(place: str, name: str, flags: set[str], remedies: Mapping[str, str]) -> str:
    """One sentence about a flag that does not exist here."""
    if name in remedies:
        return f"{place}: {remedies[name]}"
    near = difflib.get_close_matches(name, sorted(flags - set(IDLE)), n=1, cutoff=0.5)
    return f"{place}: unknown flag" + (f"; did you mean --{near[0]}?" if near else "; see --help")
