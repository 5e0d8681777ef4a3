"""vLLM as the engine of rollouts: the same prompts, the same weights, and a proof of both at every use.

`requests` is what is asked and answered, `weights` the policy's parameters as vLLM names them, `colocate` an engine in
the trainer's own process, `server` a client of `run_scripts/vllm_server.sh` (`wire` is what goes over HTTP, `channel`
the way of the weights), `worker` what runs inside vLLM.
"""
