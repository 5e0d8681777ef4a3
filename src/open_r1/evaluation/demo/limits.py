"""The limits of what a visitor may ask. They stand at the server, before a picture is decoded or a token computed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_r1.config.video_flags import frame_sampling
from open_r1.data.chat import PROMPTS
from open_r1.data.images import original_size
from open_r1.data.prompt_tokens import prompt_tokens
from open_r1.errors import UsageError, shorten
from open_r1.evaluation.question import SOURCE, Question
from open_r1.evaluation.session import ModelSession
from open_r1.evaluation.settings import EvaluationSettings, check_settings, task_of_files
from open_r1.models.context_length import context_length

MOST_CHARACTERS, MOST_TEXT_TOKENS = 20_000, 4_096  # of a question; a character may be several tokens, or none
MOST_PICTURES, MOST_PIXELS = 16, 64_000_000  # of a question; pixels of all pictures together
MOST_VIDEOS = 4  # of a question
MOST_TOKENS = 16_384  # of an answer
MOST_ATTENDED = 4_096  # tokens whose attention is shown: its memory grows with their square


@dataclass(frozen=True)
class Limits:
    """What the operator sets: `seconds` of generation of an answer; most `tokens` of prompt and answer together."""

    seconds: float = 60.0
    tokens: int = 16_384

    def check(self) -> "Limits":
        """These limits. Raises UsageError for those that nobody can keep."""
        number("--answer_seconds", self.seconds, 1, 86_400)
        number("--most_tokens", self.tokens, 64, 10_000_000)
        return self


def number(name: str, value: object, low: float, high: float, whole: bool = False) -> float:
    """A finite number within [low, high]. Raises UsageError for anything else.

    >>> number("Temperature", 1, 0, 2)
    1.0
    >>> number("Seed", True, 0, 2, whole=True)
    Traceback (most recent call last):
    open_r1.errors.UsageError: Seed: got True, expected a whole number from 0 to 2
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise UsageError(f"{name}: got {shorten(value)}, expected a {kind} from {low:,} to {high:,}")
    return float(value)


def typed_text(name: str, value: object) -> str:
    """A text of at most `MOST_CHARACTERS`; "" for None. Raises UsageError for anything else."""
    text = "" if value is None else value
    if not isinstance(text, str) or text.encode("utf-8", "replace").decode() != text:
        raise UsageError(f"{name}: got {shorten(value)}, expected text")
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"{name}: got {len(text):,} characters, expected at most {MOST_CHARACTERS:,}; shorten it")
    return text


def question_of(
    pictures: Sequence[tuple[str, Any]] | None, text: str, gold: str, extra: Mapping | None, videos: object = None
) -> Question:
    """The question of these inputs. Raises UsageError for inputs that are not of the page, or over a limit."""
    if len(pictures or ()) > MOST_PICTURES:
        raise UsageError(f"pictures: got {len(pictures)}, expected at most {MOST_PICTURES}; remove some")
    text, gold = typed_text("question", text), typed_text("gold answer", gold)
    paths = tuple(Path(path) for path, _ in pictures or ())
    sizes = [original_size(str(path.parent), path.name, where=f"picture {i}") for i, path in enumerate(paths, 1)]
    pixels = sum(width * height for width, height in sizes)
    if pixels > MOST_PIXELS:
        raise UsageError(f"pictures: got {pixels:,} pixels together, expected at most {MOST_PIXELS:,}; shrink them")
    return Question(text, paths, gold.strip() or None, extra or {}, uploaded_videos(videos))


def uploaded_videos(videos: object) -> tuple[Path, ...]:
    """The files of videos, one or a list. Raises UsageError for what is none, and for too many."""
    listed = videos if isinstance(videos, list) else [videos] if videos else []
    if odd := [one for one in listed if not isinstance(one, str)]:
        raise UsageError(f"video: got {shorten(odd[0])}, expected a file")
    if len(listed) > MOST_VIDEOS:
        raise UsageError(f"videos: got {len(listed)}, expected at most {MOST_VIDEOS}; remove some")
    if not all(Path(one).is_file() for one in listed):
        raise UsageError("video: got no file, expected one that was uploaded; upload it again")
    return tuple(map(Path, listed))


def settings_of_visitor(
    settings: EvaluationSettings, mode: str, temperature: object, tokens: object, seed: object
) -> EvaluationSettings:
    """The session's settings with a visitor's. Raises UsageError for values out of their range."""
    if mode not in tuple(PROMPTS):
        raise UsageError(f"Prompt mode: got {shorten(mode)}, expected one of {', '.join(PROMPTS)}")
    visitor = replace(
        settings,
        prompt_mode=mode,
        temperature=number("Temperature", temperature, 0, 2),
        max_completion_length=int(number("Most tokens", tokens, 1, MOST_TOKENS, whole=True)),
        seed=int(number("Seed", seed, 0, 2**31 - 1, whole=True)),
    )
    check_settings(visitor)
    return visitor


def refuse_long(session: ModelSession, question: Question, settings: EvaluationSettings, limits: Limits) -> None:
    """Raises UsageError for a question of too many tokens, and DataError for one that no row could be.

    Sizes of pictures come from their headers where the model's processor counts tokens by size.
    """
    record = question.record(settings.methods[0])
    session.engine.loader.control_tokens.refuse([record])
    written = len(session.processor.tokenizer(question.text, add_special_tokens=False)["input_ids"])
    if written > MOST_TEXT_TOKENS:
        raise UsageError(f"question: got {written:,} tokens, expected at most {MOST_TEXT_TOKENS:,}; shorten it")
    context = context_length(session.engine.model.config) or limits.tokens
    most = min(limits.tokens, context) - settings.max_completion_length
    instruction = task_of_files(settings)[SOURCE].prompts[settings.modes[0]]
    shown = {"frames": frame_sampling(settings), "video_form": session.engine.loader.fields.video_form}
    prompt = prompt_tokens(record, session.processor, instruction, **shown)
    if prompt > most:
        raise UsageError(
            f"question: got a prompt of {prompt:,} tokens, with its pictures and videos, expected at most {most:,}, "
            f"which leaves {settings.max_completion_length:,} for the answer; shorten it, shrink pictures or videos, "
            "or lower Most tokens"
        )
