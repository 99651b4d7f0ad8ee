"""What the server counts, in Prometheus' text format."""

import prometheus_client as prometheus

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one server, in a registry of its own.

    Attributes:
        requests: requests by interface, method and status.
        seconds: how long they took: over REST from the end of the head, over gRPC from that of the message, until the answer
            is made; sending it is not in it.
        queue: examples that wait for a batch.
        batch_size: examples of a batch.
        model_seconds: how long a batch took.
        version: 1 for each version that answers, by its number.
        loads: loaded versions by how it ended (`ok` or `failed`).
    """

    def __init__(self) -> None:
        registry = self._registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "tfpt_requests", "Requests.", ["interface", "method", "status"], registry=registry
        )
        self.seconds = prometheus.Histogram(
            "tfpt_request_seconds",
            "Seconds of a request.",
            ["interface", "method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue = prometheus.Gauge("tfpt_queue_examples", "Examples that wait.", registry=registry)
        self.batch_size = prometheus.Histogram(
            "tfpt_batch_examples",
            "Examples of a batch.",
            buckets=[2**k for k in range(11)],
            registry=registry,
        )
        self.model_seconds = prometheus.Histogram(
            "tfpt_model_seconds", "Seconds of a batch.", buckets=_SECONDS, registry=registry
        )
        self.version = prometheus.Gauge(
            "tfpt_version", "Versions that answer.", ["model", "version"], registry=registry
        )
        self.loads = prometheus.Counter("tfpt_loads", "Versions that were loaded.", ["result"], registry=registry)

    def text(self) -> bytes:
        """Returns all of them."""
        return prometheus.generate_latest(self._registry)
