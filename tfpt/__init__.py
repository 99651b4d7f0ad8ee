"""tfpt: transfer learning for TensorFlow and Keras 3, from a folder of data to a served model."""

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "fit": "tfpt.run",
    "load": "tfpt.trained_run",
    "Run": "tfpt.run",
    "Servable": "tfpt.serving.servable",
    "Experiment": "tfpt.config",
    "UserError": "tfpt.errors",
    "Task": "tfpt.tasks",
    "Backbone": "tfpt.backbones",
    "DataSource": "tfpt.data",
    "Op": "tfpt.augment",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: `import tfpt` is instant and brings no TensorFlow (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfpt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
