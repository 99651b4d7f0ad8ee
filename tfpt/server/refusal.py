"""What a client is told instead of an answer."""

import enum


class Code(enum.Enum):
    """Why a request is refused: gRPC's code, and HTTP's status as TensorFlow Serving maps it.

    Where TensorFlow Serving's code would be a 5xx that blames the server for the client's doing, HTTP's own 4xx is used.
    """

    INVALID_ARGUMENT = 400
    FAILED_PRECONDITION = 412
    NOT_FOUND = 404
    TOO_SLOW = 408
    TOO_LARGE = 413
    UNAVAILABLE = 503

    @property
    def http(self) -> int:
        """The HTTP status."""
        return 400 if self is Code.FAILED_PRECONDITION else self.value

    @property
    def grpc(self) -> str:
        """The name of gRPC's status code."""
        return {"TOO_SLOW": "DEADLINE_EXCEEDED", "TOO_LARGE": "RESOURCE_EXHAUSTED"}.get(self.name, self.name)


class Refusal(Exception):  # noqa: N818 (nothing went wrong here: it is an answer)
    """A request that is not answered.

    Attributes:
        code: why.
        sentence: the same in words, for the client.
    """

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def invalid(sentence: str) -> Refusal:
    """Returns the refusal of a request that is wrong in itself."""
    return Refusal(Code.INVALID_ARGUMENT, sentence)


def busy(sentence: str) -> Refusal:
    """Returns the refusal of a request that may be answered later."""
    return Refusal(Code.UNAVAILABLE, sentence)
