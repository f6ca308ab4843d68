"""The measuring process: reads requests as JSON lines, times artifacts, answers as JSON lines.

Standard library, numpy and the device's runtime only, and all of it in this one file: `blsm.profiling.hosts` sends it
to machines where blsm is not installed. There `supervise` stands between the connection and the measuring process.

Request: {"artifact": path, "invocations", "min_visit_s", "max_visit_s", "min_invocations", "warmup", "patience_s",
         "cold_invocations"}
Answer:  {"samples_ns": [...], "cold_ns": [...], "waited_s", "disturbed", "started_s"} or {"error": text}

Request: {"facts": true}
Answer:  what `facts` returns, or {"error": text}

Where each artifact has a process of its own, {"process": its number} comes before the answer.
"""

from __future__ import annotations  # other machines may run an older Python

import argparse
import collections
import contextlib
import ctypes
import functools
import gc
import importlib
import importlib.metadata
import json
import math
import mmap
import os
import platform
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

Invoke = Callable[[], None]

#: Of the conversation with `supervise`; in its first message, which also tells that message from a login's greeting.
PROTOCOL_NUMBER = 1
#: Importing a runtime on a slow board takes a while.
FACTS_TIMEOUT_S = 60.0
#: Of the memory that is free when a process starts, the share that it may take. Reading what it has taken, rather than
#: a limit of the system's, since runtimes map far more than they use.
_MEMORY_SHARE = 0.8
#: How often to look at it while a request runs, seconds; most visits are shorter.
_WATCH_S = 0.1
#: How long invocations are watched for which threads compute, seconds; those that take this share of what the busiest
#: one does.
_SPREAD_S, _BUSY = 0.005, 0.25
#: What a pulse goes through and how often, some microseconds, and how much slower than the fastest ones says that
#: something disturbs the core: more than what some processors slow down by after wide vectors.
_PULSE_BYTES, _PULSE_ROUNDS, _DISTURBED = b" " * 2000, 3, 1.4
#: How long invocations follow each other without a pulse, nanoseconds: where one core computes, whose pulse takes some
#: microseconds, and where several do, whose pulse takes some hundred.
_BURST_NS, _BURST_OF_CORES_NS = 50_000, 3_000_000
#: What else runs on a core takes turns of milliseconds with the thread there: how long invocations take for that to be
#: looked at, nanoseconds, and the share of it that threads may wait for their turns.
_TURN_NS, _WAITED = 1_000_000, 0.02
#: A pulse of several cores: answers of each to the calling thread's, loops of each, how long these are waited for.
_TRIPS, _BEATS, _TOGETHER_NS = 40, 15, 20_000_000
#: What is said after the last of these answers, and after the last loop; answers have lower numbers.
_BEAT, _DONE = 254, 255
#: Of the last visits, the fastest pulse of each, this share is faster than what counts as the fastest: a few lucky ones
#: must not make all others look slow, and a core that is slow for good is as fast as it can be. Visits to a slow core
#: take a second each, so that this means more than a minute, longer than most slow spells.
_PULSE_VISITS, _LUCKY = 100, 0.15
#: So many times as many invocations as are to find cold caches are made where some are disturbed; with less than this
#: share of them undisturbed, none counts.
_COLD_TRIES, _COLD_SHARE = 2, 0.25
#: What the kernel tells of caches; bytes of one where it does not, and the most that is emptied: larger
#: ones many cores of a server share, a process has a part of them only, and reading it all takes tenths of a second.
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_USUAL_CACHE, _LARGEST_CACHE = 8 << 20, 64 << 20
#: PR_SET_PDEATHSIG, of prctl(2).
_DIE_WITH_PARENT = 1
#: The outputs of a frozen TensorFlow graph are the operators whose names begin so.
OUTPUT = "blsm_output_"


def load_litert(artifact: str, threads: int, kernels: str = "xnnpack") -> Invoke:
    """An invocation of a LiteRT flatbuffer, through XNNPACK or LiteRT's own (`builtin`) kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolvers = {"xnnpack": OpResolverType.AUTO, "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    interpreter = Interpreter(
        model_path=artifact, num_threads=threads or _cores(), experimental_op_resolver_type=resolvers[kernels]
    )
    interpreter.allocate_tensors()
    for number, tensor in enumerate(interpreter.get_input_details()):
        interpreter.set_tensor(tensor["index"], _input(tensor["shape"], tensor["dtype"], number))
    invoke: Invoke = interpreter.invoke
    return invoke


def load_tensorflow(artifact: str, threads: int) -> Invoke:
    """An invocation of a frozen TensorFlow graph (GraphDef) through oneDNN."""
    import_tensorflow()
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    definition = tf.compat.v1.GraphDef()
    with open(artifact, "rb") as file:
        definition.ParseFromString(file.read())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    inputs = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
    outputs = [op.outputs[0] for op in graph.get_operations() if op.name.startswith(OUTPUT)]
    # A session dispatches faster than an eager function, and frees its graph when it goes.
    session = tf.compat.v1.Session(
        graph=graph,
        config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads or _cores(), inter_op_parallelism_threads=1, device_count={"GPU": 0}
        ),
    )
    # `session.run` and `make_callable` spend more time in Python than many a block takes; Keras called graphs by this.
    # And the thread that calls runs the operators itself (-1): waking another takes 30 microseconds, more or less.
    call = config_pb2.CallableOptions(
        feed=[tensor.name for tensor in inputs],
        fetch=[tensor.name for tensor in outputs],
        run_options=config_pb2.RunOptions(inter_op_thread_pool=-1),
    )
    run = session._make_callable_from_options(call)
    values = [_input(tensor.shape, tensor.dtype.as_numpy_dtype, number) for number, tensor in enumerate(inputs)]
    return lambda: run(*values)


def import_tensorflow() -> None:
    """Imports what `load_tensorflow` needs, and begins nothing yet."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow.compat.v1
    import tensorflow.core.protobuf.config_pb2  # noqa: F401


def load_openvino(artifact: str, threads: int) -> Invoke:
    """An invocation of whatever file OpenVINO reads, on its CPU plugin in float32."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads or _cores(),
        "INFERENCE_PRECISION_HINT": "f32",  # it takes bfloat16 by itself where the CPU has it
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(artifact, "CPU", settings)
    request = compiled.create_infer_request()
    for number, port in enumerate(compiled.inputs):
        value = _input(port.shape, port.get_element_type().to_dtype(), number)
        request.set_input_tensor(number, openvino.Tensor(value))
    invoke: Invoke = request.infer
    return invoke


def load_onnx(artifact: str, threads: int) -> Invoke:
    """An invocation of an ONNX file in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _cores()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    names = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others are named as in numpy
    values = {
        tensor.name: _input(tensor.shape, names.get(tensor.type, tensor.type[len("tensor(") : -1]), number)
        for number, tensor in enumerate(session.get_inputs())
    }
    return lambda: session.run(None, values)


def chain(apply: Callable[[Any, list[Any]], list[Any]], count: int) -> Callable[[Any, list[Any]], list[Any]]:
    """A function of JAX that applies another one `count` times in a row; it returns the last outputs.

    Each time, one element of every input comes from the outputs before, so that XLA can neither run two at once nor
    leave one out; outputs are carried whole, so that it must compute them whole. What depends on the weights alone,
    such as folding a batch normalisation, it may do once.

    Args:
        apply: (weights, inputs) -> outputs.
        count: at least 1.
    """
    import jax
    import jax.numpy as jnp

    def run(weights: Any, inputs: list[Any]) -> list[Any]:
        def step(_: int, state: tuple[list[Any], list[Any]]) -> tuple[list[Any], list[Any]]:
            inputs, outputs = state
            # tanh: numbers that grow from one to the next would end in infinities.
            drop = jnp.tanh(sum(x[(0,) * x.ndim].astype("float32") for x in outputs))
            inputs = [x.at[(0,) * x.ndim].set(drop.astype(x.dtype)) for x in inputs]
            return inputs, apply(weights, inputs)

        outputs = [jnp.zeros(x.shape, x.dtype) for x in jax.eval_shape(apply, weights, inputs)]
        last: list[Any] = jax.lax.fori_loop(0, count, step, (inputs, outputs))[1]
        return last

    return run


class Dispatch:
    """A dispatch of many invocations.

    Attributes:
        invocations: how many it makes, one after the other.
    """

    def __init__(self, run: Invoke, invocations: int) -> None:
        self._run = run
        self.invocations = invocations

    def __call__(self) -> None:
        self._run()


def load_jax(artifact: str, platform: str, dispatch_s: float = 0.004) -> Dispatch:
    """Invocations of a `.keras` model on JAX, jitted, as many in one dispatch as take `dispatch_s` seconds or more."""
    apply, weights, inputs = read_keras(artifact, platform)
    import jax

    def make(count: int) -> Invoke:
        function = jax.jit(chain(apply, count))
        return lambda: jax.block_until_ready(function(weights, inputs))

    return long_dispatch(make, dispatch_s)


def read_keras(artifact: str, platform: str) -> tuple[Callable[[Any, list[Any]], list[Any]], Any, list[Any]]:
    """A `.keras` model on a platform of JAX: the function (weights, inputs) -> outputs, its weights, random inputs."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax
    import keras

    jax.config.update("jax_default_device", jax.devices(platform)[0])
    model = keras.saving.load_model(artifact, compile=False)
    weights = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
    inputs = [jax.numpy.asarray(_input((1, *x.shape[1:]), x.dtype, number)) for number, x in enumerate(model.inputs)]

    def apply(weights: Any, inputs: list[Any]) -> list[Any]:
        outputs, _ = model.stateless_call(*weights, inputs if len(inputs) > 1 else inputs[0], training=False)
        return list(jax.tree.leaves(outputs))

    return apply, weights, inputs


def long_dispatch(make: Callable[[int], Invoke], dispatch_s: float) -> Dispatch:
    """A dispatch of enough invocations to take `dispatch_s` seconds; `make` makes a run of a given number of them."""
    count = 16
    while True:
        dispatch = Dispatch(make(count), count)
        took_s = min(time_invocations(dispatch, 2, None, 2, warmup=1).samples_ns) / 1e9
        if took_s >= dispatch_s or count >= 1 << 16:
            return dispatch
        # Dispatching itself is part of what it took: aim a little too high.
        count *= math.ceil(1.25 * dispatch_s / took_s)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _input(shape: Any, dtype: Any, seed: int) -> Any:
    """A random array: over the whole range where inputs are quantised, in [0, 1) else, which is 0 for indices.

    It starts at a multiple of 64 bytes: TensorFlow copies others first, and where an array starts is a matter of luck.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    dtype, shape = np.dtype(dtype), tuple(shape)
    if dtype in (np.int8, np.uint8):
        values = random.integers(0, 256, shape, np.uint8).view(dtype)
    else:
        values = random.random(shape).astype(dtype)
    buffer = np.empty(values.nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    aligned = buffer[start : start + values.nbytes].view(dtype).reshape(shape)
    aligned[...] = values
    return aligned


RUNNERS: dict[str, Callable[..., Invoke]] = {
    "jax": load_jax,
    "litert": load_litert,
    "onnx": load_onnx,
    "openvino": load_openvino,
    "tensorflow": load_tensorflow,
}
#: Runners that have a process of their own for each artifact -> what imports the runtime, before that is forked. In one
#: that has run hundreds of graphs TensorFlow takes up to 20 % longer, more or less from visit to visit.
FORKING: dict[str, Callable[[], None]] = {"tensorflow": import_tensorflow}
#: Runner -> the package of its runtime, then the others that it needs.
PACKAGES: dict[str, Sequence[str]] = {
    "jax": ("jax", "keras", "numpy"),
    "litert": ("ai-edge-litert", "numpy"),
    "onnx": ("onnxruntime", "numpy"),
    "openvino": ("openvino", "numpy"),
    "tensorflow": ("tensorflow", "numpy"),
}


def cpu_name() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in pairs}
    # Virtual machines often name the vendor only: family and model tell generations apart.
    parts = [fields.get("model name", platform.machine())]
    parts += [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return " ".join(parts)


def governor() -> str:
    """Frequency governor of the first core, `unknown` where the kernel does not tell."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return "unknown"


def available_cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def memory_limit() -> int:
    """Bytes that a process may take before its block counts as too large: most of what is free now."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (free_kib,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return sys.maxsize
    return int(_MEMORY_SHARE * 1024 * free_kib)


def exhausted(process: int, limit_bytes: int) -> str | None:
    """What to say of a process that takes more memory than it may; None while it does not."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):  # it is gone, which is noticed elsewhere
        return None
    taken_bytes = pages * os.sysconf("SC_PAGE_SIZE")
    if taken_bytes <= limit_bytes:
        return None
    return f"out of memory: it took {taken_bytes / 2**20:.0f} MiB, {limit_bytes / 2**20:.0f} MiB are free for it"


def facts(runner: str) -> dict[str, Any]:
    """What this machine says of itself, for the fingerprint; an `error` where the runner's packages are missing."""
    lacking = []
    for package in PACKAGES[runner]:
        try:
            importlib.import_module(package.replace("-", "_"))
        except ImportError:
            lacking.append(package)
    if lacking:
        return {"error": f"{sys.executable} has no {' and no '.join(lacking)}: pip install {' '.join(lacking)}"}
    runtime = PACKAGES[runner][0]
    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "governor": governor(),
        "runtime": f"{runtime} {importlib.metadata.version(runtime)}",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


class Pulse:
    """Tells whether the cores that compute are as fast as they can be, by the time that a short loop takes on them.

    Whoever computes on the other hardware thread of a core, another virtual machine say, slows everything on it by half
    and more, for milliseconds or for minutes; so does a lower clock. To be called after invocations only: a core that
    has done nothing else for a while may have a higher clock.

    The cores of a virtual machine are where its host puts them: for a while two may share a physical core, or lie so
    far apart that what one has written takes the other one long to read. So several loop at the same time, and how
    long they take to answer the calling thread counts, too. A process on each waits for that.

    Other processes on the same cores disturb no pulse, but take turns with longer invocations, see `_Turns`.

    Args:
        cores: those that may compute together, ascending; none for whichever core the calling thread is on.

    Attributes:
        latest: what the last visit found: its cores, and the least of each part of its pulses; None before the first.
    """

    def __init__(self, cores: Sequence[int] = ()) -> None:
        self.latest: tuple[Sequence[int], list[int]] | None = None
        self._followers: list[_Follower] = []
        for core in cores[1:]:  # the lowest of those that compute is the calling thread's during a pulse
            self._followers.append(_Follower(core, self._followers))
        self._cores: Sequence[int] = ()
        self._known_ns: dict[Sequence[int], collections.deque[list[int]]] = {}
        self._fast_ns: list[int] = []
        self._turns = _Turns()

    def begin(self, cores: Sequence[int] = ()) -> None:
        """Begins a visit.

        Args:
            cores: those that compute in it, ascending; at most one stands for the calling thread's.
        """
        self._cores = tuple(cores) if len(cores) > 1 else ()
        self.learn(self._cores, self.take_ns())
        known_ns = self._known_ns[self._cores]
        # Once a visit: sorting takes as long as a pulse.
        lucky = int(_LUCKY * len(known_ns))
        self._fast_ns = [sorted(row[i] for row in known_ns)[lucky] for i in range(len(known_ns[-1]))]
        self._turns.close()
        self._turns = _Turns()

    def learn(self, cores: Sequence[int], least_ns: list[int]) -> None:
        """Adds a visit, one of another process by its `latest`."""
        self.latest = tuple(cores), least_ns
        self._known_ns.setdefault(tuple(cores), collections.deque(maxlen=_PULSE_VISITS)).append(least_ns)

    @property
    def burst(self) -> tuple[int, int]:
        """How long invocations may follow each other without a pulse, nanoseconds, and how many have to."""
        # Threads that slept during a pulse wake in the first invocation after it.
        return (_BURST_OF_CORES_NS, 2) if self._cores else (_BURST_NS, 1)

    def is_fast(self) -> bool:
        """Whether all of them are fast now."""
        took_ns, known_ns = self.take_ns(), self._known_ns[self._cores]
        known_ns[-1][:] = map(min, known_ns[-1], took_ns)  # in place: it is the latest, too
        if len(known_ns) == 1:  # nothing else tells what is fast
            self._fast_ns = known_ns[-1]
        self._turns.begin()
        return all(ns <= _DISTURBED * self._fast_ns[i] for i, ns in enumerate(took_ns))

    def undivided(self) -> bool:
        """Whether they were this process's own since the last pulse, as far as that can be told."""
        return self._turns.undivided()

    def take_ns(self) -> list[int]:
        """What is short while all is well."""
        if not self._cores:
            return [_beat_ns()]
        leading, *others = self._cores
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {leading})
        try:
            return self._together_ns([follower for follower in self._followers if follower.core in others])
        finally:
            os.sched_setaffinity(0, before)

    @staticmethod
    def _together_ns(followers: Sequence[_Follower]) -> list[int]:
        deadline = time.perf_counter_ns() + _TOGETHER_NS
        for follower in followers:
            follower.wake()
        trips_ns = [follower.trip_ns(deadline) for follower in followers]
        for follower in followers:
            follower.say(_BEAT)
        return [_usual_beat_ns(), *trips_ns, *(follower.beat_ns(deadline) for follower in followers)]

    def close(self) -> None:
        """Ends the processes."""
        self._turns.close()
        for follower in self._followers:
            follower.close()


class _Turns:
    """Tells whether other processes had the cores of this one's threads for a while.

    They take turns of some milliseconds: a pulse is too short to see that, and an invocation that is longer takes twice
    as long. Linux counts how long each thread that could run had no core; where nothing does, all is undivided. To be
    made once the runtime has its threads.
    """

    def __init__(self) -> None:
        self._accounts: list[int] = []
        with contextlib.suppress(OSError):
            for thread in os.listdir("/proc/self/task"):
                self._accounts.append(os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY))
        self._begun_ns = self._waited_ns = 0
        self.begin()

    def begin(self) -> None:
        """Counts from now, or from a moment ago: asking the kernel takes as long as short invocations do."""
        if time.perf_counter_ns() - self._begun_ns >= _TURN_NS:
            self._begun_ns, self._waited_ns = time.perf_counter_ns(), self._all_waited_ns()

    def undivided(self) -> bool:
        """Whether the threads have hardly waited since."""
        took_ns = time.perf_counter_ns() - self._begun_ns
        return took_ns < _TURN_NS or self._all_waited_ns() - self._waited_ns <= _WAITED * took_ns

    def _all_waited_ns(self) -> int:
        waited_ns = 0
        for account in self._accounts:
            with contextlib.suppress(OSError):  # the thread has ended
                waited_ns += int(os.pread(account, 64, 0).split()[1])
        return waited_ns

    def close(self) -> None:
        """Closes what it reads."""
        while self._accounts:
            os.close(self._accounts.pop())


class _Follower:
    """A process on a core of its own, which answers and loops when it is woken.

    Args:
        core: where it runs.
        others: those started before: the process must not hold the ends of their pipes, or they would never close.
    """

    #: Where each has its say in the memory that they share: lines of their own, as processors exchange whole lines.
    _ASKED, _ANSWERED, _TOOK = 0, 256, 512

    def __init__(self, core: int, others: Sequence[_Follower]) -> None:
        self.core = core
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        waits, self._wakes = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                for end in (0, self._wakes, *(other._wakes for other in others)):
                    os.close(end)
                os.sched_setaffinity(0, {core})
                while os.read(waits, 1):  # nothing comes once the other end is gone
                    self._follow()
            finally:
                os._exit(0)
        os.close(waits)

    def _follow(self) -> None:
        memory, deadline, asked = self._memory, time.perf_counter_ns() + _TOGETHER_NS, 0
        while asked != _BEAT and time.perf_counter_ns() < deadline:
            if memory[self._ASKED] != asked:
                asked = memory[self._ANSWERED] = memory[self._ASKED]
        memory[self._TOOK : self._TOOK + 8] = _usual_beat_ns().to_bytes(8, "little")
        memory[self._ANSWERED] = _DONE

    def wake(self) -> None:
        """Has it wait for what is said."""
        self._memory[self._ASKED] = self._memory[self._ANSWERED] = 0
        os.write(self._wakes, b".")

    def say(self, message: int) -> None:
        """Tells it something other than what it was told last."""
        self._memory[self._ASKED] = message

    def heard(self) -> int:
        """What it has said last."""
        return self._memory[self._ANSWERED]

    def trip_ns(self, deadline: int) -> int:
        """How long it takes to answer once it is awake; as long as it is waited for if it does not answer."""
        trips_ns = []
        for trip in range(1, _TRIPS + 1):
            began = time.perf_counter_ns()
            self.say(trip)
            while self.heard() != trip:
                if time.perf_counter_ns() > deadline:
                    return _TOGETHER_NS
            trips_ns.append(time.perf_counter_ns() - began)
        return min(trips_ns)

    def beat_ns(self, deadline: int) -> int:
        """What its loop took; as long as it is waited for if it does not answer."""
        while self.heard() != _DONE:
            if time.perf_counter_ns() > deadline:
                return _TOGETHER_NS
        return int.from_bytes(self._memory[self._TOOK : self._TOOK + 8], "little")

    def close(self) -> None:
        """Ends the process."""
        os.close(self._wakes)
        os.waitpid(self._process, 0)


def _usual_beat_ns() -> int:
    """The median of some."""
    return sorted(_beat_ns() for _ in range(_BEATS))[_BEATS // 2]


def _beat_ns() -> int:
    """The second of two loops: what the first one needs is no longer in the caches after a large invocation.

    One of C, over bytes: the same steps of the interpreter take up to 1.4 times as long, depending on what the process
    did before, on cores that are as fast as ever.
    """
    for _ in range(2):
        start = time.perf_counter_ns()
        for _ in range(_PULSE_ROUNDS):
            _PULSE_BYTES.isspace()
    return time.perf_counter_ns() - start


class Timing(NamedTuple):
    """What a visit found.

    Attributes:
        samples_ns: durations of single invocations, nanoseconds.
        waited_ns: how long it waited for a fast core, nanoseconds.
        disturbed: whether its patience ended before it had enough invocations on a fast core: the samples are others.
    """

    samples_ns: list[int]
    waited_ns: int = 0
    disturbed: bool = False


def time_invocations(
    invoke: Invoke,
    invocations: int,
    max_visit_s: float | None,
    min_invocations: int,
    warmup: int,
    patience_s: float = 0.0,
    pulse: Pulse | None = None,
    min_visit_s: float = 0.0,
    cores: Sequence[int] = (),
) -> Timing:
    """Times single invocations on fast cores that nothing else has meanwhile; see `blsm.profiling.Protocol`.

    Where a pulse before or after finds them slow, or others had them between, invocations count as waiting. Short ones
    follow each other in bursts: a pulse after each would take longer than they do, and other threads that compute would
    sleep when the next one needs them. `cores` are those that compute, see `Pulse`.
    """
    clock = time.perf_counter_ns
    for _ in range(warmup):
        invoke()
    samples: list[int] = []
    watched = pulse if patience_s else None
    if watched is not None:
        watched.begin(cores)
    patience_ns, waited_ns, disturbed = int(patience_s * 1e9), 0, False
    most, least_ns = (invocations, 0) if max_visit_s is None else (math.inf, int(min_visit_s * 1e9))
    began = end = clock()
    fast = watched is None or watched.is_fast()
    while len(samples) < invocations or end - began - waited_ns < least_ns:
        burst: list[int] = []
        burst_began = clock()
        longest_ns, least = (_BURST_NS, 1) if watched is None else watched.burst
        while not burst or (
            (len(burst) < least or end - burst_began < longest_ns) and len(samples) + len(burst) < most
        ):
            start = clock()
            invoke()
            end = clock()
            burst.append(end - start)
        undivided = watched is None or watched.undivided()
        was_fast, fast = fast, watched is None or watched.is_fast()
        if was_fast and fast and undivided:
            samples += burst
        else:
            waited_ns += clock() - burst_began
        if waited_ns > patience_ns and watched is not None:
            if len(samples) >= min_invocations:
                break
            watched, fast, disturbed = None, True, True
            samples.clear()
        out_of_time = max_visit_s is not None and end - began - waited_ns > max_visit_s * 1e9
        if out_of_time and len(samples) >= min_invocations:
            break
    return Timing(samples, waited_ns, disturbed)


def time_cold(invoke: Invoke, invocations: int, pulse: Pulse, cores: Sequence[int] = (), warm_ns: int = 0) -> list[int]:
    """Durations of invocations that find their data in no cache, nanoseconds; none if cores were disturbed mostly.

    Args:
        invoke: what computes.
        invocations: how many, at most.
        pulse: tells whether the cores are fast.
        cores: those that compute, see `Pulse`. Where they are several, their threads fall asleep while caches are
            emptied; what waking them takes, which is no part of a network, is taken off.
        warm_ns: the least that an invocation takes with warm caches and threads awake.
    """
    pulse.begin(cores)

    def add_to(samples: list[int]) -> None:
        was_fast = pulse.is_fast()
        start = time.perf_counter_ns()
        invoke()
        took_ns = time.perf_counter_ns() - start
        if was_fast and pulse.undivided() and pulse.is_fast():
            samples.append(took_ns)

    cold: list[int] = []
    asleep: list[int] = []
    for _ in range(_COLD_TRIES * invocations):
        if len(cold) == invocations:
            break
        started = time.perf_counter()
        empty_caches(cores)
        emptying_s = time.perf_counter() - started
        add_to(cold)
        if len(cores) > 1:
            started = time.perf_counter()
            while time.perf_counter() - started < emptying_s:
                pass
            add_to(asleep)
    if len(cold) < _COLD_SHARE * invocations or (len(cores) > 1 and not asleep):
        return []
    waking_ns = max(0, min(asleep) - warm_ns) if asleep else 0
    return [took_ns - waking_ns for took_ns in cold]


def empty_caches(cores: Sequence[int] = ()) -> None:
    """Fills the caches of some cores, of the calling thread's if there are less than two, with other data."""
    elsewhere, part = _elsewhere()
    elsewhere.sum()
    if len(cores) > 1:
        before = os.sched_getaffinity(0)
        try:
            for core in cores:
                os.sched_setaffinity(0, {core})
                part.sum()
        finally:
            os.sched_setaffinity(0, before)


@functools.cache
def _elsewhere() -> tuple[Any, Any]:
    """Twice as much memory as the largest cache, which cores share, holds; and as the next smaller one of each."""
    import numpy as np

    own, largest = [2 * min(size, _LARGEST_CACHE) // 8 for size in cache_sizes()[-2:]]
    elsewhere = np.ones(largest)
    return elsewhere, elsewhere[:own]


def cache_sizes() -> list[int]:
    """Bytes of the caches of the first core, ascending."""
    try:
        texts = [file.read_text().strip() for file in _CACHES.glob("index*/size")]
        sizes = sorted(int(text.removesuffix("K")) << 10 for text in texts)
    except (OSError, ValueError):
        sizes = []
    return sizes if len(sizes) > 1 else [_USUAL_CACHE, _USUAL_CACHE]


def spread_threads(invoke: Invoke, cores: Sequence[int]) -> Sequence[int]:
    """Gives each of the threads that compute a core of its own.

    The kernel may leave two of them on one core for half a minute, while another one idles: all takes twice as long
    then. They are known by the time that they take in a few invocations, spinning included, and stay where they are but
    for those whose core is taken.

    Args:
        invoke: what computes.
        cores: those that the process may use.

    Returns:
        The cores that they have.
    """
    if len(cores) < 2:
        return cores
    invoke()  # some runtimes make their threads now
    threads = Path("/proc/self/task")
    try:
        before = {int(thread.name): _taken_ns(int(thread.name)) for thread in threads.iterdir()}
        started = time.perf_counter()
        while time.perf_counter() - started < _SPREAD_S:
            invoke()
        took = {thread: _taken_ns(thread) - ns for thread, ns in before.items()}
        # Fields of `stat` after the name, which may contain anything: the 37th of them is where it ran last.
        ran = {thread: int((threads / f"{thread}/stat").read_text().rpartition(")")[2].split()[36]) for thread in took}
    except OSError:  # a kernel that does not say, or a thread that ended
        return ()
    busy = sorted((t for t in took if took[t] > _BUSY * max(took.values())), key=lambda t: -took[t])[: len(cores)]
    stays = {ran[thread]: thread for thread in reversed(busy)}  # core -> the busiest thread on it
    free = [core for core in cores if core not in stays]
    placed = []
    for thread in busy:
        placed.append(ran[thread] if stays[ran[thread]] == thread else free.pop())
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, placed[-1:])
    return sorted(placed)


def _taken_ns(thread: int) -> int:
    """The time that a thread of this process has run, nanoseconds."""
    # The clock of a thread by its number, see clock_getcpuclockid(3); /proc knows the time of the last tick only.
    return time.clock_gettime_ns((~thread << 3) | 6)


def answer(
    request: dict[str, Any], runner: str, options: dict[str, Any], cores: Sequence[int], pulse: Pulse
) -> dict[str, Any]:
    """The answer to one request; `cores` are those that the process may use."""
    try:
        if "facts" in request:
            return facts(runner)
        os.sched_setaffinity(0, cores)  # new threads inherit it
        invoke = RUNNERS[runner](request.pop("artifact"), **options)
        computing = spread_threads(invoke, cores)
        started_s = time.time()
        # Where many invocations are dispatched at once, another processor computes.
        count = invoke.invocations if isinstance(invoke, Dispatch) else 1
        cold_invocations = request.pop("cold_invocations", 0)
        timing = time_invocations(invoke, **request, pulse=pulse if count == 1 else None, cores=computing)
        times_cold = cold_invocations and count == 1 and computing  # not where it is unknown which cores compute
        warm_ns = min(timing.samples_ns)
        return {
            "samples_ns": [sample_ns // count for sample_ns in timing.samples_ns],
            "cold_ns": time_cold(invoke, cold_invocations, pulse, computing, warm_ns) if times_cold else [],
            "waited_s": timing.waited_ns / 1e9,
            "disturbed": timing.disturbed,
            "started_s": started_s,
        }
    except Exception as error:  # noqa: BLE001  # whatever a runtime raises is this block's failure, not the worker's
        return {"error": f"{type(error).__name__}: {error}"}


def answer_apart(make: Callable[[], dict[str, Any]], pulse: Pulse, say: Callable[[dict[str, Any]], None]) -> None:
    """Answers a request from a process of its own, forked from this one; dies as that one dies.

    Args:
        make: makes the answer.
        pulse: learns what that process found.
        say: called with {"process": its number}, then with the answer.
    """
    reads, writes = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
            os.close(reads)
            pulse.latest = None  # a request that fails, or waits for nothing, has no visit to tell of
            with os.fdopen(writes, "w") as file:
                json.dump((make(), pulse.latest), file)
            status = 0
        finally:
            os._exit(status)
    os.close(writes)
    say({"process": process})
    with os.fdopen(reads) as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status < 0:
        os.kill(os.getpid(), -status)
    if not text:
        sys.exit(status)
    known, latest = json.loads(text)
    if latest is not None:
        pulse.learn(*latest)
    say(known)


class WorkerError(Exception):
    """A request crashed the measuring process, took too much memory, or did not end."""


class Worker:
    """A measuring process, replaced when a request crashes or hangs it.

    Args:
        command: starts it, see `worker_command`.
        memory_bytes: a request that takes more fails; most of what is free now, if None.
    """

    def __init__(self, command: Sequence[str], memory_bytes: int | None = None) -> None:
        self._command = command
        self._memory_bytes = memory_bytes or memory_limit()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the worker
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, Any], timeout_s: float, hangup: IO[bytes] | None = None) -> dict[str, Any]:
        """The answer to a request.

        Args:
            request: see the module's description.
            timeout_s: it counts as hung after this.
            hangup: a stream on which nothing comes while this waits, unless its other end is gone.

        Raises:
            WorkerError: the process died, hung or took too much memory; the next request gets a new one.
            EOFError: the other end of `hangup` is gone.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            computing, received, waited_s, watch_s = process.pid, b"", 0.0, min(timeout_s, _WATCH_S)
            while True:
                while not _says(process.stdout, hangup, watch_s):
                    # Not by the clock, which goes on while all processes are stopped, by Ctrl-Z say.
                    waited_s += watch_s
                    reason = exhausted(computing, self._memory_bytes)
                    if waited_s >= timeout_s:
                        reason = f"it did not end within {timeout_s:g} s"
                    if reason:
                        process.kill()
                        self._stop()
                        raise WorkerError(reason)
                # Not by `readline`, which would keep to itself what came with the line.
                if not (some := os.read(process.stdout.fileno(), 1 << 16)):
                    raise BrokenPipeError
                *lines, received = (received + some).split(b"\n")
                for line in lines:
                    known = dict(json.loads(line))
                    if "process" not in known:
                        return known
                    computing = known["process"]
        except (BrokenPipeError, json.JSONDecodeError):
            code = self._stop()
            raise WorkerError(f"the measuring process died with status {code}{last_line(self._log, ': ')}") from None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
            )
        return self._process

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        # A process that died by itself tells its status; it needs a moment to be reaped.
        try:
            code = process.wait(0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        with contextlib.suppress(BrokenPipeError):  # it may hold the rest of a request that nobody reads any more
            process.stdin.close()
        process.stdout.close()
        return code

    def close(self) -> None:
        """Ends the process."""
        self._stop()
        self._log.close()


def _says(source: IO[bytes], hangup: IO[bytes] | None, timeout_s: float) -> bool:
    """Whether a process says something or ends within some seconds; raises EOFError where `hangup` does first."""
    with selectors.DefaultSelector() as selector:
        for stream in (source, hangup):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        ready = [key.fileobj for key, _ in selector.select(timeout_s)]
    if ready and source not in ready:
        raise EOFError
    return bool(ready)


def worker_command(script: str, runner: str, options: Mapping[str, Any], core: int | None) -> list[str]:
    """The command that starts a measuring process.

    Args:
        script: this file.
        runner: one of `RUNNERS`.
        options: its arguments.
        core: CPU core that it runs on; any if None.
    """
    command = [sys.executable, script, runner, "--options", json.dumps(dict(options))]
    return command if core is None else [*command, "--core", str(core)]


def last_line(log: IO[bytes], before: str = "") -> str:
    """Last line of a log that another process writes to, after `before`; nothing where it wrote nothing."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return before + lines[-1].strip() if lines else ""


def supervise(source: bytes) -> None:
    """Serves the other end of a connection, on standard input and output, until it is gone.

    It keeps the artifacts in a temporary folder and gives the requests to a measuring process, so that an artifact that
    crashes the runtime does not cut the connection. Each message is a JSON line:

    Setup:   {"runner", "options", "pin": to measure on one core alone}
    Answer:  {"blsm_worker": 1, "cores", and what `facts` returns}
    Request: {"artifact": number, "bytes": how many follow the line, None if it was sent before, "drop": numbers of
             artifacts that are not needed any more, "timeout_s", "settings": rest of the measuring process' request}
    Answer:  that of the measuring process, or {"died": why it died} or {"fault": what is wrong with this machine}; and
             "busy_s", the time that the measuring process took.

    Args:
        source: of this file.
    """
    requests, answers = sys.stdin.buffer, sys.stdout.buffer

    def say(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())  # so that the folder is removed
    setup = json.loads(requests.readline())
    cores = available_cores()
    core = cores[-1] if setup["pin"] and len(cores) > 1 else None
    try:
        with tempfile.TemporaryDirectory(prefix="blsm-") as folder, contextlib.suppress(EOFError, BrokenPipeError):
            script = Path(folder) / "worker.py"
            script.write_bytes(source)
            command = worker_command(str(script), setup["runner"], setup["options"], core)
            with contextlib.closing(Worker(command)) as worker:
                try:
                    known = worker.ask({"facts": True}, FACTS_TIMEOUT_S, requests)
                except WorkerError as error:
                    known = {"error": str(error)}
                say({"blsm_worker": PROTOCOL_NUMBER, "cores": len(cores), **known})
                while line := requests.readline():
                    say(_supervised(json.loads(line), Path(folder), worker, requests))
    except OSError as error:  # in place of the first answer
        say({"blsm_worker": PROTOCOL_NUMBER, "error": f"it can't write temporary files: {error.strerror or error}"})


def _supervised(request: dict[str, Any], folder: Path, worker: Worker, requests: IO[bytes]) -> dict[str, Any]:
    artifact = folder / f"{request['artifact']:d}"
    data = requests.read(request["bytes"] or 0)
    try:
        for number in request["drop"]:
            (folder / f"{number:d}").unlink()
        if request["bytes"] is not None:
            artifact.write_bytes(data)
    except OSError as error:
        return {"fault": f"cannot keep an artifact in {folder}: {error.strerror}"}
    started = time.monotonic()
    try:
        known = worker.ask({"artifact": str(artifact), **request["settings"]}, request["timeout_s"], requests)
    except WorkerError as error:
        known = {"died": str(error)}
    return {**known, "busy_s": time.monotonic() - started}


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
    cores = available_cores()
    pulse = Pulse(cores)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    if (prepare := FORKING.get(arguments.runner)) is not None:
        with contextlib.suppress(ImportError):  # each request tells
            prepare()
        gc.freeze()
    for line in sys.stdin:
        make = functools.partial(answer, json.loads(line), arguments.runner, arguments.options, cores, pulse)
        if prepare is None:
            say(make())
        else:
            answer_apart(make, pulse, say)


if __name__ == "__main__":
    main()
