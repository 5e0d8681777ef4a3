"""The settings of the judge, from the environment: each is checked, and an unknown name is refused. (torch-free)"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from open_r1.data.rubric import Rubric, read_rubric
from open_r1.endpoint.client import EndpointError
from open_r1.errors import nearest_hint
from open_r1.redaction import shown_url
from open_r1.rewards.judge.shown import PictureLimits

DEFAULTS = {
    "JUDGE_MODEL": "",
    "JUDGE_SECONDS": "60",
    "JUDGE_CONCURRENCY": "8",
    "JUDGE_RUBRIC": "",
    "JUDGE_IMAGES": "false",
    "JUDGE_MAX_PIXELS": "1000000",
    "JUDGE_MAX_IMAGES": "16",
    "JUDGE_GROUP": "false",
    "JUDGE_ORDERS": "2",
    "JUDGE_SCHEMA": "false",
    "JUDGE_CACHE": "",
    "JUDGE_CACHE_ENTRIES": "500000",
    "JUDGE_PRICE_IN": "0",
    "JUDGE_PRICE_OUT": "0",
}
# What changes verdicts: facts of a run, and part of a verdict's key.
SHAPING_SETTINGS = (
    *("JUDGE_MODEL", "JUDGE_IMAGES", "JUDGE_MAX_PIXELS", "JUDGE_MAX_IMAGES"),
    *("JUDGE_GROUP", "JUDGE_ORDERS", "JUDGE_SCHEMA"),
)
ENDPOINT = "$OPENAI_BASE_URL"  # among those facts: where the judge is asked, without secrets
Grouping = Literal["alone", "together", "ranked"]
GROUPINGS: dict[str, Grouping] = {"false": "alone", "true": "together", "rank": "ranked"}


@dataclass(frozen=True)
class JudgeSettings:
    """What judges and how; see judge.md for each.

    `seconds`: deadline of one verdict with its retries; `limits`: of the pictures that are sent; `group`: how the
    answers of a group are asked about, `orders`: in how many orders they are ranked; `price_in`, `price_out`: of a
    million tokens, in any currency.
    """

    model: str
    seconds: float = 60.0
    concurrency: int = 8
    rubric: Rubric | None = None
    images: bool = False
    limits: PictureLimits = field(default_factory=PictureLimits)
    group: Grouping = "alone"
    orders: int = 2
    schema: bool = False
    cache: Path | None = None
    cache_entries: int = 500_000
    price_in: float = 0.0
    price_out: float = 0.0


def read_judge_settings() -> JudgeSettings:
    """The settings of $JUDGE_*. Raises EndpointError for a value or a name that is none, DataError for a rubric file
    that holds no rubric."""
    if unknown := unknown_variables():
        raise EndpointError(unknown[0])
    if not (model := _text("JUDGE_MODEL")):
        remedy = "export the name of a model behind $OPENAI_BASE_URL, or choose another --reward_method"
        raise EndpointError(f"JUDGE_MODEL: not set, expected the model that judges for --reward_method llm; {remedy}")
    return JudgeSettings(
        model,
        _number("JUDGE_SECONDS"),
        _count("JUDGE_CONCURRENCY"),
        _rubric_file(_text("JUDGE_RUBRIC")),
        _flag("JUDGE_IMAGES"),
        PictureLimits(_count("JUDGE_MAX_IMAGES"), _count("JUDGE_MAX_PIXELS")),
        read_grouping(),
        _orders(),
        _flag("JUDGE_SCHEMA"),
        Path(_text("JUDGE_CACHE")) if _text("JUDGE_CACHE") else None,
        _count("JUDGE_CACHE_ENTRIES"),
        *judge_prices(),
    )


def read_grouping() -> Grouping:
    """How $JUDGE_GROUP has the answers of a group asked about. Raises EndpointError for a value that is none."""
    if (text := _text("JUDGE_GROUP").casefold()) not in GROUPINGS:
        raise EndpointError(f"JUDGE_GROUP: got {text!r}, expected {_or(GROUPINGS)}; correct it, or unset it")
    return GROUPINGS[text]


def judge_prices() -> tuple[float, float]:
    """The prices of a million tokens in and out. Raises EndpointError for one that is none."""
    return _number("JUDGE_PRICE_IN", least=0.0), _number("JUDGE_PRICE_OUT", least=0.0)


def judge_facts() -> dict[str, str | None]:
    """Who judges, where, and what changes verdicts, for the facts of a run; None where something is not set."""
    path, url = Path(_text("JUDGE_RUBRIC")), os.environ.get("OPENAI_BASE_URL", "") if _text("JUDGE_MODEL") else ""
    rubric = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    found = {f"${name}": os.environ.get(name) for name in SHAPING_SETTINGS}
    return found | {"$JUDGE_RUBRIC": rubric, ENDPOINT: shown_url(url.strip()) or None}


def judge_among(facts: Mapping[str, Any]) -> dict[str, str]:
    """What the facts of a run say of its judge, by the variable's name; {} where it has none.

    >>> judge_among({"rows": 3, "$JUDGE_MODEL": "m", "$JUDGE_IMAGES": None, "$OPENAI_BASE_URL": "http://h/v1"})
    {'JUDGE_MODEL': 'm', 'OPENAI_BASE_URL': 'http://h/v1'}
    """
    names = ("$JUDGE_MODEL", ENDPOINT, *SHAPING_SETTINGS[1:], "$JUDGE_RUBRIC")
    found = {name.removeprefix("$"): facts.get(f"${name.removeprefix('$')}") for name in names}
    return {name: value for name, value in found.items() if value} if found["JUDGE_MODEL"] else {}


def judge_text(facts: Mapping[str, Any]) -> str | None:
    """The judge of a run in words, by its facts; None where it has none.

    >>> judge_text({"$JUDGE_MODEL": "m", "$OPENAI_BASE_URL": "http://h/v1", "$JUDGE_RUBRIC": "3b1f" * 16})
    'm at http://h/v1, JUDGE_RUBRIC of sha256 3b1f3b1f3b1f'
    """
    if not (found := judge_among(facts)):
        return None
    model, place, rubric = (found.pop(name, None) for name in ("JUDGE_MODEL", ENDPOINT[1:], "JUDGE_RUBRIC"))
    settings = [f"{name}={value}" for name, value in found.items()]
    settings += [f"JUDGE_RUBRIC of sha256 {rubric[:12]}"] if rubric else []
    return ", ".join([f"{model} at {place}" if place else str(model), *settings])


def unknown_variables() -> list[str]:
    """What is said of each variable that begins as a setting of the judge and is none, such as JUDGE_IMAGE."""
    return [
        f"{name}: no setting of the judge, expected one of {', '.join(DEFAULTS)}; {nearest_hint(name, DEFAULTS)}"
        for name in sorted(os.environ)
        if name.startswith("JUDGE_") and name not in DEFAULTS
    ]


def _orders() -> int:
    """The orders in which answers are ranked: 1 or 2. Raises EndpointError for others, and where nothing is ranked."""
    if (text := _text("JUDGE_ORDERS")) not in ("1", "2"):
        raise EndpointError(f"JUDGE_ORDERS: got {text!r}, expected 1 or 2; correct it, or unset it")
    if "JUDGE_ORDERS" in os.environ and read_grouping() != "ranked":
        expected = "JUDGE_GROUP=rank beside it, as nothing else has an order"
        raise EndpointError(f"JUDGE_ORDERS: got {text!r}, expected {expected}; export that, or unset it")
    return int(text)


def _count(name: str) -> int:
    """A whole number of at least 1, of a positive number."""
    return max(1, int(_number(name)))


def _or(values: Iterable[str]) -> str:
    """
    >>> _or(["a", "b", "c"])
    'a, b or c'
    """
    *first, last = values
    return f"{', '.join(first)} or {last}"


def _text(name: str) -> str:
    return (os.environ.get(name) or DEFAULTS[name]).strip()


def _flag(name: str) -> bool:
    if (text := _text(name).casefold()) not in ("true", "false"):
        raise EndpointError(f"{name}: got {text!r}, expected true or false; correct it, or unset it")
    return text == "true"


def _number(name: str, least: float | None = None) -> float:
    """A positive number, or one of at least `least`; raises EndpointError for anything else."""
    text = _text(name)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    is_good = value > 0 if least is None else value >= least
    if not is_good or not value < math.inf:
        expected = "a positive number" if least is None else f"a number of at least {least:g}"
        raise EndpointError(f"{name}: got {text!r}, expected {expected}; correct it, or unset it")
    return value


def _rubric_file(name: str) -> Rubric | None:
    """The rubric of a file: criteria of a `.json`, else the whole text. Raises EndpointError and DataError."""
    if not name:
        return None
    try:
        text = Path(name).read_text(encoding="utf-8")
        return read_rubric(json.loads(text) if name.endswith(".json") else text, name, "JUDGE_RUBRIC")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        remedy = "name a file of UTF-8 text, or a .json of criteria"
        raise EndpointError(f"JUDGE_RUBRIC: got {name} ({error}), expected a rubric; {remedy}") from error
