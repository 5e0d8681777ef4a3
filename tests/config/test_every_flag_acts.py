"""Every field of the argument classes is read by code that runs here, is refused, or is declared with a reason.

The fields are TRL's and transformers' as installed: one that a new release adds is found here. "Read" means that the
code of a trainer reads the attribute of the arguments (`args.name`, `training.name`, ...), not that its name stands
somewhere; the reads of `__post_init__` alone do not count, since most of them only check a value.
"""

import ast
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.repository import REPO

from open_r1.config.idle_flags import CONDITIONS, REFUSED_GRPO_FLAGS
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.parser import known_flags
from open_r1.config.sft_validation import REFUSED_SFT_FLAGS
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.config.training_arguments import GRPOArguments, SFTArguments
from open_r1.config.validation import IDLE
from open_r1.redaction import TOKEN_FLAGS

SCRIPTS = {"grpo": (GRPOArguments, REFUSED_GRPO_FLAGS), "sft": (SFTArguments, REFUSED_SFT_FLAGS)}
# Names under which code holds the arguments.
HOLDERS = {
    "args",
    "training",
    "training_args",
    "task",
    "data",
    "model",
    "model_args",
    "a",
    "config",
    "settings",
    "part",
}
BY_NAME = "read by getattr of its name: trainer/forward/optimizations.py looks all of its switches up"
# Flag -> where it acts, though no attribute of this name is read.
DECLARED = {
    "prefill_once": BY_NAME,
    "reuse_old_logps": BY_NAME,
    "reuse_vision_features": BY_NAME,
    "shared_prefix": BY_NAME,
    "skip_zero_advantages": BY_NAME,
    "tf32": "transformers' __post_init__ sets torch's backends by it",
    "local_rank": "never read; a Condition refuses it but of the deepspeed launcher, which always passes it",
    "vllm_importance_sampling_cap": "TRL's __post_init__ sets --vllm_importance_sampling_clip_max by it",
}


def holder(node: ast.expr) -> str:
    """The last name of an expression: "args" of `self.args`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def attributes_read(tree: ast.AST, holders: set[str]) -> Iterator[str]:
    """The attributes that code reads of what stands under one of these names, also by getattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and holder(node.value) in holders:
            yield node.attr
        if isinstance(node, ast.Call) and holder(node.func) == "getattr" and holder(node.args[0]) in holders:
            yield from (word.value for word in node.args[1:2] if isinstance(word, ast.Constant))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def files_that_run(script: str) -> list[Path]:
    """The files of TRL, transformers and this package whose code a run of this kind goes through."""
    trl, transformers = (Path(find_spec(name).origin).parent for name in ("trl", "transformers"))
    files = [trl / "trainer" / f"{name}.py" for name in (f"{script}_trainer", "base_trainer", "callbacks", "utils")]
    files += [*transformers.glob("trainer*.py"), *transformers.glob("integrations/*.py")]
    checks = {"arguments.py", "idle_flags.py", "batches.py", "validation.py", "sft_validation.py", "identity.py"}
    checks |= {"tool_flags.py", "environment_flags.py"}
    files += [path for path in (REPO / "src" / "open_r1").rglob("*.py") if path.name not in checks]
    return [path for path in files if path.is_file()]


@cache
def read_by(script: str) -> frozenset[str]:
    """The names of arguments that code reads, with the methods of TrainingArguments but for `__post_init__`."""
    found = {name for path in files_that_run(script) for name in attributes_read(tree_of(path), HOLDERS)}
    transformers = Path(find_spec("transformers").origin).parent
    for node in tree_of(transformers / "training_args.py").body:
        for method in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(method, ast.FunctionDef) and method.name != "__post_init__":
                found |= set(attributes_read(method, {"self"}))
    return frozenset(found)


def accepted(script: str) -> set[str]:
    """The flags that a script takes."""
    training, refused = SCRIPTS[script]
    data = (JsonlArguments, HubArguments) if script == "grpo" else (JsonlArguments,)
    return {f.name for cls in (*data, training, VLMConfig) for f in fields(cls)} - {*refused, *IDLE, *TOKEN_FLAGS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_that_a_script_takes_is_read_or_declared(script):
    assert sorted(accepted(script) - read_by(script) - set(DECLARED)) == []


def test_what_is_declared_is_taken_and_is_not_read_otherwise():
    assert set(DECLARED) <= accepted("grpo") | accepted("sft")
    assert set(DECLARED) & read_by("grpo") == set()  # else the declaration is out of date


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_field_that_nothing_reads_is_found(script, monkeypatch):
    """The walk itself can fail: a name that no code reads is reported."""
    assert "made_up_field_of_a_new_release" not in read_by(script)
    assert {"learning_rate", "beta" if script == "grpo" else "padding_free", "output_dir"} <= read_by(script)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_field_is_taken_or_refused_with_a_reason(script):
    training, refused = SCRIPTS[script]
    known = known_flags((JsonlArguments, training, VLMConfig), refused)
    for field in fields(training):
        assert known.accepts(field.name) or known.remedies[field.name], field.name


def test_conditions_are_about_flags_that_are_taken():
    assert {name for condition in CONDITIONS for name in condition.flags.split()} <= accepted("grpo") | accepted("sft")
