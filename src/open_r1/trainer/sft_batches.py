"""Turns rows into batches for supervised fine-tuning: conversations with images, labels on the assistant's turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import get_worker_info
from transformers import ProcessorMixin

from open_r1.data.chat import messages, with_images, with_videos
from open_r1.data.control_tokens import ControlTokens, control_tokens, plain_twin
from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.data.video.files import load_videos
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.inputs import media_shown, of_videos
from open_r1.data.video.types import FrameSampling, VideoFrames
from open_r1.errors import UsageError, row_errors, shorten
from open_r1.rewards.base import is_direct
from open_r1.rewards.gold import gold_answer, gold_completion
from open_r1.rewards.parsing.answer import extract_answer
from open_r1.rollout.batching import merge_images
from open_r1.rollout.image_tokens import refuse_missing_media, refuse_mixture
from open_r1.rollout.media_apart import are_several, values_apart
from open_r1.rollout.processor_fields import PromptFields, prompt_fields
from open_r1.rollout.prompts import prompt_from_fields
from open_r1.tools.listing import offer_tools
from open_r1.tools.toolbox import Toolbox

IGNORED = -100  # label of a token without loss


def target_completion(record: Record) -> str:
    """The completion that a model learns for a row: its solution if that has `<answer>` tags, else the gold answer in
    the tags of the prompt mode. Gold boxes and points are written in the coordinates of the model's family.

    `record.extra` is filled by `open_r1.rollout.annotation.annotator`. Raises DataError for an invalid gold.

    >>> target_completion(Record("1", (), "", (), "3", {"prompt_mode": "direct"}))
    '<answer>3</answer>'
    >>> extra = {"prompt_mode": "direct", "model_family": "qwen3_vl", "image_wh": (640, 425)}
    >>> target_completion(Record("1", (), "", (), "[64, 0, 128, 425]", extra, accu_reward_method="rec"))
    '<answer>[100, 0, 200, 1000]</answer>'
    """
    if is_direct(record) and extract_answer(record.solution) is None:
        return f"<answer>{gold_answer(record)}</answer>"
    return gold_completion(record)


@dataclass(frozen=True)
class Collator:
    """Turns rows `{"row": i}` of `records` into inputs (B, T), padded on the right, with `labels` and `rows` (B,).

    Images are opened here, so in the data loader's workers if there are any. Rows are never truncated. `fields`: how
    the model takes what the processor makes. `toolbox`: the tools whose list stands in each prompt; `frames`: how
    videos are sampled; `video_form`: that of the run; `frame_cache`: what keeps frames on disk. Raises DataError for
    rows that cannot be read or hold control tokens, RowFailed for every other error.
    """

    records: Sequence[Record]
    processor: ProcessorMixin
    instruction: str
    annotate: Callable[[Record], Record]
    image_workers: int = 4
    fields: PromptFields | None = None
    toolbox: Toolbox | None = None
    frames: FrameSampling = field(default_factory=FrameSampling)
    video_form: str | None = "native"
    frame_cache: FrameCache | None = None

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
        batch = [self.record(row["row"]) for row in rows]
        with row_errors([record.where for record in batch], "batch"):
            return self.inputs(batch) | {"rows": torch.tensor([row["row"] for row in rows])}

    def record(self, row: int) -> Record:
        """The annotated record of a row."""
        with row_errors([f"row {row}"], "row"):
            return self.annotate(self.records[row])

    def inputs(self, batch: Sequence[Record]) -> dict[str, torch.Tensor]:
        """Inputs (B, T) with `labels` of B records."""
        pictures = load_images(batch, workers=self.image_workers)
        decoders = self.image_workers if get_worker_info() is None else 1  # workers of a data loader are as many
        videos = load_videos(batch, self.frames, workers=decoders, cache=self.frame_cache)
        pieces = []
        for record, row_pictures, row_videos in zip(batch, pictures, videos, strict=True):
            with row_errors([record.where], "conversation"):
                refuse_mixture(record, len(row_pictures), row_videos, self.known_fields)
                pieces.append(self.pieces(record, row_pictures, row_videos))
        texts = ["".join(piece.text for piece in row) for row in pieces]
        inputs = self.processed(texts, [[part for piece in row for part in piece.media] for row in pieces])
        for record, ids, text, shown, films in zip(batch, inputs["input_ids"], texts, pictures, videos, strict=True):
            refuse_missing_media(record, ids, len(shown), self.known_fields, text, films)
        return {**inputs, "labels": self.labels(inputs["input_ids"], inputs["attention_mask"], pieces)}

    def processed(
        self, texts: Sequence[str], media: Sequence[Sequence[Image.Image | VideoFrames]]
    ) -> dict[str, torch.Tensor]:
        """What the model takes of what the processor makes of conversations, padded on the right.

        Those with videos are processed one by one: several processors stack the videos of a call, or write the number
        of frames of the longest into each text.
        """
        options = {"padding": True, "padding_side": "right", "return_tensors": "pt"}
        options["add_special_tokens"] = False  # the chat template wrote them
        fields, kept = self.known_fields, ("input_ids", "attention_mask")
        if not any(isinstance(part, VideoFrames) for row in media for part in row):
            inputs = self.processor(text=list(texts), **media_of(media), **options)
            return {name: inputs[name] for name in kept} | fields.of_tokens(inputs) | fields.of_pictures(inputs)
        rows = [self.one_processed(text, row, options) for text, row in zip(texts, media, strict=True)]
        prompts = [prompt_from_fields(row, replace(fields, rope=None)) for row in rows]
        ends = {"input_ids": self.processor.tokenizer.pad_token_id}
        padded = {
            name: pad_sequence([row[name][0] for row in rows], batch_first=True, padding_value=ends.get(name, 0))
            for name in (*kept, *prompts[0].types)
        }
        return padded | merge_images(prompts, packed=False)

    def one_processed(
        self, text: str, shown: Sequence[Image.Image | VideoFrames], options: dict[str, Any]
    ) -> Mapping[str, Any]:
        """What the processor makes of one conversation, of which `text` is rendered."""
        if not (self.known_fields.apart and are_several(shown)):
            return self.processor(text=[text], **media_of([shown]), **options)
        pictures = [each for each in shown if not isinstance(each, VideoFrames)]
        make = lambda other, videos: other(text=[text], **media_of([[*pictures, *videos]]), **options)  # noqa: E731
        return values_apart(self.processor, shown, self.known_fields.joins, make)

    @cached_property
    def known_fields(self) -> PromptFields:
        """The given fields, else those of the processor alone."""
        return self.fields or prompt_fields(self.processor, video_form=self.video_form)

    @cached_property
    def control_tokens(self) -> ControlTokens:
        """Those of the processor."""
        return control_tokens(self.processor)

    def pieces(self, record: Record, images: Sequence[Any], videos: Sequence[VideoFrames] = ()) -> list["Piece"]:
        """The chat template's text of a conversation, up to the end of the last turn; prompts and answers alternate.

        Raises UsageError for a chat template that changes the text of a turn when others follow.
        """
        self.control_tokens.refuse([record], with_answer=True)
        chat = with_videos(with_images(messages(record, self.instruction), images), videos)
        chat = self.known_fields.shown(chat)
        chat.append({"role": "assistant", "content": [{"type": "text", "text": target_completion(record)}]})
        chat, options = offer_tools(chat, self.toolbox) if self.toolbox else (chat, {})
        template = partial(self.processor.apply_chat_template, **options)
        text, pieces, next_turn = template(chat).rstrip(), [], 0
        self.control_tokens.refuse_made(record, text, template(plain_twin(chat)))
        for turn, message in enumerate(chat):
            if message["role"] == "assistant":
                prompt = template(chat[:turn], add_generation_prompt=True)
                dialogue = template(chat[: turn + 1]).rstrip()
                if not (text.startswith(dialogue) and dialogue.startswith(prompt)):
                    got = f"a chat template that writes an answered prompt in another way: {shorten(text)}"
                    raise UsageError(f"--model_name_or_path: got {got}, expected {shorten(prompt)} and the answer")
                start = sum(len(piece.text) for piece in pieces)
                pieces += [
                    Piece(text[start : len(prompt)], tuple(media_shown(chat[next_turn:turn]))),
                    Piece(dialogue[len(prompt) :]),
                ]
                next_turn = turn
        return pieces

    def labels(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, pieces: Sequence[list["Piece"]]) -> torch.Tensor:
        """(B, T): the ids of the assistant's turns, `IGNORED` elsewhere."""
        labels_BT = torch.full_like(ids_BT, IGNORED)
        for row, parts in enumerate(pieces):
            end = int(mask_BT[row].sum())
            # from the end, so that the first prompt, with its images, needs no count
            for number in range(len(parts) - 1, 0, -1):
                tokens = self.tokens_of_piece(parts, number, ids_BT[row, :end].tolist())
                start = end - len(tokens)
                if ids_BT[row, start:end].tolist() != tokens:
                    answer = shorten(parts[number].text)
                    raise UsageError(f"the tokenizer joins the end of a prompt with {answer}: loss is off")
                if number % 2:
                    labels_BT[row, start:end] = ids_BT[row, start:end]
                end = start
        return labels_BT

    def tokens_of_piece(self, parts: Sequence["Piece"], number: int, ids: list[int]) -> list[int]:
        """Token ids of one of the parts, with which `ids` should end: alone, or, where its pictures or videos are
        numbered behind those before it (MiniCPM-V), what it adds to the parts before."""
        tokens = self.tokens(parts[number : number + 1])
        if not parts[number].media or ids[len(ids) - len(tokens) :] == tokens:
            return tokens
        return self.tokens(parts[: number + 1])[len(self.tokens(parts[:number])) :]

    def tokens(self, parts: Sequence["Piece"]) -> list[int]:
        """Token ids of parts that follow one another, their pictures and videos included."""
        text, media = "".join(part.text for part in parts), [each for part in parts for each in part.media]
        if not media:
            return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        options = {"add_special_tokens": False, "return_tensors": "pt"}
        return self.one_processed(text, media, options)["input_ids"][0].tolist()


@dataclass(frozen=True)
class Piece:
    """A part of a conversation's text, a prompt or an answer, with its pictures and videos in order."""

    text: str
    media: tuple[Image.Image | VideoFrames, ...] = ()


def media_of(rows: Sequence[Sequence[Image.Image | VideoFrames]]) -> dict[str, Any]:
    """The arguments of a processor's call for the pictures and videos of conversations."""
    videos = [[each for each in row if isinstance(each, VideoFrames)] for row in rows]
    pictures = [[each for each in row if not isinstance(each, VideoFrames)] for row in rows]
    shown: dict[str, Any] = {"images": pictures} if any(pictures) else {}
    return shown | (
        {"videos": [[v.pixels for v in row] for row in videos], **of_videos(videos)} if any(videos) else {}
    )
