"""A stream of one completion's tokens, which may be stopped while another thread generates."""

import threading
from collections.abc import Iterator
from queue import Queue

import torch
from transformers.generation.streamers import BaseStreamer


class AnswerStopped(Exception):
    """Generation was stopped; the tokens until then are the answer."""


class Stream(BaseStreamer):
    """A streamer of one completion: iterating yields all ids so far, while another thread generates."""

    def __init__(self, stop: threading.Event):
        self.stop, self.ids = stop, list[int]()
        self.queue: Queue[int | None] = Queue()

    def put(self, value: torch.Tensor) -> None:
        """Called by `generate`: with the prompt of each turn, (1, P), and with each token, (1,)."""
        if value.dim() == 1:
            self.ids.append(int(value))
            self.queue.put(self.ids[-1])
        if self.stop.is_set():
            raise AnswerStopped

    def end(self) -> None:
        """Called by `generate`, which may run several times; `end_of_work` marks the end."""

    def end_of_work(self) -> None:
        """Mark the end of the completion."""
        self.queue.put(None)

    def __iter__(self) -> Iterator[list[int]]:
        ids: list[int] = []
        shown = 0
        while (token := self.queue.get()) is not None:
            ids.append(token)
            if self.queue.empty():  # a slow reader gets several tokens at once
                shown = len(ids)
                yield list(ids)
        if shown < len(ids):  # the end came with the last tokens
            yield list(ids)
