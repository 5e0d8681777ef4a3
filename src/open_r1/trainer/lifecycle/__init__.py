"""Start, supervision, interruption and end of a run, on one rank or many.

`run_lock` reserves the output folder and `archive_logs` moves an earlier run's logs away; `hooks` report phases to the
`watchdog` and check for the signals of `preemption`, which `torchrun_agent` passes to the ranks; `shutdown` leaves a
checkpoint and says how to continue, unless an optimizer step is incomplete (`partial_step`).
"""
