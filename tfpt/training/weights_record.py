"""weights.json: a digest of the weights that each trunk began with, so that a later run can be told to have had the same."""

import hashlib

import numpy as np

from tfpt.training.assembly import Assembly

FILE = "weights.json"


def describe(assembly: Assembly) -> dict[str, str]:
    """Returns trunk name -> SHA-256 over shapes, dtypes and values of its variables, in their order."""
    found = {}
    for name, trunk in assembly.trunks.items():
        whole = hashlib.sha256()
        for variable in trunk.network.variables:
            values = np.ascontiguousarray(variable.numpy())
            whole.update(f"{values.shape} {values.dtype.name};".encode())
            whole.update(values.reshape(-1).view(np.uint8).data)
        found[name] = whole.hexdigest()
    return found
