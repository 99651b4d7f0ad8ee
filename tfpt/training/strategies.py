"""Over how many devices and machines one run is spread, and how its processes agree.

A row of the plan is the global batch. Every replica takes its slice of it and gradients, losses and weights are summed, so
that an update is the same however many there are. Of several processes only the first, the chief, decides by the clock and
writes.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfpt.config import Runtime, Train
from tfpt.errors import Preempted, UserError
from tfpt.layers.hub_module import VariableScope
from tfpt.training.machine import device_name

SECONDS_OF_SILENCE = 60
"""Of a worker, after which it counts as dead."""


class Together:
    """The devices and processes of a run.

    Args:
        strategy: how they work together.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.replicas: int = strategy.num_replicas_in_sync
        resolver = strategy.cluster_resolver
        workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and resolver
        self.workers = len(resolver.cluster_spec().as_dict()["worker"]) if workers else 1
        self.worker = int(resolver.task_id or 0) if workers else 0
        self._total = self._compiled_total()

    @property
    def is_chief(self) -> bool:
        """Whether this process decides and writes."""
        return self.worker == 0

    @property
    def is_tpu(self) -> bool:
        """Whether the devices are TPUs, which need batches of one shape."""
        return isinstance(self.strategy, tf.distribute.TPUStrategy)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the block in which variables belong to all devices; nothing changes where there is only one."""
        return self.strategy.scope() if self.replicas > 1 else contextlib.nullcontext()

    def of_chief(self, values: Mapping[str, float]) -> dict[str, float]:
        """Returns the chief's values, on all processes; each must ask at the same moment."""
        if self.workers == 1:
            return dict(values)
        mine = [float(value) if self.is_chief else 0.0 for value in values.values()]
        return dict(zip(values, self._total(tf.constant(mine, tf.float64)).numpy().tolist(), strict=True))

    def agree(
        self, *, pace: int, timed: bool, stop: KeyboardInterrupt | None
    ) -> tuple[int, bool, KeyboardInterrupt | None]:
        """Makes one decision of those of all processes: the chief's clock, and whoever was asked to stop.

        Args:
            pace: updates in the next call.
            timed: whether a checkpoint is due by the clock.
            stop: what this process was asked to stop with.
        """
        if self.workers == 1:
            return pace, timed, stop
        mine = [*(map(float, (pace, timed)) if self.is_chief else (0.0, 0.0)), float(stop is not None)]
        pace, timed, stopped = self._total(tf.constant(mine, tf.float64)).numpy().tolist()
        return int(pace), timed > 0, (stop or Preempted()) if stopped else None

    @contextlib.contextmanager
    def chief_first(self) -> Iterator[None]:
        """Lets the chief go through the block before the others."""
        if not self.is_chief:
            self.wait()
        yield
        if self.is_chief:
            self.wait()

    @contextlib.contextmanager
    def losing_no_worker(self) -> Iterator[None]:
        """Turns the errors of a block in which another process died into what starts all of them again.

        Raises:
            Preempted: another process died.
        """
        try:
            yield
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
            if self.workers == 1:
                raise
            raise Preempted("another worker was lost") from error

    def device_name(self) -> str:
        """Returns what trains, in words."""
        if self.replicas == 1:
            return device_name()
        spread = f" on {self.workers} workers" if self.workers > 1 else ""
        return f"{self.replicas} replicas{spread}, each {device_name(of_several=True)}"

    def check_alike(self, what: str, sentence: str) -> None:
        """Refuses to go on where processes do not have the same; each must ask at the same moment.

        Args:
            what: this process has.
            sentence: of the error.

        Raises:
            UserError: on all processes.
        """
        if self.workers == 1:
            return
        mine = float(int.from_bytes(hashlib.blake2b(what.encode(), digest_size=4).digest(), "big"))
        differs = round(self.of_chief({"": mine})[""]) != mine
        if self._total(tf.constant([float(differs)], tf.float64)).numpy()[0] > 0:
            raise UserError(sentence)

    def wait(self) -> None:
        """Waits until all processes are here."""
        self.of_chief({"": 0.0})

    def leave(self) -> bool:
        """Waits until all processes are at their end: one that leaves earlier takes the others with it.

        Returns:
            Whether all were there. Of those that were the first to leave may be gone before the last has heard of it.
        """
        try:
            self.wait()
        except tf.errors.OpError:
            return False
        return True

    def _compiled_total(self) -> Callable[[tf.Tensor], tf.Tensor]:
        local = self.replicas // self.workers

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.float64)])
        def total(values: tf.Tensor) -> tf.Tensor:
            def replica(mine: tf.Tensor) -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                return context.all_reduce(tf.distribute.ReduceOp.SUM, mine / local)

            return self.strategy.experimental_local_results(self.strategy.run(replica, args=(values,)))[0]

        return total


def start(options: Runtime) -> Together:
    """Returns the devices and processes that the settings ask for. A process has one strategy in its life.

    It must be called before TensorFlow does anything.

    Raises:
        UserError: what is asked for is not there, or the process has begun with something else.
    """
    together = _made(options.strategy, options.workers, options.worker, options.replicas, options.tpu)
    _started[:] = [together]
    return together


def current() -> Together:
    """Returns what was started; one device where nothing was."""
    return _started[0] if _started else Together(tf.distribute.get_strategy())


_started: list[Together] = []


@functools.lru_cache(maxsize=1)
def _made(name: str, workers: Sequence[str], worker: int, replicas: int, tpu: str) -> Together:
    makers: dict[str, Callable[..., tf.distribute.Strategy]] = {
        "auto": _auto,
        "one": _one,
        "mirrored": _mirrored,
        "multi_worker": _multi_worker,
        "tpu": _tpu,
    }
    return Together(makers[name](workers=workers, worker=worker, replicas=replicas, tpu=tpu))


def _auto(**options: Any) -> tf.distribute.Strategy:
    """Several workers where they are named, all GPUs of this machine where it has more than one, else one device."""
    if options["workers"] or _cluster_size() > 1:
        return _multi_worker(**options)
    if options["tpu"]:
        return _tpu(**options)
    if options["replicas"] > 1 or len(tf.config.list_physical_devices("GPU")) > 1:
        return _mirrored(**options)
    return _one()


def _one(**_: Any) -> tf.distribute.Strategy:
    return tf.distribute.get_strategy()


def _mirrored(*, replicas: int, **_: Any) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(_local_devices(replicas))


def _local_devices(replicas: int) -> list[str]:
    """Returns the GPUs of this machine, or as many logical CPUs as are asked for where it has none."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if replicas > len(gpus):
            raise UserError(f"--runtime.replicas={replicas}: this machine has {len(gpus)} GPUs.")
        return [f"GPU:{k}" for k in range(replicas or len(gpus))]
    _split_cpu(max(1, replicas))
    return [f"CPU:{k}" for k in range(max(1, replicas))]


def _split_cpu(count: int) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise UserError(
            f"--runtime.replicas={count}: TensorFlow already runs in this process with other devices; start afresh."
        ) from error


def _multi_worker(*, workers: Sequence[str], worker: int, replicas: int, **_: Any) -> tf.distribute.Strategy:
    """Several machines: `--runtime.workers`, TF_CONFIG, or Slurm's variables, in this order."""
    resolver: Any = None
    if workers:
        if not 0 <= worker < len(workers):
            raise UserError(
                f"--runtime.worker={worker}: each of the {len(workers)} processes of --runtime.workers needs its own number, from 0."
            )
        cluster = tf.train.ClusterSpec({"worker": list(workers)})
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            cluster, task_type="worker", task_id=worker, rpc_layer="grpc"
        )
    elif "TF_CONFIG" in os.environ:
        addresses, place = _of_tf_config()
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": addresses}), task_type="worker", task_id=place, rpc_layer="grpc"
        )
    else:
        if "SLURM_PROCID" not in os.environ:
            raise UserError(
                "--runtime.strategy=multi_worker needs --runtime.workers=HOST:PORT,HOST:PORT with --runtime.worker, or TF_CONFIG, or a start by "
                "Slurm's srun."
            )
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
    if not tf.config.list_physical_devices("GPU") and replicas > 1:
        raise UserError(f"--runtime.replicas={replicas}: with several workers each CPU is one replica.")
    try:
        with _patience():
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise UserError(
            "--runtime.strategy=multi_worker: TensorFlow already runs in this process; start afresh."
        ) from error


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Lets a worker be silent for `SECONDS_OF_SILENCE` before it counts as dead; TensorFlow's strategy, made in the block, has no
    setting for it and takes ten, which a machine that is busy, or moved, may miss. One that is killed is missed at once."""
    from tensorflow.python.eager import context

    now = context.context()
    plain = now.configure_coordination_service
    setattr(  # noqa: B010
        now,
        "configure_coordination_service",
        functools.partial(plain, heartbeat_timeout_in_ms=1000 * SECONDS_OF_SILENCE),
    )
    try:
        yield
    finally:
        del now.configure_coordination_service


def _of_tf_config() -> tuple[list[str], int]:
    """Returns the addresses of TF_CONFIG, its chief's first, and which of them is this process'.

    Raises:
        UserError: it is damaged, or has other than workers.
    """
    try:
        given = json.loads(os.environ["TF_CONFIG"])
        jobs, kind, index = given["cluster"], given["task"]["type"], int(given["task"]["index"])
        chiefs, workers = list(jobs.get("chief", [])), list(jobs.get("worker", []))
        others = sorted({*jobs, kind} - {"chief", "worker"})
        place = index + (len(chiefs) if kind == "worker" else 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            'TF_CONFIG is not {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}; mend it, or give '
            "--runtime.workers."
        ) from error
    if others or not 0 <= place < len(chiefs) + len(workers):
        named = f"{kind} {index}" if not others else " and ".join(others)
        raise UserError(f"TF_CONFIG names {named}; tfpt trains with a chief and workers, numbered from 0.")
    return [*chiefs, *workers], place


def _cluster_size() -> int:
    try:
        given = json.loads(os.environ.get("TF_CONFIG", "{}"))
    except ValueError:
        return 1
    return len(_of_tf_config()[0]) if "cluster" in given else 1


def _tpu(*, tpu: str, **_: Any) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver
    try:
        found = resolver.TPUClusterResolver.connect(tpu or "local")
        return tf.distribute.TPUStrategy(found)
    except (ValueError, tf.errors.OpError) as error:
        sentence = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--runtime.strategy=tpu: no TPU answers as --runtime.tpu={tpu or 'local'} ({sentence}); see docs/tpu.md."
        ) from error


def slice_of_replica(batch: Any, replica: Any, *, replicas: int, parts: int) -> Any:
    """Returns a replica's share of a global batch: the same share of each part that is accumulated, so that a part holds the
    same examples over all replicas as it does on one device.

    Args:
        batch: tensors `[batch, ...]`.
        replica: number, from 0.
        replicas: how many there are.
        parts: of `--train.accumulate`.
    """

    def cut(values: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(values)
        size = values.shape[0]
        share = shape[0] // (parts * replicas) if size is None else size // (parts * replicas)
        split = tf.reshape(values, tf.concat([[parts, replicas, share], shape[1:]], axis=0))
        mine = tf.reshape(split[:, replica], tf.concat([[parts * share], shape[1:]], axis=0))
        mine.set_shape([None if size is None else parts * share, *values.shape[1:]])
        return mine

    return tf.nest.map_structure(cut, batch)


def check(options: Train, *, replicas: int, precision: str) -> None:
    """Refuses what several replicas cannot do.

    Raises:
        UserError: the batch cannot be shared, or the arithmetic is float16.
    """
    if replicas == 1:
        return
    multiple = options.accumulate * replicas
    if options.batch_size % multiple:
        nearest = max(1, round(options.batch_size / multiple)) * multiple
        times = f", {options.accumulate} parts each" if options.accumulate > 1 else ""
        raise UserError(
            f"--train.batch_size={options.batch_size} is over all devices together and cannot be shared by {replicas}{times}; write {nearest}."
        )
    if precision == "float16":
        raise UserError(
            f"--train.precision=float16 trains on one device, and there are {replicas} replicas; write bfloat16 or --runtime.strategy=one."
        )


@contextlib.contextmanager
def seeds_by_replica(replicas: int) -> Iterator[None]:
    """Folds the replica's number into what Keras' seed generators give while a step is traced.

    Otherwise every replica would drop the same units of its examples.
    """
    if replicas == 1:
        yield
        return
    generator = keras.random.SeedGenerator
    plain = generator.next

    def folded(self: Any, ordered: bool = True) -> tf.Tensor:
        seed = plain(self, ordered=ordered)
        context = tf.distribute.get_replica_context()
        if context is None:
            return seed
        mine = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int32), context.replica_id_in_sync_group)
        return tf.cast(mine, seed.dtype)

    generator.next = folded
    try:
        yield
    finally:
        generator.next = plain


def synchronise_batch_norm(model: keras.Model) -> None:
    """Makes batch normalisation take its statistics over all replicas, which then also agree on the moving ones.

    Raises:
        UserError: one that would train is part of a SavedModel, where nothing can be changed.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, VariableScope) and layer.trainable and layer.statistics:
            raise UserError(
                "--train.batch_norm: that of a SavedModel cannot take its statistics over several replicas; write frozen, or "
                "--runtime.strategy=one."
            )
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
