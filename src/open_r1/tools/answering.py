"""Answers to come: the calls of a row are answered in threads while other rows are still sampled. (torch-free)"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from PIL import Image

from open_r1.data.record import Record
from open_r1.tools.episodes import Episode
from open_r1.tools.toolbox import Calls, ToolAnswer, Toolbox

Answers = tuple[ToolAnswer, ...]
Ask = Callable[[Calls, Sequence[Image.Image], Record, Episode | None], Future[Answers]]  # as `Toolbox.answer`


@contextmanager
def answering(toolbox: Toolbox) -> Iterator[Ask]:
    """Inside this context a function begins to answer the calls of a row: first come, first served, as many
    rows at once as it has workers. At its end it waits for what has begun, and drops the others."""
    threads = ThreadPoolExecutor(toolbox.workers)  # threads only wait for the workers
    try:
        yield lambda *row: threads.submit(toolbox.answer, *row)
    finally:
        threads.shutdown(cancel_futures=True)
