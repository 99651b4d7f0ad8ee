"""Reads tf_model.h5, as Transformers' TensorFlow classes saved it, under the names that their torch classes use.

Names and layout: `load_tf2_weights_in_pytorch_state_dict` in Transformers 4, modeling_tf_pytorch_utils.py.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfpt.errors import UserError


class TransformersH5(Mapping[str, np.ndarray]):
    """The tensors of a file by torch's name (`bert.pooler.dense.weight`); each is read when it is asked for.

    Raises:
        UserError: the file is missing, cut off or no HDF5 file.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self._path = path
        self._stored: dict[str, str] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                self._stored[_torch_name(name)] = name

        try:
            with h5py.File(path) as file:
                file.visititems(note)  # it follows no links, so nothing outside the file is read
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: this is no HDF5 file, or it is cut off; fetch it again.") from error

    def __getitem__(self, name: str) -> np.ndarray:
        import h5py

        stored = self._stored[name]
        try:
            with h5py.File(self._path) as file:
                values = np.asarray(file[stored])
        except (OSError, RuntimeError) as error:
            raise UserError(f"{self._path}: {stored} cannot be read; fetch the file again.") from error
        if stored.endswith("/kernel:0") and values.ndim == 2:
            return values.T
        return values[0] if stored.endswith("/bias:0") and values.ndim == 2 else values  # GPT-2's are one row

    def __iter__(self) -> Any:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _torch_name(stored: str) -> str:
    """Turns `bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0` into what torch calls it.

    The first part is Keras' name for the top layer, the second the model's, and `_._` stands before a list's index.
    """
    parts = stored.removesuffix(":0").split("/")
    name = ".".join(parts[min(2, len(parts) - 1) :]).replace("_._", ".")
    return re.sub(r"(?<=\.)(kernel|embeddings|gamma)$", "weight", re.sub(r"(?<=\.)beta$", "bias", name))
