"""What acts for a model family: whether it trains, how its boxes are read, and by which source.

    python -m open_r1.families                     # the table; --markdown as a table of Markdown
    python -m open_r1.families output/checkpoint   # one model: what acts for it, and what falls back and why

A model is built from its configuration alone, without weights. A family that stands in no line trains by the same
rules: they look at a model's layers, its processor and its signature.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from inspect import signature

import transformers
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from open_r1.data.geometry.conventions import CONVENTIONS, convention_of
from open_r1.data.geometry.coordinates import SPACES
from open_r1.errors import UsageError
from open_r1.models.configuration import configuration_of, empty_model
from open_r1.models.model_parts import vision_parts
from open_r1.models.refusals import UPSTREAM, missing_package, why_untrainable
from open_r1.rollout.prompt_cache import why_no_prefill
from open_r1.rollout.video_form import AS_FRAMES, BROKEN
from open_r1.trainer.forward.shared_prefix import why_no_shared_prefix

TRIED_PARAMETERS = 300_000_000  # of a model that is made, with random weights, to try its layers
ALIASES = {"internvl_chat"}  # names that users type
COLUMNS = ("family", "trains", "videos", "box space", "a box as it writes one", "source")


@dataclass(frozen=True)
class FamilyRow:
    """A line of the table; `trains` is "yes" or the reason why not, `videos` the form in which they are shown."""

    family: str
    trains: str
    videos: str
    space: str
    form: str
    source: str


def family_rows() -> list[FamilyRow]:
    """A line of each family with a known box convention or a refusal of its own, by name."""
    return [row_of(family) for family in sorted(({*CONVENTIONS} - ALIASES) | {*UPSTREAM})]


def row_of(family: str) -> FamilyRow:
    """The line of a `config.model_type`."""
    known = convention_of(family)
    space = known.space or "--box_space says it"
    reason = why_untrained(family)
    return FamilyRow(
        family, reason or "yes", "" if reason else form_of_family(family), space, known.form, known.source
    )


def form_of_family(family: str) -> str:
    """How `--video_form auto` shows videos to a `config.model_type`, where its chat template writes them."""
    if family in AS_FRAMES:
        return "frames"
    kind = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(family.removesuffix("_thinker"), ""), None)
    takes = kind is not None and "video_processor" in signature(kind.__init__).parameters
    return "native" if takes and family not in BROKEN else "--video_form frames"


def why_untrained(family: str) -> str | None:
    """Why models of a family cannot be trained, by the configuration that transformers gives one by default."""
    if family in UPSTREAM:
        return UPSTREAM[family]
    try:
        return why_untrainable(AutoConfig.for_model(family))
    except ImportError:  # timm, which the configuration itself asks for
        return "needs a package that is not installed: pip install timm"


def what_acts(name: str) -> dict[str, str]:
    """What acts for a model folder or hub name. Raises UsageError where its configuration cannot be used."""
    config = configuration_of(name, remedy="this command runs none")
    reason, known = why_untrainable(config), convention_of(config.model_type)
    package = missing_package(config)
    place = "listed" if config.model_type in CONVENTIONS else "unlisted: the rules act"
    facts = {
        "family": f"{config.model_type}, {place}",
        "trains": reason or (f"needs {package}: pip install {package}" if package else "yes"),
        "videos": form_of_family(config.model_type),
        "boxes": f"{known.space}: {known.form} ({known.source})"
        if known.space
        else f"{known.form} ({known.source}): tasks with boxes ask for --box_space, one of {', '.join(SPACES)}",
    }
    return facts if reason or package else facts | structure_of(name)


def structure_of(name: str) -> dict[str, str]:
    """What the model's own layers allow: each says that it acts, or why it does not.

    Whether groups share their prefix is found by a trial of the layers, here for models of at most TRIED_PARAMETERS.
    """
    config = configuration_of(name)
    model = empty_model(config, name).eval()
    packed = "a trial of its layers decides at the start of a run"
    if sum(p.numel() for p in model.parameters()) <= TRIED_PARAMETERS:
        packed = why_no_shared_prefix(AutoModelForImageTextToText.from_config(config).eval()) or "acts"
    return {
        "--shared_prefix": packed,
        "--prefill_once": why_no_prefill(model, None) or "acts",
        "--freeze_vision_modules": f"freezes {', '.join(part.rstrip('.') for part in vision_parts(model))}",
    }


def markdown(rows: Sequence[FamilyRow]) -> str:
    """The table in Markdown; families of which the same is said, but for videos, share a line."""
    together = defaultdict(list)
    for row in rows:
        together[row.trains, row.space, row.form, row.source].append(row)
    cells = [
        [", ".join(row.family for row in alike), trains, forms_of(alike), *facts]
        for (trains, *facts), alike in together.items()
    ]
    cells = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in line] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in (COLUMNS, ["---"] * len(COLUMNS), *cells))


def forms_of(rows: Sequence[FamilyRow]) -> str:
    """The form of videos that families have in common, else each with its families.

    >>> forms_of([FamilyRow("a", "yes", "native", "", "", ""), FamilyRow("b", "yes", "frames", "", "", "")])
    'native: a; frames: b'
    """
    of_each = defaultdict(list)
    for row in rows:
        of_each[row.videos].append(row.family)
    return (
        next(iter(of_each)) if len(of_each) == 1 else "; ".join(f"{n}: {', '.join(of)}" for n, of in of_each.items())
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m open_r1.families", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", help="model folder or hub name: what acts for it")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 200)
    if args.markdown:
        print(markdown(family_rows()))
        return 0
    table = Table(show_header=args.model is None)
    try:
        rows = what_acts(args.model).items() if args.model else [astuple(row) for row in family_rows()]
    except UsageError as error:
        parser.error(str(error))
    for title in ("", "") if args.model else COLUMNS:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
