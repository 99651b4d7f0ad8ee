"""What the server can be told: the flags of the group `serve`. No TensorFlow here."""

import dataclasses

from tfpt.config import check, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the group `serve`."""

    host: str = setting(
        "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in, and nobody is asked who he is."
    )
    port: int = setting(8501, "Port of the REST interface and the web page; 0: a free one.")
    grpc_port: int | None = setting(8500, "Port of the gRPC interface; 0: a free one; none: no gRPC.")
    name: str = setting("", "Name that clients use; default: the model folder's.")
    versions: tuple[str, ...] = setting(
        ("latest",), "Version folders that are served: latest, all, or numbers with commas between them."
    )
    labels: tuple[str, ...] = setting((), "Names for versions, such as stable=1,canary=2; these versions stay loaded.")
    poll_seconds: float = setting(2.0, "How often the model's folder is looked at for new versions; 0: never.")
    batch_size: int = setting(32, "Most examples that are computed together.")
    batch_wait_ms: float = setting(
        5.0, "Longest that an example waits for others that are on their way; one that is alone never waits."
    )
    queue: int = setting(1000, "Examples that may wait; beyond that clients are told to come back later (503).")
    timeout_seconds: float = setting(
        30.0, "Longest time to send a request, longest time to answer it, and longest time to read the answer."
    )
    drain_seconds: float = setting(
        0.0, "How long /readyz says 503 before the server stops to listen: time for a load balancer to see it."
    )
    connections: int = setting(512, "Most requests that are being answered at a time, and connections that stay open.")
    max_body_mb: float = setting(32.0, "Largest request, in megabytes.")
    max_megapixels: float = setting(50.0, "Largest picture, in millions of pixels; all frames of a moving one count.")
    max_text_length: int = setting(100_000, "Longest text, in bytes of UTF-8.")

    def __post_init__(self) -> None:
        for name in ("port", "grpc_port"):
            check(0 <= (getattr(self, name) or 0) < 2**16, f"{name}: {getattr(self, name)} is not between 0 and 65535")
        check(
            self.versions in (("latest",), ("all",)) or (self.versions != () and all(map(_is_number, self.versions))),
            f"versions: {','.join(self.versions)} is not latest, all or numbers",
        )
        for label in self.labels:
            name, _, version = label.partition("=")
            check(bool(name) and _is_number(version), f"labels: {label} is not NAME=NUMBER")
        check(
            "/" not in self.name and ":" not in self.name, f"name: {self.name} holds a / or a :, which no address can"
        )
        for name in ("poll_seconds", "batch_wait_ms", "drain_seconds"):
            check(getattr(self, name) >= 0, f"{name}: {getattr(self, name)} is negative")
        for name in ("timeout_seconds", "max_body_mb", "max_megapixels"):
            check(getattr(self, name) > 0, f"{name}: {getattr(self, name)} is not positive")
        for name in ("batch_size", "queue", "connections", "max_text_length"):
            check(getattr(self, name) >= 1, f"{name}: {getattr(self, name)} is not at least 1")
        check(self.queue >= self.batch_size, f"queue: {self.queue} is less than --serve.batch_size={self.batch_size}")

    @property
    def max_body(self) -> int:
        """The largest request in bytes."""
        return int(self.max_body_mb * 1e6)

    @property
    def max_pixels(self) -> int:
        """The largest picture in pixels."""
        return int(self.max_megapixels * 1e6)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19
