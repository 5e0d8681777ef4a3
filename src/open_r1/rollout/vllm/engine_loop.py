"""Answers the requests of a source by an engine inside this process, the trainer's or the evaluator's."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from typing import NamedTuple

from vllm import LLM, RequestOutput
from vllm.lora.request import LoRARequest

from open_r1.rollout.vllm.offline import sampled_completion, sampling_params, vllm_prompt
from open_r1.rollout.vllm.types import (
    CHECK_SECONDS,
    Request,
    RequestSource,
    Sampling,
    check_prompt,
    engine_errors,
)


class EngineRequest(NamedTuple):
    """A request that the engine has not answered: vLLM's name of it, its number among all."""

    name: str
    number: int
    request: Request


class EngineLoop:
    """The requests that an engine has in hand. `adapter`: the one that prompts are for."""

    def __init__(self, llm: LLM, sampling: Sampling, adapter: LoRARequest | None = None):
        self.llm, self.sampling, self.adapter = llm, sampling, adapter
        self.asked: dict[str, EngineRequest] = {}  # under the names of vLLM's outputs

    def answer(self, source: RequestSource, check_stop: Callable[[], None]) -> None:
        """Answer all requests of a source, those too that come up meanwhile.

        Raises EngineError, for a prompt that differs from the trainer's too, and what the source and `check_stop`,
        called after each token, raise; the engine then has no request left.
        """
        engine, count = self.llm.llm_engine, 0
        try:
            while True:
                count += self.ask(source.take(), count)
                if engine.has_unfinished_requests():
                    for output in engine_errors(engine.step):
                        self.hand_over(output, source)
                elif source.awaited:
                    wait(source.awaited, CHECK_SECONDS, FIRST_COMPLETED)
                else:
                    return
                check_stop()
        except Exception:
            engine.abort_request([one.name for one in self.asked.values()], internal=True)
            raise

    def ask(self, requests: list[Request], count: int) -> int:
        """Give the engine requests, of which the first is number `count`; how many they are."""
        prompts = [vllm_prompt(request) for request in requests]
        params = [sampling_params(self.sampling, request) for request in requests]
        options = {"lora_request": self.adapter, "use_tqdm": False}
        names = engine_errors(lambda: self.llm.enqueue(prompts, params, **options)) if requests else []
        for number, (name, request) in enumerate(zip(names, requests, strict=True), count):
            self.asked[outer_name(name)] = EngineRequest(name, number, request)
        return len(requests)

    def hand_over(self, output: RequestOutput, source: RequestSource) -> None:
        """Give a source the completions of one of its requests, once all of them have ended."""
        if not output.finished:
            return
        asked, outputs = self.asked.pop(output.request_id), sorted(output.outputs, key=lambda one: one.index)
        check_prompt(asked.request, output.prompt_token_ids)
        source.completed(asked.number, [sampled_completion(one) for one in outputs])


def outer_name(name: str) -> str:
    """The name of a request in what vLLM puts out: "5" of "5-1a2b3c4d", less what it adds to make it unique."""
    return name.split("-")[0]
