"""`--data=digits`: 1,797 handwritten digits of 8x8 pixels that ship with scikit-learn; nothing is downloaded."""

import functools
import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfpt.data import DataSource, Index, Info
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@functools.cache
def _load() -> tuple[tuple[bytes, ...], "np.ndarray"]:
    """Returns the digits as PNG files, and their labels `[examples]` int64."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    files = []
    for values in np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG")
        files.append(file.getvalue())
    return tuple(files), labels.astype(np.int64)


class Digits(DataSource):
    """The test part of the Optical Recognition of Handwritten Digits data set (Alpaydin and Kaynak, 1998, UCI)."""

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if argument:
            raise UserError(f"--data=digits:{argument}: digits takes no argument; write --data=digits.")

    def info(self) -> Info:
        """Returns the ten classes and the number of examples."""
        return Info(
            features={"image": "image", "label": "class"},
            classes=tuple("0123456789"),
            size=len(_load()[0]),
            origin="Handwritten digits of scikit-learn (UCI, Optical Recognition of Handwritten Digits, CC BY 4.0)",
        )

    def index(self) -> Index:
        """Returns one row a digit, named `digit-0000`, `digit-0001`, ..."""
        files, labels = _load()
        return Index(names=tuple(f"digit-{k:04d}" for k in range(len(files))), labels=labels, splits=("",) * len(files))

    def digests(self) -> Sequence[bytes]:
        """Returns a hash of each digit's pixels, the same whatever wrote the PNG files."""
        from sklearn.datasets import load_digits

        return [hashlib.blake2b(v.astype("uint8").tobytes(), digest_size=16).digest() for v in load_digits().data]

    def example(self, k: "Any") -> dict[str, Any]:
        """Returns digit k: `image`, a PNG file, and `label`."""
        import tensorflow as tf

        files, labels = _load()
        with tf.init_scope():  # one constant, however often this is traced
            images, classes = tf.constant(files), tf.constant(labels)
        return {"image": tf.gather(images, k), "label": tf.gather(classes, k)}
