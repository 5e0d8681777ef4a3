"""A call in a thread that does not keep the process alive, whose result is waited for. (Does not import vLLM)"""

import threading
from collections.abc import Callable
from typing import Any

from open_r1.rollout.vllm.types import EngineLost


class BackgroundCall(threading.Thread):
    """A call in a daemon thread, which does not keep the process alive."""

    def __init__(self, call: Callable[[], Any]):
        super().__init__(daemon=True)
        self.call, self.value, self.error = call, None, None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.call()
        except Exception as error:  # raised by `result`, in the thread that waits for it
            self.error = error

    @property
    def failed(self) -> bool:
        return self.error is not None

    def result(self, seconds: float) -> Any:
        """What the call returned. Raises what it raised, and EngineLost where it has not returned in time."""
        self.join(seconds)
        if self.error is not None:
            raise self.error
        if self.is_alive():
            raise EngineLost(f"no answer within {seconds:g} s")
        return self.value
