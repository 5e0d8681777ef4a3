"""Conversations with videos as strangers write them: before and behind text, in any turn, of any shape."""

from typing import Any

import torch
from PIL import Image

from helpers.families.prompts import film, picture
from open_r1.data.video.types import VideoFrames

Chat = list[dict[str, Any]]
TALL, WIDE = (28, 196), (196, 28)  # (width, height) of frames


def turn(role: str, *parts: str | Image.Image | VideoFrames) -> dict[str, Any]:
    """A message of texts, pictures and videos, in order."""
    kinds = {str: "text", VideoFrames: "video"}
    return {"role": role, "content": [{"type": (kind := kinds.get(type(p), "image")), kind: p} for p in parts]}


def video_chats() -> dict[str, Chat]:
    """Conversations by what is unusual about them, always the same."""
    random = torch.Generator().manual_seed(3)
    clip = lambda frames, size=(84, 56): film(frames, size, 0.4, random)  # noqa: E731
    shot = lambda size=(70, 90): picture(size, random)  # noqa: E731
    return {
        "video behind text": [turn("user", "what is it?", clip(4))],
        "two videos": [turn("user", clip(4), "and", clip(4, (56, 84)), "differ?")],
        "side by side": [turn("user", clip(2), clip(6, (56, 56)), "?")],
        "a video, later a picture": [
            turn("user", clip(4), "what?"),
            turn("assistant", "a dog"),
            turn("user", "and", shot(), "?"),
        ],
        "a picture, later videos": [
            turn("user", shot(), "what?"),
            turn("assistant", "a dog"),
            turn("user", "and", clip(2), "or", clip(5), "?"),
            turn("assistant", "no"),
            turn("user", "why?"),
        ],
        "a video in each turn": [
            turn("user", clip(3), "a?"),
            turn("assistant", "b"),
            turn("user", clip(6), "c?"),
        ],
        "system": [turn("system", "Watch it, then answer."), turn("user", clip(4), "what?")],
        "one frame": [turn("user", clip(1), "what?")],
        "one frame beside four": [turn("user", clip(1), "or", clip(4), "?")],
        "odd": [turn("user", clip(5), "what?")],
        "tall": [turn("user", clip(4, TALL), "what?")],
        "wide": [turn("user", clip(4, WIDE), "what?")],
        "pictures before a video": [turn("user", shot(), shot((56, 112)), clip(4), "?")],
        "all kinds in turn": [turn("user", clip(2), shot(), clip(4), shot((56, 56)), "?")],
    }
