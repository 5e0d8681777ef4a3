"""Tells a model's folder from a name of the hub, and refuses what is neither before anybody is asked. (torch-free)

transformers takes any text that is no folder for a name of the hub, and asks for it file by file, minutes long where
the hub cannot be reached.
"""

import difflib
import os
import re
from functools import lru_cache
from pathlib import Path

from open_r1.errors import UsageError

MODEL_CONFIGS = ("config.json", "adapter_config.json")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}|[A-Za-z0-9][\w.-]{0,95}")
CLOSE = 0.6  # of difflib: how alike a name nearby must be
HUB_SECONDS = 10.0
FOLDER_OR_NAME = "expected a model's folder, or a name of the hub (org/name)"


def refuse_no_model(name: str, flag: str = "model", revision: str | None = None) -> None:
    """Raises UsageError for a name that is neither a folder with a model nor a model that the hub, or its cache, has.

    The message names the nearest folder, or the checkpoint of a folder that holds several.
    """
    path = Path(name).expanduser()
    if name.startswith("~") and path.exists():
        raise UsageError(f"{flag}: got {name}, where ~ stays as it is; write {path}")
    if path.is_dir():
        return refuse_no_model_folder(path, flag)
    if path.is_file():
        raise UsageError(f"{flag}: got {name}, a file, expected the folder that holds it; write {path.parent}")
    near = nearest_folder(path)
    if not HUB_NAME.fullmatch(name):
        hint = f"did you mean {near}?" if near else f"{first_missing(path)} is not there; correct the path"
        raise UsageError(f"{flag}: got {name}, which is no folder, {FOLDER_OR_NAME}; {hint}")
    if not is_cached(name, revision):
        if near is not None:
            raise UsageError(
                f"{flag}: got {name}, which is no folder, {FOLDER_OR_NAME}; did you mean {near}? "
                f"For the hub's model of that name: hf download {name}"
            )
        refuse_unknown_to_hub(name, flag, revision)
    return None


def refuse_no_model_folder(path: Path, flag: str) -> None:
    """Raises UsageError for a folder without configuration; it names the checkpoints in it."""
    if any((path / file).is_file() for file in MODEL_CONFIGS):
        return
    inside = sorted((p for p in subfolders(path) if any((p / file).is_file() for file in MODEL_CONFIGS)), key=by_steps)
    if not inside:
        raise UsageError(
            f"{flag}: got {path}, a folder without config.json, expected a model's; correct the path, or download the "
            "model whole"
        )
    others = f" ({len(inside)} models lie there)" if len(inside) > 1 else ""
    raise UsageError(f"{flag}: got {path}, a folder that holds checkpoints{others}, expected one; write {inside[-1]}")


def by_steps(checkpoint: Path) -> tuple[int, str]:
    """Orders checkpoints by their steps, a final model (`checkpoint`) last.

    >>> by_steps(Path("checkpoint-30")) < by_steps(Path("checkpoint-300")) < by_steps(Path("checkpoint"))
    True
    """
    if checkpoint.name == "checkpoint":
        return (2**63, "")
    number = re.search(r"-(\d+)$", checkpoint.name)
    return (int(number[1]) if number else -1, checkpoint.name)


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder that may be read, without hidden ones."""
    try:
        return [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []


def nearest_folder(path: Path) -> Path | None:
    """The existing folder whose path is most alike, name by name from the first that is missing; None without one."""
    place = next((parent for parent in path.parents if parent.is_dir()), Path())
    for part in path.relative_to(place).parts:
        names = {entry.name.lower(): entry.name for entry in subfolders(place)}
        near = difflib.get_close_matches(part.lower(), names, n=1, cutoff=CLOSE)
        if not near:
            return None
        place = place / names[near[0]]
    return place


def first_missing(path: Path) -> Path:
    """The first part of a path that is not there."""
    return next(part for part in (*reversed(path.parents), path) if not part.exists())


def is_cached(name: str, revision: str | None) -> bool:
    """Whether the hub's cache on this machine has the model's configuration."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in MODEL_CONFIGS)


@lru_cache(maxsize=64)
def refuse_unknown_to_hub(name: str, flag: str, revision: str | None) -> None:
    """Raises UsageError for a model that the hub has not, or where the hub may not or cannot be asked."""
    import httpx
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    place = f"{flag}: got {name}, which is no folder and not in the hub's cache"
    if constants.is_offline_mode():
        variable = next((v for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(v)), "HF_HUB_OFFLINE")
        raise UsageError(
            f"{place}, and {variable} forbids asking the hub; correct the path, or unset {variable} and run "
            f"hf download {name}"
        )
    try:
        HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS)
    except RevisionNotFoundError:
        raise UsageError(f"{flag}: got {name}, which has no revision {revision} on the hub; correct it") from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"{place}; the hub has no such model, or shows it to others only (hf auth login); correct the name"
        ) from None
    except HfHubHTTPError:
        return  # it answered: downloading says more
    except httpx.HTTPError as error:
        raise UsageError(
            f"{place}, and the hub cannot be reached ({type(error).__name__}); correct the path, or run "
            f"hf download {name} where it can"
        ) from error
