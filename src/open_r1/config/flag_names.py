"""Answers names that are no flags here: of older releases, of other projects, mistyped, or in another's sections."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from open_r1.config.other_projects.projects import SECTIONS, answer_to
from open_r1.config.validation import IDLE

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
OVERRIDE = re.compile(r"[+~]{0,2}([A-Za-z_]\w*(?:\.\w+)+)=(.*)", re.DOTALL)  # verl's and EasyR1's section.key=value
FLAG = re.compile(r"--(\w+)")


@dataclass(frozen=True)
class KnownFlags:
    """The `flags` of a script, and `remedies` for names that it refuses: old ones, and those without meaning in it."""

    flags: frozenset[str]
    remedies: Mapping[str, str]

    def accepts(self, name: str) -> bool:
        return name in self.flags

    def complaint(self, place: str, name: str, value: str = "") -> str:
        """One sentence about a name at `place` that is no flag here, given with a value."""
        if name in self.remedies:
            return f"{place}: {self.remedies[name]}"
        if (found := answer_to(name)) is not None:
            project, answer = found
            return f"{place}: a name of {project}; {self.translated(answer, value)}"
        near = difflib.get_close_matches(name, sorted(self.flags - set(IDLE)), n=1, cutoff=0.5)
        return f"{place}: unknown flag" + (f"; did you mean --{near[0]}?" if near else "; see --help")

    def translated(self, answer: str, value: str) -> str:
        """An answer of another project's table in this script's words; a flag alone takes the user's value."""
        named = FLAG.findall(answer)
        if answer.startswith("--") and not any(map(self.accepts, named)):
            return f"here it is {answer}, and this script has no --{named[0]}; remove it"
        if re.fullmatch(FLAG, answer) and value:
            return f"use {answer} {value}"
        return f"use {answer}" if answer.startswith("--") else answer

    def nested(self, place: str, path: Sequence[str], value: str) -> str:
        """One sentence about a key in sections, such as `worker.rollout.n`; keys here are flat."""
        name, last = ".".join(path), path[-1]
        if answer_to(name) is not None or name in self.remedies:
            return self.complaint(place, name, value)
        if self.accepts(last):
            return (
                f"{place}: flags have no sections here; write {last}: {value} at a line's start, or --{last} {value}"
            )
        if last in self.remedies or answer_to(last) is not None:
            return self.complaint(place, last, value)
        if path[0] in SECTIONS:
            return f"{place}: a name of another project without counterpart here; remove it"
        return f"{self.complaint(place, last)}; flags have no sections here"


def flag_names(argv: Sequence[str]) -> list[str]:
    """Names of the flags on a command line, dashes as underscores.

    >>> flag_names(["--lora-r", "8", "--bf16=true", "x"])
    ['lora_r', 'bf16']
    """
    return [name for name, _ in flags_and_values(argv)]


def flags_and_values(argv: Sequence[str]) -> list[tuple[str, str]]:
    """(name, words behind it as one text) of each flag on a command line.

    >>> flags_and_values(["--lora-r", "8", "--reward_funcs", "a", "b", "--bf16=true"])
    [('lora_r', '8'), ('reward_funcs', 'a b'), ('bf16', 'true')]
    """
    found: list[tuple[str, str]] = []
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            name, _, value = word[2:].partition("=")
            found.append((name.replace("-", "_"), value))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {word}".strip())
    return found


def unknown_flags(argv: Sequence[str], known: KnownFlags) -> list[str]:
    """A complaint about each flag of a command line that does not exist here."""
    allowed = known.flags | {"config", "help"} | {f"no_{name}" for name in known.flags}
    given = [(name, value) for name, value in flags_and_values(argv) if name not in allowed]
    return [
        known.nested(f"--{name}", name.split("."), value) if "." in name else known.complaint(f"--{name}", name, value)
        for name, value in given
    ]


def overrides(argv: Sequence[str], known: KnownFlags) -> list[str]:
    """A complaint about each word `section.key=value`, as verl and EasyR1 take them."""
    matches = [match for word in argv if not word.startswith("--") and (match := OVERRIDE.fullmatch(word))]
    sections = [(match[1].split("."), match[2]) for match in matches]
    return [known.nested(".".join(path), path, value) for path, value in sections if path[0] in SECTIONS]
