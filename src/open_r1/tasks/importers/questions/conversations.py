"""Reads conversations: LLaVA, ShareGPT, Qwen-VL (`from`, `value`) and OpenAI, ms-swift (`role`, `content`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from open_r1.data.row_formats import IMAGE_TAG
from open_r1.tasks.importers.fields import answer_text, first_of, pictures_of, row_split
from open_r1.tasks.importers.items import ImportedItem, ImportedRow, ImportOptions, Turns, read_each_row
from open_r1.tasks.importers.picture_values import SourcePicture, pictures_in
from open_r1.tasks.importers.questions.swift_objects import fill_objects
from open_r1.tasks.importers.source_videos import videos_in_row
from open_r1.tasks.importers.sources import Source, Unusable

SPEAKERS = {
    **dict.fromkeys(("human", "user", "query", "question"), "human"),
    **dict.fromkeys(("gpt", "assistant", "model", "bot", "chatgpt", "response", "answer"), "gpt"),
    "system": "system",
}
PART_FIELDS = {"type", "text", "image", "image_url"}  # of a part of a chat's turn
ROLES_OF_ASKING = {"user", "human"}
GOLD_FIELDS = ("solution", "answer", "ground_truth")
TURN_LISTS = ("conversations", "conversation", "messages")


def is_conversation(source: Source, with_named_pictures: bool = False) -> bool:
    """Whether the rows are LLaVA's or ShareGPT's; `with_named_pictures`: Qwen-VL's, with `<img>a.jpg</img>`."""
    turns = _turn_list(source.first)
    has_pictures = b"<img>" in orjson.dumps(turns, default=str) if turns else False
    return bool(turns) and "from" in turns[0] and has_pictures == with_named_pictures


def is_chat(source: Source) -> bool:
    """Whether the rows are chats of OpenAI's form."""
    turns = _turn_list(source.first)
    return bool(turns) and "role" in turns[0]


def _turn_list(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    value = next((row[name] for name in TURN_LISTS if row.get(name)), None)
    return value if isinstance(value, list) and all(isinstance(item, Mapping) for item in value) else []


def read_conversations(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """A row for each conversation, its last answer the gold; with `all_turns` a row for each answer."""
    return read_each_row(source, options, conversation_rows)


def conversation_rows(row: Mapping[str, Any], where: str, options: ImportOptions) -> Iterator[ImportedRow]:
    """The rows of one conversation. Raises Unusable for what is no question with an answer."""
    items = _turn_list(row)
    if not items:
        raise Unusable("a row without a list of turns")
    gold = first_of(row, GOLD_FIELDS)  # of ms-swift's rows for GRPO, whose messages end with the question
    if gold is not None and str(items[-1].get("from", items[-1].get("role"))) in ROLES_OF_ASKING:
        items = [*items, {"role": "assistant", "content": answer_text(gold)}]
    turns, inside = read_turns(items, row.get("system"))
    turns, frame = fill_objects(turns, row.get("objects"))
    pictures, videos = inside or pictures_of(row, beside_videos=True), videos_in_row(row)
    answers = [i for i, (role, _) in enumerate(turns) if role == "gpt"]
    for number, last in enumerate(answers if options.all_turns else answers[-1:], 1):
        identity = (
            f"{row['id']}-{number}" if options.all_turns and len(answers) > 1 and row.get("id") else row.get("id")
        )
        made = dialogue_row(where, turns[: last + 1], pictures, identity, row_split(row))
        yield replace(made, videos=videos, box_frame=frame)


def dialogue_row(
    where: str, turns: Turns, pictures: tuple[SourcePicture, ...], identity: Any = None, split: str = "", **extra: Any
) -> ImportedRow:
    """The row of turns that end with the gold answer; `extra` fields go into it."""
    listed = [{"from": role, "value": text} for role, text in turns]
    known = {"id": str(identity)} if identity not in (None, "") else {}
    return ImportedRow(where, {**known, "conversations": listed, **extra}, pictures, split)


def read_turns(items: Sequence[Mapping[str, Any]], system: Any = None) -> tuple[Turns, tuple[SourcePicture, ...]]:
    """(turns, pictures of image parts). Turns of one speaker in a row are joined.

    Raises Unusable for unknown speakers, tools, an empty turn, and a conversation that does not end with an answer.
    """
    turns: Turns = [("system", system)] if isinstance(system, str) and system.strip() else []
    pictures: list[SourcePicture] = []
    for item in items:
        stated = item.get("from", item.get("role"))
        role = SPEAKERS.get(str(stated).lower())
        if role is None:
            raise Unusable(f"a speaker that is neither user nor assistant: {stated}")
        text, found = read_content(next((item[name] for name in ("value", "content", "text") if name in item), None))
        pictures += found
        if turns and turns[-1][0] == role == "human":
            turns[-1] = (role, f"{turns[-1][1]}\n{text}")
        else:
            turns.append((role, text))
    if not turns or turns[-1][0] != "gpt":
        raise Unusable("a conversation that does not end with an answer")
    if not turns[-1][1].strip():
        raise Unusable("a row without an answer")
    return turns, tuple(pictures)


def read_content(content: Any) -> tuple[str, list[SourcePicture]]:
    """(text with `<image>` for each image part, their pictures) of a turn's content."""
    if isinstance(content, str):
        return content, []
    if isinstance(content, Mapping):
        return orjson.dumps(content).decode(), []
    if isinstance(content, list) and content and all(_is_part(part) for part in content):
        texts, pictures = [], []
        for part in content:
            text, found = _part(part)
            texts.append(text)
            pictures += found
        return "".join(texts), pictures
    if isinstance(content, (int, float, list)) and not isinstance(content, bool):
        return orjson.dumps(content).decode(), []
    raise Unusable("a turn without text")


def _is_part(part: Any) -> bool:
    return isinstance(part, Mapping) and bool(PART_FIELDS & part.keys())


def _part(part: Mapping[str, Any]) -> tuple[str, list[SourcePicture]]:
    kind = part.get("type") or ("text" if isinstance(part.get("text"), str) else "image")
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"], []
    value = next((part[name] for name in ("image", "image_url", "url", "path", "base64") if part.get(name)), None)
    if str(kind).startswith("image"):
        return IMAGE_TAG, list(pictures_in(value))
    raise Unusable(f"a part of a turn that is neither text nor image: {kind}")
