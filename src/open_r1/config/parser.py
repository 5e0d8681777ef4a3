"""Parses a command line and `--config FILE.yaml` (the command line wins) into arguments that are checked to act.

Every accepted flag acts. A name of an older release or of another project is answered with what to type here
(`flag_names`, `other_projects`); any other unknown flag or YAML key ends the program with status 2, its place, and the
nearest known name.
"""

import argparse
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any, TypeVar, get_type_hints

from trl import TrlParser

from open_r1.config.flag_names import (
    RETIRED,
    RETIRED_WITH_JSONL,
    KnownFlags,
    flag_names,
    overrides,
    unknown_flags,
)
from open_r1.config.hardware import prepare
from open_r1.config.idle_flags import REFUSED_GRPO_FLAGS, refuse_idle_flags
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.validation import IDLE, check_choices, check_values
from open_r1.config.yaml_file import config_path, file_complaints
from open_r1.errors import UsageError, last_words
from open_r1.redaction import TOKEN_FLAGS, holds_secret, secret_address

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
    known = known_flags(classes, refused)
    kinds = kinds_of(classes)  # before the parser changes fields' types
    try:
        argv, config = config_path(argv)
        complaints = unknown_flags(argv, known) + overrides(argv, known) + secret_addresses(argv)
        complaints += file_complaints(config, known, kinds) if config else []
        if complaints:
            raise UsageError("\n".join(complaints))
        *parsed, stray_words = parser.parse_args_and_config(argv, return_remaining_strings=True)
        refuse_stray(stray_words)
        check_choices(parsed)
        refuse_idle_flags(parsed, set(flag_names(argv)))
        check(*parsed, typed=set(flag_names(argv)))
        prepare(parsed[1])
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, last_words(f"{error}\n"))
    return tuple(parsed)


def kinds_of(classes: Sequence[type]) -> dict[str, object]:
    """Flag -> the type of its field."""
    return {name: kind for cls in classes for name, kind in get_type_hints(cls).items()}


def known_flags(classes: Sequence[type], refused: Mapping[str, str]) -> KnownFlags:
    """The flags of a script with these dataclasses, and its answers to names that it refuses."""
    flags = {f.name for cls in classes for f in fields(cls)} - set(refused) - set(TOKEN_FLAGS)
    retired = RETIRED | (RETIRED_WITH_JSONL if issubclass(classes[0], JsonlArguments) else {})
    remedies = {name: f"no longer a flag; {why}" for name, why in retired.items()} | refused
    remedies |= {name: f"no flag takes a secret; {where}" for name, where in TOKEN_FLAGS.items()}
    return KnownFlags(frozenset(flags), remedies)


def refuse_stray(words: Sequence[str]) -> None:
    """Raises ValueError for words of a command line that belong to no flag."""
    if words:
        pair = next((word.split("=", 1) for word in words if re.fullmatch(r"[a-z]\w*=\S+", word)), None)
        raise ValueError(
            f"{' '.join(map(repr, words))}: got words that belong to no flag, expected --flag value; "
            + (f"write --{pair[0]} {pair[1]}" if pair else "remove them, or put quotes around a value with spaces")
        )


def hide_flags(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Leave flags out of --help that TRL's or transformers' dataclasses have and this project refuses."""
    for action in parser._actions:
        if action.dest in names:
            action.help = argparse.SUPPRESS


def secret_addresses(argv: Sequence[str]) -> list[str]:
    """A complaint about each word that is an address with a secret in it; the secret is not repeated.

    >>> secret_addresses(["--vllm_server_base_url", "http://me:pw@host:8000"])[0][:75]
    '--vllm_server_base_url: got an address with a user, password or token in it'
    """
    pairs = [(word.split("=")[0] if word.startswith("--") else flag, word) for flag, word in pairwise(["", *argv])]
    return [secret_address(place) for place, word in pairs if holds_secret(word)]
