"""Objects that were given in Python, told apart by what they hold, as names and settings tell other components apart."""

import dataclasses
import hashlib
import re

from tfpt.backbones import Backbone
from tfpt.config import Component
from tfpt.data import DataSource


def identified(component: Component) -> Component:
    """Returns a component with a digest of what its object holds behind the class: `object:GivenFrames@1a2b3c4d`.

    A run is then not taken for that of another object of the class. The digest is of settings and argument, of a source's contents,
    labels and splits in any order, and of a Keras model's layers and weights. One that was chosen by name, or holds nothing of this, stays as it
    is; one that has a digest already gets it anew.
    """
    given = component.instance
    config = getattr(given, "config", None)
    if given is None:
        return component
    if isinstance(given, DataSource):
        held = _contents(given)
    elif isinstance(given, Backbone):
        held = given.identity()
    else:
        held = str(getattr(given, "argument", "")).encode(errors="replace")
    try:
        usual = config is None or config == type(config)()
    except TypeError:  # a setting without a default
        usual = False
    if usual and not held:
        return component
    name = re.sub(r"^(\w+|.*@[0-9a-f]{8})@[0-9a-f]{8}$", r"\1", component.argument)  # a function's own digest stays
    digest = hashlib.sha256(held + (b"" if usual else repr(config).encode(errors="replace")))
    return dataclasses.replace(component, argument=f"{name}@{digest.hexdigest()[:8]}")


def _contents(source: DataSource) -> bytes:
    from tfpt.training.data_record import labels_of

    digests, index = source.digests(), source.index()
    classes, *labels = labels_of(source.info(), index)
    labels = labels or [b""] * len(digests)
    rows = [
        b"".join((digest, label, split.encode()))
        for digest, label, split in zip(digests, labels, index.splits, strict=True)
    ]
    return hashlib.sha256(classes + b"".join(sorted(rows))).digest()
