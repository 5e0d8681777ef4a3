"""The next generation, made by a vLLM server while the policy learns from this one (`--rollout_ahead 1`).

Its completions are the policy's of before the step, so one step old when they are learned from; TRL's importance
sampling weighs them by the policy's log-probs over those that they were sampled with. Nothing is begun at the last
step of an epoch or run, whose next rows are not known. A checkpoint holds what was begun before it, so that a resumed
run learns from the same completions.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from open_r1.rollout.prompt_loader import RowNumber
from open_r1.rollout.vllm.background_call import BackgroundCall
from open_r1.rollout.vllm.types import EngineError, SampledCompletion

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between looks for a stop signal


@dataclass(frozen=True)
class Ahead:
    """A generation that was begun: its `rows`, and the `call` that returns one completion a row."""

    rows: Sequence[RowNumber]
    call: BackgroundCall

    def wait(self, check_stop: Callable[[], None]) -> list[SampledCompletion]:
        """Its completions. Raises what the engine and, called each second, `check_stop` raise."""
        while self.call.is_alive():
            self.call.join(LOOK_SECONDS)
            check_stop()
        return self.call.result(0)

    def saved(self) -> dict[str, Any] | None:
        """It as plain values, after its end, which HTTP's timeouts bound; None where its engine failed."""
        self.call.join()
        try:
            completions = self.call.result(0)
        except EngineError as error:
            logger.warning("the generation that was begun ahead is not in the checkpoint: %s", error)
            return None
        ids, logps = [c.ids for c in completions], [c.logps for c in completions]
        return {"rows": list(self.rows), "ids": ids, "logps": logps}


def loaded(saved: dict[str, Any] | None) -> Ahead | None:
    """What `Ahead.saved` returned, as it was."""
    if saved is None:
        return None
    completions = [SampledCompletion(*each) for each in zip(saved["ids"], saved["logps"], strict=True)]
    return Ahead(saved["rows"], BackgroundCall(lambda: completions))
