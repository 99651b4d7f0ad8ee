"""Where the time of training goes: waiting for examples, the device, and what is done between calls."""

import collections
import dataclasses

WINDOW = 10.0
"""Seconds that are looked back on, and that must have passed before anything is said to be slow."""
INPUT_BOUND = 0.25
"""A device that waits for examples a larger share of the time is waiting too much."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One call of updates.

    Attributes:
        began: seconds since the call before ended, evaluations left out.
        seconds: it took.
        waited: of these, for examples.
        examples: it trained.
        elements: of their inputs, padding counted.
    """

    began: float
    seconds: float
    waited: float
    examples: float
    elements: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast training was lately.

    Attributes:
        examples_per_second: over all replicas.
        replicas: how many there are.
        input: share of the time in which the device waited for examples.
        device: share in which updates were computed.
        host: share between the calls: rows of history, checkpoints, trackers.
        utilisation: counted operations of the model against what the device could do; None where that is not known.
        seconds: of training it was measured over.
    """

    examples_per_second: float
    replicas: int
    input: float
    device: float
    host: float
    utilisation: float | None
    seconds: float

    def __str__(self) -> str:
        """Returns what a line of progress shows after the examples a second."""
        parts = [f"{self.examples_per_second / self.replicas:,.1f} a replica"] if self.replicas > 1 else []
        parts.append(f"{self.input:.0%} input {self.device:.0%} device {self.host:.0%} host")
        parts += [] if self.utilisation is None else [f"MFU {self.utilisation:.1%}"]
        return "  ".join(parts)

    @property
    def is_input_bound(self) -> bool:
        """Whether examples come too slowly, over long enough to say so."""
        return self.seconds >= WINDOW and self.input > INPUT_BOUND


class Throughput:
    """Measures a stage, over the last `WINDOW` seconds.

    Args:
        replicas: of all processes.
        flops: operations that this process makes for one element of the inputs; 0: not counted.
        peak: operations a second that the devices of this process could make; 0: not known.
    """

    def __init__(self, *, replicas: int, flops: float = 0.0, peak: float = 0.0) -> None:
        self._replicas, self._flops, self._peak = replicas, flops, peak
        self._calls: collections.deque[Call] = collections.deque()
        self._seconds = 0.0
        self._ended: float | None = None
        self._warm = False

    def add(self, *, started: float, ended: float, waited: float, examples: float, elements: int) -> None:
        """Counts a call of updates; the first one, in which everything is compiled, is left out.

        Args:
            started: clock at its begin.
            ended: clock at its end.
            waited: seconds in it that went by until examples were there.
            examples: it trained.
            elements: of their inputs, padding counted.
        """
        began = started - self._ended if self._ended is not None else 0.0
        self._ended = ended
        if not self._warm:
            self._warm = True
            return
        call = Call(began=began, seconds=ended - started, waited=waited, examples=examples, elements=elements)
        self._calls.append(call)
        self._seconds += call.began + call.seconds
        while self._seconds - self._calls[0].began - self._calls[0].seconds >= WINDOW:
            oldest = self._calls.popleft()
            self._seconds -= oldest.began + oldest.seconds

    def pause(self) -> None:
        """Leaves out the time until the next call: an evaluation is no part of training."""
        self._ended = None

    def rate(self) -> Rate | None:
        """Returns how fast it is; None before the second call."""
        calls, seconds = self._calls, max(self._seconds, 1e-9)
        if not calls:
            return None
        waited, host = (sum(getattr(call, name) for call in calls) / seconds for name in ("waited", "began"))
        done = self._flops * sum(call.elements for call in calls)
        return Rate(
            examples_per_second=sum(call.examples for call in calls) / seconds,
            replicas=self._replicas,
            input=waited,
            device=1 - waited - host,
            host=host,
            utilisation=done / seconds / self._peak if self._flops and self._peak else None,
            seconds=seconds,
        )
