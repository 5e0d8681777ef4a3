"""A client of `run_scripts/vllm_server.sh`: prompts over HTTP, weights over a process group (`weight_channel`).

Each rank sends the requests of its own rows. No request is retried here: a restarted server holds other weights, so
after a lost connection the trainer must `connect` again and send the policy's weights first.
"""

import itertools
import json
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.pool import ThreadPool
from typing import Any
from urllib.parse import urlsplit

import requests
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.config.training_arguments import GRPOArguments
from open_r1.rollout.vllm.adapter import PolicyAdapter
from open_r1.rollout.vllm.background_call import BackgroundCall
from open_r1.rollout.vllm.checkpoint_names import Weights
from open_r1.rollout.vllm.policy_weights import Shape, weight_shapes
from open_r1.rollout.vllm.types import (
    ADAPTER_NAME,
    CHECK_SECONDS,
    EngineError,
    EngineLost,
    GivenRequests,
    Request,
    RequestSource,
    SampledCompletion,
    Sampling,
    check_prompt,
)
from open_r1.rollout.vllm.weight_channel import address_towards, broadcast, join_channel, open_store
from open_r1.rollout.vllm.wire import (
    IDS_PATH,
    chat_body,
    check_adapter_rank,
    check_model,
    check_pixels,
    check_version,
    ids_body,
    pixel_fields,
)

MAX_CONCURRENT = 256  # requests of a rank at a time; with tools, one is a row's turn
FIRST_WAIT, LONGEST_RETRY_WAIT = 0.5, 15.0  # seconds between attempts to reach a server, doubled each time
AnswerToCome = Future[list[SampledCompletion]]  # to a request, to come


class ServerEngine:
    """The client of a rank; all ranks share the server, and rank 0 alone sends weights.

    With an `adapter`, `weights()` are those below it: they are sent once to each server, and then the adapter alone.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: GRPOArguments,
        rank: tuple[int, int, int],
        weights: Callable[[], Weights],
        adapter: PolicyAdapter | None,
    ):
        self.adapter = adapter
        self.model, self.weights, self.args, self.is_rank_0 = model, weights, args, rank[0] == 0
        self.url = (args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}").rstrip("/")
        self.patience, self.pixels = args.vllm_server_timeout, pixel_fields(processor)
        # one form for all turns, so that the server knows again what it has read
        self.by_ids = bool(args.tools or args.environment)
        self.synced: str | None = None
        self.store: Any = None
        self.session = requests.Session()
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONCURRENT))
        self.connect()

    def connect(self) -> None:
        """Wait for the server and check that it serves this policy's model. Raises EngineError where it does not."""
        self.served_models = [served["id"] for served in self.wait()["data"]]
        self.has_base = False
        if self.is_rank_0:
            check_version(self.url, self.get("/version")["version"])
            description = self.rpc("policy_describe")[0]
            check_model(self.url, description, self.model)
            check_adapter_rank(self.url, description, self.model, self.adapter.rank if self.adapter else 0)
            if self.by_ids:
                check_pixels(self.url, description, self.pixels)
            self.channel = self.open_channel()
        self.stale = True

    def wait(self) -> dict[str, Any]:
        """The served models, once the server answers; pauses grow, and `--vllm_server_timeout` bounds their sum."""
        began, pause = time.monotonic(), FIRST_WAIT
        while True:
            try:
                return self.get("/v1/models")
            except EngineLost as error:
                if time.monotonic() - began + pause > self.patience:
                    raise EngineError(
                        f"--vllm_server_timeout: no vLLM server answered at {self.url} for {self.patience:g} s "
                        f"({error}); start one by: bash run_scripts/vllm_server.sh {self.model.name_or_path}"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY_WAIT)

    def open_channel(self) -> Any:
        """The process group of this rank and the server's workers, by a port of this machine."""
        ranks, seconds = self.get("/get_world_size")["world_size"] + 1, self.patience
        host = address_towards(urlsplit(self.url).hostname or "127.0.0.1")
        port, meeting = self.args.vllm_group_port, uuid.uuid4().hex
        try:
            self.store = self.store or open_store(host, port, listens=True, seconds=seconds)
            join_call = BackgroundCall(
                lambda: self.rpc("policy_join", host, str(port), meeting, str(ranks), str(seconds))
            )
            group = join_channel(self.store, meeting, 0, ranks, next(self.model.parameters()).device, seconds)
        except RuntimeError as error:
            way = f"no way for weights from {host}:{port} to {self.url}"
            raise EngineError(
                f"--vllm_group_port: {way}: {error}; choose a free port that the server reaches"
            ) from error
        join_call.result(seconds)
        return group

    # -------------------------------------------------------------------------------------------------------- weights

    def sync(self, frozen_vision: bool, label: str) -> None:
        """Send the policy's weights, whose version on the server is then `label`. All ranks call this together.

        The image cache is cleared even where the vision tower is frozen: a server may have served other runs.
        """
        if self.adapter is None or not self.has_base:
            self.send("policy_load", weight_shapes(self.model), self.weights(), label)
            self.has_base = True
        if self.adapter:
            facts = json.dumps(self.adapter.facts)
            self.send("policy_load_adapter", self.adapter.shapes(), self.adapter.tensors(), label, facts)
        if self.is_rank_0:
            self.post("/reset_prefix_cache")
            self.post("/reset_encoder_cache")
            if self.adapter and ADAPTER_NAME not in self.served_models:  # the workers have it: no file is read
                self.post("/v1/load_lora_adapter", {"lora_name": ADAPTER_NAME, "lora_path": ADAPTER_NAME})
                self.served_models.append(ADAPTER_NAME)
        self.synced, self.stale = label, False

    def send(self, method: str, shapes: list[Shape], weights: Weights, *arguments: str) -> None:
        """Send weights to the server's `method` from rank 0; the others only gather. Raises EngineLost where the
        connection breaks."""
        if not self.is_rank_0:
            for _ in weights:  # gathering them is collective
                pass
            return
        announced = [(name, str(dtype).removeprefix("torch."), shape) for name, dtype, shape in shapes]
        load_call = BackgroundCall(lambda: self.rpc(method, json.dumps(announced), *arguments))
        failure: RuntimeError | None = None
        for _, weight in weights:  # to the end, also after a failure: other ranks gather along
            try:
                if failure is None and not load_call.failed:
                    broadcast(self.channel, weight.detach().contiguous())
            except RuntimeError as error:
                failure = error
        load_call.result(self.patience)
        if failure is not None:
            raise EngineLost(f"{self.url}: the way of the weights broke: {failure}") from failure

    def check_weights(self) -> None:
        """Raises EngineLost for a restarted server, which has other weights."""
        version = self.rpc("policy_describe")[0]["synced"]
        if version != self.synced:
            raise EngineLost(f"{self.url} has weights {version}, expected {self.synced}: it was started anew")

    # ----------------------------------------------------------------------------------------------------- generation

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, check_stop: Callable[[], None]
    ) -> list[list[SampledCompletion]]:
        """The completions of each request, in order. Raises as `answer`."""
        given = GivenRequests(requests)
        self.answer(given, sampling, check_stop)
        return given.completions

    def answer(self, source: RequestSource, sampling: Sampling, check_stop: Callable[[], None]) -> None:
        """Answer all requests of a source, those too that come up meanwhile.

        Raises EngineLost, EngineError for a prompt that differs from the trainer's, what the source raises, and what
        `check_stop`, called each second, raises; the process then exits without waiting for the requests in flight.
        """
        self.check_weights()
        with ThreadPool(MAX_CONCURRENT) as pool:  # its threads do not keep a process alive
            numbers: dict[AnswerToCome, int] = {}  # of the requests in flight
            count, left_alone = itertools.count(), False
            while True:
                numbers |= {self.begin(request, sampling, pool): next(count) for request in source.take()}
                if not numbers and not source.awaited:
                    break
                left_alone |= not numbers
                done, _ = wait([*numbers, *source.awaited], CHECK_SECONDS, FIRST_COMPLETED)
                for answer in done & numbers.keys():
                    source.completed(numbers.pop(answer), answer.result())
                check_stop()
        if left_alone:  # while tools alone were at work, nobody would notice that it was started anew
            self.check_weights()

    def begin(self, request: Request, sampling: Sampling, pool: ThreadPool) -> AnswerToCome:
        """The completions of one request, to come."""
        answer: AnswerToCome = Future()
        answers = {"callback": answer.set_result, "error_callback": answer.set_exception}
        pool.apply_async(self.complete, (request, sampling), **answers)
        return answer

    def complete(self, request: Request, sampling: Sampling) -> list[SampledCompletion]:
        """The `n` completions of one request."""
        served = {"model": ADAPTER_NAME if self.adapter else self.served_models[0]}
        if self.by_ids:
            reply = self.post(IDS_PATH, served | ids_body(request, sampling))
        else:
            reply = self.post("/v1/chat/completions", served | chat_body(request, sampling, self.pixels))
        check_prompt(request, reply["prompt_token_ids"])
        choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        return [SampledCompletion(c["token_ids"], [t["logprob"] for t in c["logprobs"]["content"]]) for c in choices]

    def awake(self) -> AbstractContextManager[None]:
        """Inside this context later turns find what earlier ones read: a server never sleeps."""
        return nullcontext()

    # ----------------------------------------------------------------------------------------------------------- HTTP

    def get(self, path: str) -> dict[str, Any]:
        return self.http("GET", path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.http("POST", path, json=body)

    def rpc(self, method: str, *args: str) -> list[Any]:
        """Call a `WeightSync` method of each worker; returns their results."""
        return (self.post("/collective_rpc", {"method": method, "args": list(args)}) or {}).get("results", [])

    def http(self, verb: str, path: str, **kwargs: Any) -> Any:
        """The JSON of a response, None for any other. Raises EngineLost without a response, else EngineError."""
        try:
            response = self.session.request(verb, self.url + path, timeout=(10, self.patience), **kwargs)
        except requests.RequestException as error:
            raise EngineLost(f"{verb} {path}: {type(error).__name__}: {error}") from error
        if response.status_code in (502, 503, 504):
            raise EngineLost(f"{verb} {path}: status {response.status_code}")
        if response.status_code == 404 and path in ("/collective_rpc", "/get_world_size", IDS_PATH):
            raise EngineError(f"{self.url}: a vLLM server without {path}; start it by run_scripts/vllm_server.sh")
        if not response.ok:
            raise EngineError(f"{self.url}: {verb} {path}: status {response.status_code}: {response.text[:2000]}")
        return response.json() if response.headers.get("Content-Type", "").endswith("json") else None
