"""A client of `run_scripts/vllm_server.sh`: prompts over HTTP, weights over a process group (`worker`).

Each rank asks the server for its own rows. Nothing is tried again behind the trainer's back: a server that was
started anew holds other weights, so after a lost connection the trainer meets it again and sends the policy first.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any
from urllib.parse import urlsplit

import requests
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.config.arguments import GRPOArguments
from open_r1.rollout.vllm.policy_weights import Weights, shapes
from open_r1.rollout.vllm.types import EngineError, EngineLost, Request, SampledCompletion, Sampling, check_prompt
from open_r1.rollout.vllm.weight_channel import address_towards, broadcast, channel, meeting_point
from open_r1.rollout.vllm.wire import check_model, check_version, pixel_fields, server_messages

AT_ONCE = 64  # requests of a rank under way
LOOKS = 1.0  # seconds between two while a rollout is under way
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds between attempts to reach a server, doubled each time


class Server:
    """One server for all ranks; rank 0 alone talks to it about weights."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: GRPOArguments,
        rank: tuple[int, int, int],
        weights: Callable[[], Weights],
    ):
        self.model, self.weights, self.args, self.leads = model, weights, args, rank[0] == 0
        self.url = (args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}").rstrip("/")
        self.patience, self.pixels = args.vllm_server_timeout, pixel_fields(processor)
        self.synced: str | None = None
        self.point: Any = None
        self.session = requests.Session()
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=AT_ONCE))
        self.meet()

    def meet(self) -> None:
        """Wait for the server and see that it is one for this policy. Raises EngineError where it is not."""
        self.served = self.wait()["data"][0]
        if self.leads:
            check_version(self.url, self.get("/version")["version"])
            check_model(self.url, self.rpc("policy_describe")[0], self.model)
            self.channel = self.open_channel()
        self.stale = True

    def wait(self) -> dict[str, Any]:
        """The served models, as soon as the server answers; waits longer each time, `--vllm_server_timeout` in all."""
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
            pause = min(2 * pause, LONGEST_WAIT)

    def open_channel(self) -> Any:
        """The process group of this rank and the server's workers, met on a port of this machine."""
        ranks, seconds = self.get("/get_world_size")["world_size"] + 1, self.patience
        here = address_towards(urlsplit(self.url).hostname or "127.0.0.1")
        host, port, meeting = here, self.args.vllm_group_port, uuid.uuid4().hex
        try:
            self.point = self.point or meeting_point(host, port, leads=True, seconds=seconds)
            joining = Background(lambda: self.rpc("policy_join", host, str(port), meeting, str(ranks), str(seconds)))
            group = channel(self.point, meeting, 0, ranks, next(self.model.parameters()).device, seconds)
        except RuntimeError as error:
            way = f"no way for weights from {host}:{port} to {self.url}"
            raise EngineError(
                f"--vllm_group_port: {way}: {error}; choose a free port that the server reaches"
            ) from error
        joining.result(seconds)
        return group

    # -------------------------------------------------------------------------------------------------------- weights

    def sync(self, frozen_vision: bool, label: str) -> None:
        """Send the policy's weights, which the server then knows by `label`. All ranks call this together.

        Images are forgotten even where the vision tower is frozen: a server may have served others.
        """
        if not self.leads:
            for _ in self.weights():  # gathering them is collective
                pass
        else:
            self.send(label)
        self.synced, self.stale = label, False

    def send(self, label: str) -> None:
        announced = [(name, str(dtype).removeprefix("torch."), shape) for name, dtype, shape in shapes(self.model)]
        loading = Background(lambda: self.rpc("policy_load", json.dumps(announced), label))
        lost: RuntimeError | None = None
        for _, weight in self.weights():  # to the end, whatever happens: other ranks gather along
            try:
                if lost is None and not loading.failed:
                    broadcast(self.channel, weight.detach().contiguous())
            except RuntimeError as error:
                lost = error
        loading.result(self.patience)
        if lost is not None:
            raise EngineLost(f"{self.url}: the way of the weights broke: {lost}") from lost
        self.post("/reset_prefix_cache")
        self.post("/reset_encoder_cache")

    def check_weights(self) -> None:
        """Raises EngineLost for a server that was started anew: it has the weights it was started with."""
        has = self.rpc("policy_describe")[0]["synced"]
        if has != self.synced:
            raise EngineLost(f"{self.url} has weights {has}, expected {self.synced}: it was started anew")

    # ----------------------------------------------------------------------------------------------------- generation

    def generate(
        self, asked: Sequence[Request], sampling: Sampling, look: Callable[[], None]
    ) -> list[list[SampledCompletion]]:
        """The completions of each request, in order. Raises EngineLost, EngineError for a prompt read otherwise, and
        what `look`, called each second, raises; the process then does not wait for answers that are under way."""
        self.check_weights()
        with ThreadPool(min(AT_ONCE, len(asked))) as pool:  # its threads do not keep a process alive
            answers = pool.map_async(lambda request: self.ask(request, sampling), asked, chunksize=1)
            while not answers.ready():
                answers.wait(LOOKS)
                look()
            return answers.get()

    def ask(self, request: Request, sampling: Sampling) -> list[SampledCompletion]:
        """One conversation, `n` completions, with the ids of what the server read and said."""
        said = self.post(
            "/v1/chat/completions",
            {
                "model": self.served["id"],
                "messages": server_messages(request.chat),
                "n": request.n,
                "seed": request.seed,
                "logprobs": True,
                "top_logprobs": 0,
                "return_token_ids": True,
                "return_tokens_as_token_ids": True,
                **({"mm_processor_kwargs": self.pixels} if request.pictures and self.pixels else {}),
                **({"structured_outputs": {"regex": sampling.regex}} if sampling.regex else {}),
                **sampling.fields(),
            },
        )
        check_prompt(request, said["prompt_token_ids"])
        choices = sorted(said["choices"], key=lambda choice: choice["index"])
        return [SampledCompletion(c["token_ids"], [t["logprob"] for t in c["logprobs"]["content"]]) for c in choices]

    # ----------------------------------------------------------------------------------------------------------- HTTP

    def get(self, path: str) -> dict[str, Any]:
        return self.http("GET", path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.http("POST", path, json=body)

    def rpc(self, method: str, *args: str) -> list[Any]:
        """What each worker answers to a call of a `WeightSync` method."""
        return (self.post("/collective_rpc", {"method": method, "args": list(args)}) or {}).get("results", [])

    def http(self, verb: str, path: str, **kwargs: Any) -> Any:
        """The JSON of an answer, None for an empty one. Raises EngineLost for none, EngineError for a refusal."""
        try:
            answer = self.session.request(verb, self.url + path, timeout=(10, self.patience), **kwargs)
        except requests.RequestException as error:
            raise EngineLost(f"{verb} {path}: {type(error).__name__}: {error}") from error
        if answer.status_code in (502, 503, 504):
            raise EngineLost(f"{verb} {path}: status {answer.status_code}")
        if answer.status_code == 404 and path in ("/collective_rpc", "/get_world_size"):
            raise EngineError(f"{self.url}: a vLLM server without {path}; start it by run_scripts/vllm_server.sh")
        if not answer.ok:
            raise EngineError(f"{self.url}: {verb} {path}: status {answer.status_code}: {answer.text[:2000]}")
        return answer.json() if answer.content else None


class Background(threading.Thread):
    """A call in a thread that does not keep the process alive."""

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
        """Raises what the call raised, and EngineLost where it has not returned in time."""
        self.join(seconds)
        if self.error is not None:
            raise self.error
        if self.is_alive():
            raise EngineLost(f"no answer within {seconds:g} s")
        return self.value
