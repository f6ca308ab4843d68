"""The measuring process: reads requests as JSON lines, times artifacts, answers as JSON lines.

Standard library, numpy and the device's runtime only, so that it can run where blsm is not installed.

Request: {"artifact": path, "invocations", "max_visit_s", "min_invocations", "warmup"}
Answer:  {"samples_ns": [...], "started_s"} or {"error": text}
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

Invoke = Callable[[], None]


def load_litert(artifact: str, threads: int) -> Invoke:
    """An invocation of a LiteRT flatbuffer on random input."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=artifact, num_threads=threads)
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], random.random(tensor["shape"]).astype(tensor["dtype"]))
    invoke: Invoke = interpreter.invoke
    return invoke


RUNNERS: dict[str, Callable[..., Invoke]] = {"litert": load_litert}


def time_invocations(
    invoke: Invoke, invocations: int, max_visit_s: float | None, min_invocations: int, warmup: int
) -> list[int]:
    """Durations of single invocations in nanoseconds; see `blsm.profiling.Protocol` for the arguments."""
    clock = time.perf_counter_ns
    for _ in range(warmup):
        invoke()
    samples: list[int] = []
    deadline = clock() + int(max_visit_s * 1e9) if max_visit_s is not None else None
    while len(samples) < invocations:
        start = clock()
        invoke()
        end = clock()
        samples.append(end - start)
        if deadline is not None and end > deadline and len(samples) >= min_invocations:
            break
    return samples


def answer(request: dict[str, Any], load: Callable[..., Invoke], options: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    try:
        invoke = load(request.pop("artifact"), **options)
        started_s = time.time()
        return {"samples_ns": time_invocations(invoke, **request), "started_s": started_s}
    except Exception as error:  # noqa: BLE001  # whatever a runtime raises is this block's failure, not the worker's
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Serves requests until standard input ends, as it does when the parent dies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runner", choices=sorted(RUNNERS))
    parser.add_argument("--options", type=json.loads, default={}, help="JSON arguments of the runner")
    parser.add_argument("--core", type=int, help="CPU core to run on alone")
    arguments = parser.parse_args()
    # Ctrl-C goes to the whole process group; the parent decides when the worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    # Where permitted: nothing else should run on this core meanwhile.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    # Runtimes print to standard output at will: answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), RUNNERS[arguments.runner], arguments.options)) + "\n")


if __name__ == "__main__":
    main()
