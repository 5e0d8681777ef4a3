"""Write the tables of assets/docs/flags.md from the dataclasses that define them.

python local_scripts/dev/readme/flags_table.py            # rewrites the page between its markers
python local_scripts/dev/readme/flags_table.py --check    # exit status 1 when the page is not up to date
"""

import re
from dataclasses import MISSING, Field, fields

from readme_sections import Section
from trl import GRPOConfig

from open_r1.config.idle_flags import SOFT, UNCLIPPED
from open_r1.config.loss_types import LOSS_TYPES
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import HubArguments, JsonlArguments, TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.validation import IDLE
from open_r1.redaction import TOKEN_FLAGS

HIDDEN = {"trust_remote_code", *IDLE}  # the first is in both TRL dataclasses, and listed once; the others are refused


def help_text(field: Field) -> str:
    """First sentence of a flag's help, on one line, safe in a Markdown table."""
    text = " ".join(str(field.metadata.get("help", "")).replace("%%", "%").split())
    first = re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(";")
    return first.replace("|", "\\|").replace("<", "&lt;")


def default(field: Field) -> str:
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return "required" if value is MISSING else f"`{getattr(value, 'value', value)}`"


def rows(chosen: list[Field]) -> list[str]:
    return [
        f"| `--{f.name}` | {default(f)} | {help_text(f)} |" for f in chosen if f.init and not f.name.startswith("_")
    ]


def table(title: str, chosen: list[Field], folded: bool) -> str:
    body = "\n".join(["| flag | default | what it does |", "|---|---|---|", *rows(chosen)])
    if folded:
        return f"<details><summary>{title} ({len(chosen)})</summary>\n\n{body}\n\n</details>\n"
    return f"**{title}**\n\n{body}\n"


def own(cls: type, parent: type) -> list[Field]:
    """Fields that `cls` adds to `parent` or gives another default."""
    theirs = {f.name: f.default for f in fields(parent)}
    return [f for f in fields(cls) if f.name not in theirs or f.default != theirs[f.name]]


def loss_types() -> str:
    """The defaults that each loss type brings."""
    head = [
        "| `--loss_type` | by | `--epsilon` | `--epsilon_high` | `--scale_rewards` | source |",
        "|---|---|---|---|---|---|",
    ]
    lines = []
    for (name, level), loss in LOSS_TYPES.items():
        low, high = loss.epsilon, loss.epsilon if loss.epsilon_high is None else loss.epsilon_high
        clip = f"{low if name not in UNCLIPPED else '–'} | {high if name not in SOFT else '–'}"
        lines.append(f"| `{name}` | {level} | {clip} | `{loss.scale_rewards}` | {loss.source} |")
    return "\n".join(["**What a loss type brings where these flags are left out**", "", *head, *lines, ""])


def tables() -> str:
    base = {f.name for f in fields(GRPOConfig.__mro__[1])}
    grpo = [f for f in fields(GRPOArguments) if f.name not in base]
    training = [f for f in fields(GRPOArguments) if f.name in base and f.name not in TOKEN_FLAGS]
    return "\n".join(
        [
            table("Task, rewards and images (all scripts)", list(fields(TaskArguments)), folded=False),
            table("Data of grpo_jsonl.py and grpo_rec.py", own(JsonlArguments, TaskArguments), folded=False),
            table("Data of grpo.py", own(HubArguments, TaskArguments), folded=False),
            table("Model and LoRA", [f for f in fields(VLMConfig) if f.name not in HIDDEN], folded=True),
            table("GRPO (TRL 1.16)", grpo, folded=True),
            loss_types(),
            table("Training (transformers 5.17)", training, folded=True),
        ]
    )


if __name__ == "__main__":
    Section("flags", "assets/docs/flags.md", "local_scripts/dev/readme/flags_table.py", tables).run(__doc__)
