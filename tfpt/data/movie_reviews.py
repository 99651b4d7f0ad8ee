"""`--data=movie_reviews`: 10,605 sentences of film reviews that people rated; a file of 1.4 MB that is fetched once."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfpt.config import check, setting
from tfpt.data import DataSource, Index, Info
from tfpt.data._content import content_hash
from tfpt.data._texts import Texts, TextsBuilder
from tfpt.data._utf8 import lines
from tfpt.errors import UserError
from tfpt.weights import catalogue
from tfpt.weights.fetch import fetch

if TYPE_CHECKING:
    import numpy as np

_CLASSES = ("negative", "positive")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Rated:
    """The sentences that are used: their numbers in the file, `[n]`, texts and mean ratings, `[n]` float32."""

    numbers: Sequence[str]
    texts: Texts
    ratings: "np.ndarray"
    left_out: int


class MovieReviews(DataSource):
    """Sentences of film reviews in English, each with the mean of people's ratings from -4 (negative) to 4 (positive).

    From Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014;
    please cite it. The file is in the source package of vaderSentiment, whose licence is MIT; the sentences come from reviews
    on a web site, by way of Pang & Lee. The file does not say which review a sentence is from, so a split is by sentence.
    The Stanford Sentiment Treebank (SST-2) is made of the same reviews: a model trained on one is not to be tested on the other.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(DataSource.Config):
        """Flags of the group `data`."""

        label: str = setting(
            "sentiment",
            "What is learned. sentiment: negative or positive, the sign of the mean rating; rating: the number, from -4 to 4.",
            choices=("sentiment", "rating"),
        )
        neutral: float = setting(
            0.0,
            "With --data.label=sentiment, sentences whose mean rating is at most this far from 0 are left out; at 0 the 37 that are neither.",
        )

        def __post_init__(self) -> None:
            check(0 <= self.neutral < 4, f"neutral: {self.neutral} is not at least 0 and below 4")
            check(
                self.label == "sentiment" or not self.neutral,
                f"neutral: {self.neutral} leaves sentences out for --data.label=sentiment only",
            )

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if argument:
            raise UserError(
                f"--data=movie_reviews:{argument}: movie_reviews takes no argument; write --data=movie_reviews."
            )

    def data_files(self) -> Sequence[str]:
        """Returns the file's name in the catalogue."""
        return ("movie_reviews",)

    def info(self) -> Info:
        """Returns the two classes, or that there is a number, and how many sentences are left out.

        Raises:
            UserError: the file is not in the cache and cannot be fetched.
        """
        entry, left_out = catalogue.find("movie_reviews"), self._rated.left_out
        distance = f"at most {self.config.neutral:g} from 0" if self.config.neutral else "0"
        note = f"{left_out} sentences whose mean rating is {distance} are left out: neither negative nor positive."
        return Info(
            features={"text": "text", **({"label": "class"} if self._by_sign else {"target": "number"})},
            classes=_CLASSES if self._by_sign else (),
            size=len(self._rated.texts),
            origin=f"{entry.origin}; {entry.licence}",
            notes=(note,) if left_out else (),
        )

    def index(self) -> Index:
        """Returns one row a sentence, named by its number in the file: `sentence-00001`."""
        return Index(
            names=[f"sentence-{int(number):05d}" for number in self._rated.numbers],
            labels=self._labels if self._by_sign else None,
            splits=[""] * len(self._rated.texts),
            truth=None if self._by_sign else [rating.tobytes() for rating in self._rated.ratings],
        )

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each sentence."""
        texts = self._rated.texts
        return [content_hash(texts[k]) for k in range(len(texts))]

    def example(self, k: Any) -> dict[str, Any]:
        """Returns sentence k: `text`, and `label` (0: negative, 1: positive) or `target`, `[1]` float32."""
        import tensorflow as tf

        with tf.init_scope():  # one constant, however often this is traced
            values = tf.constant(self._labels if self._by_sign else self._rated.ratings[:, None])
        return {"text": self._rated.texts.read(k), "label" if self._by_sign else "target": tf.gather(values, k)}

    @property
    def _by_sign(self) -> bool:
        return bool(self.config.label == "sentiment")

    @property
    def _labels(self) -> "np.ndarray":
        import numpy as np

        return (self._rated.ratings > 0).astype(np.int64)

    @functools.cached_property
    def _rated(self) -> _Rated:
        import numpy as np

        numbers, ratings, builder, left_out = [], [], TextsBuilder(), 0
        for line in lines(fetch("movie_reviews")):
            number, rating, text = line.rstrip("\r\n").split("\t")
            if self._by_sign and abs(float(rating)) <= self.config.neutral:
                left_out += 1
                continue
            numbers.append(number)
            ratings.append(float(rating))
            builder.append(text.encode())
        return _Rated(numbers=numbers, texts=builder.build(), ratings=np.array(ratings, np.float32), left_out=left_out)
