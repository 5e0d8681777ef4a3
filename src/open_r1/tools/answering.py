"""Answers to come: calls of rows are answered, and their episodes concluded, in threads while other rows are still
sampled. (torch-free)"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from PIL import Image

from open_r1.data.record import Record
from open_r1.tools.environment_state import Earned
from open_r1.tools.episodes import Episode
from open_r1.tools.toolbox import Calls, ToolAnswer, Toolbox

Answers = tuple[ToolAnswer, ...]


class Ask:
    """Begins work for rows: first come, first served, as many rows at once as the toolbox has workers."""

    def __init__(self, toolbox: Toolbox):
        self.toolbox = toolbox
        self.threads = ThreadPoolExecutor(toolbox.workers)  # threads only wait for the workers

    def __call__(
        self, calls: Calls, pictures: Sequence[Image.Image], record: Record, episode: Episode | None = None
    ) -> Future[Answers]:
        """The answers to the calls of a row, as `Toolbox.answer`."""
        return self.threads.submit(self.toolbox.answer, calls, pictures, record, episode)

    def conclude(self, episode: Episode) -> Future[Earned]:
        """What the completion of a row that has ended earned; its instance is closed. Raises as `Episode.conclude`."""
        return self.threads.submit(episode.conclude)


@contextmanager
def answering(toolbox: Toolbox) -> Iterator[Ask]:
    """Inside this context work for rows is begun. At its end it waits for what has begun, and drops the rest."""
    ask = Ask(toolbox)
    try:
        yield ask
    finally:
        ask.threads.shutdown(cancel_futures=True)
