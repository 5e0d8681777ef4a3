"""How the settings of two evaluations differ, and which of that makes their figures incomparable. (torch-free)

The settings are those of `summary.json`: every field of `EvaluationSettings` that changes an answer or a score, with
the pixel limits of the processor, the prompts of the tasks and a hash of the data.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from open_r1.data.media_views import OWN
from open_r1.errors import UsageError, shorten
from open_r1.evaluation.predictions_file import SUMMARY
from open_r1.evaluation.settings import MODES, WITHOUT_EFFECT, split_names

Settings = dict[str, Any]
ValuePair = tuple[Any, Any]  # the values of A and B; None: not recorded
OF_THE_MODEL = {
    "model",
    "weights",
    "chat_template",
    "trust_remote_code",
    "box_space",
}  # what two models differ in by nature
OF_SAMPLING = {"seed", "top_p", "top_k"}  # act at a temperature above 0 alone
PER_FILE = {"tasks", "methods"}


def read_settings(folder: Path) -> Settings:
    """The settings in a folder's `summary.json`, {} where it has none; values per file as {split: value}.

    Those without effect are left out: of sampling, where answers are greedy. Raises UsageError for a damaged file.
    """
    try:
        settings = dict(json.loads((folder / SUMMARY).read_bytes()).get("settings", {}))
        splits = split_names(settings.get("data_file_paths") or [settings.get("from_predictions", "")])
        settings |= {name: dict(zip(splits, settings[name], strict=True)) for name in PER_FILE & set(settings)}
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{folder / SUMMARY}: got {error}, expected what an evaluation writes; repeat it") from error
    idle = WITHOUT_EFFECT | {"from_predictions"} | (OF_SAMPLING if settings.get("temperature") == 0 else set())
    return {name: value for name, value in settings.items() if name not in idle}


def different_settings(a: Settings, b: Settings, common: bool = False) -> dict[str, ValuePair]:
    """Name -> (value in A, value in B) of the settings that differ; of what is kept per file or prompt mode, of files
    and modes that both have. `common`: only rows of both are compared, so other data files may be there."""
    pairs = {name: shared_parts(a.get(name), b.get(name)) for name in {**a, **b} if not (common and name == "data")}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def shared_parts(a: Any, b: Any) -> ValuePair:
    """Two values; of dictionaries the parts whose keys both have.

    >>> shared_parts({"val": "rec", "x": "od"}, {"val": "rec"}), shared_parts(1, 2)
    (({'val': 'rec'}, {'val': 'rec'}), (1, 2))
    """
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: a[key] for key in a if key in b}, {key: b[key] for key in b if key in a}
    return a, b


def refuse_different(differences: Mapping[str, ValuePair], allowed: Collection[str]) -> None:
    """Raises UsageError where other settings differ than those of the models and the `allowed` ones."""
    refused = {name: pair for name, pair in differences.items() if name not in OF_THE_MODEL | set(allowed)}
    if refused:
        names = " ".join(dict.fromkeys([*allowed, *refused]))
        raise UsageError(
            f"got evaluations made differently, expected the same settings: {difference_text(refused)}; evaluate "
            f"again with equal ones, or add --allow_different {names}"
        )


def difference_text(differences: Mapping[str, ValuePair]) -> str:
    """Differences in words. A view that was not recorded is the rows' own pictures and videos.

    >>> difference_text({"max_completion_length": (2048, 48), "seed": (None, 1)})
    'max_completion_length 2048 against 48; seed (not recorded) against 1'
    """
    unrecorded = {"view": OWN}
    shown = {
        name: [unrecorded.get(name, "(not recorded)") if value is None else value_text(value) for value in pair]
        for name, pair in differences.items()
    }
    return "; ".join(f"{name} {' against '.join(pair)}" for name, pair in shown.items())


def value_text(value: Any) -> str:
    """A setting's value as short text: of what is kept per file or prompt mode, its values.

    >>> value_text({"val": "rec", "testA": "rec"}), value_text(0.5)
    ('rec', '0.5')
    """
    values = dict.fromkeys(map(value_text, value.values())) if isinstance(value, dict) else [value]
    return ", ".join(one if isinstance(one, str) and len(one) <= 60 else shorten(one, 60) for one in values)


def other_mode(a: Settings, b: Settings) -> dict[str, str]:
    """{mode of B: mode of A} where each evaluation has one prompt mode, and another; else {}.

    >>> other_mode({"prompt_mode": "think"}, {"prompt_mode": "direct"})
    {'direct': 'think'}
    """
    modes = [MODES.get(settings.get("prompt_mode"), ()) for settings in (a, b)]
    (one, *more), (two, *others) = (mode or ("",) for mode in modes)
    return {two: one} if one and two and one != two and not more and not others else {}
