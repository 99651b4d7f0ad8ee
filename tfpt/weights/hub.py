"""Takes a model's files from the Hugging Face hub, or from the cache that Hugging Face's own tools keep on this machine."""

import hashlib
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tfpt.weights.catalogue import Hub
from tfpt.weights.download import download, download_json
from tfpt.weights.package_index import SourceError

SINGLE = ("model.safetensors", "pytorch_model.bin", "tf_model.h5")
"""The files that may hold the tensors; each may be cut into several, listed in FILE.index.json."""
COMMIT = "commit.txt"
"""The file of a fetched folder that says which commit of the repository it is."""
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "spm.model", "tokenizer.model"),
)
_WANTED = ("config.json", *_TOKENIZER, "sentence_bert_config.json", "1_Pooling/config.json")


def take(source: Hub, folder: Path, *, commit: str = "", say: Callable[[str], None] | None = None) -> None:
    """Writes config.json, the tokenizer and one kind of weights of a repository into a new folder.

    The environment variables HF_ENDPOINT (a mirror of the hub) and HF_TOKEN (for private models) are obeyed.

    Args:
        source: the repository.
        folder: is made.
        commit: the commit to take; empty: the one that the source's revision means now.
        say: told what is downloaded.

    Raises:
        SourceError: the hub does not answer, has no such model, or what came is not what it says it has.
    """
    hub = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    token = os.environ.get("HF_TOKEN", "")
    revision = urllib.parse.quote(commit or source.revision, safe="")
    info = download_json(f"{hub}/api/models/{source.repository}/revision/{revision}?blobs=true", token=token)
    try:
        there: dict[str, Mapping[str, Any]] = {file["rfilename"]: file for file in info["siblings"]}
        commit = info["sha"]
        if not re.fullmatch("[0-9a-f]{7,64}", commit):
            raise ValueError(commit)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError("its answer is not the hub's") from error

    def bring(name: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = there[name].get("size") or 0
        if say is not None and size > 10e6:
            say(f"  {name} ({size / 1e6:.0f} MB)")
        download(f"{hub}/{source.repository}/resolve/{commit}/{urllib.parse.quote(name)}", path, token=token)
        _check(path, there[name])
        return path

    folder.mkdir(parents=True)
    for name in _wanted(there, bring):
        if not (folder / name).exists():
            bring(name)
    (folder / COMMIT).write_text(f"{commit}\n", encoding="utf-8")


def cached(source: Hub, *, commit: str = "") -> Path | None:
    """Returns the folder of a repository in the cache of Hugging Face's own tools, if it is there.

    Layout: huggingface_hub's documentation, "Understand caching".
    """
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
    repository = hub / f"models--{source.repository.replace('/', '--')}"
    try:
        commit = commit or (repository / "refs" / source.revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = source.revision
    folder = repository / "snapshots" / commit
    return folder if (folder / "config.json").is_file() else None


def commit_of(folder: Path) -> str:
    """Returns which commit of its repository a folder is; empty when nobody knows."""
    try:
        return (folder / COMMIT).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def copy(snapshot: Path, folder: Path) -> None:
    """Copies what `take` would take from a folder on this machine: one that `cached` found, or a clone.

    Raises:
        SourceError: it is not whole.
    """
    there = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    for name in _wanted(there, lambda name: snapshot / name):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(snapshot / name, folder / name)
    if commit := commit_of(snapshot) or (snapshot.name if snapshot.parent.name == "snapshots" else ""):
        (folder / COMMIT).write_text(f"{commit}\n", encoding="utf-8")


def _wanted(there: Collection[str], bring: Callable[[str], Path]) -> list[str]:
    """Returns which files of a repository are wanted: of several kinds of weights, only the first.

    Raises:
        SourceError: it is no repository of a model.
    """
    weights: list[str] = []
    for name in SINGLE:
        index = f"{name}.index.json"
        if name in there:
            weights = [name]
        elif index in there:
            try:
                weights = [
                    index,
                    *sorted(set(json.loads(bring(index).read_text(encoding="utf-8"))["weight_map"].values())),
                ]
            except (ValueError, KeyError, AttributeError) as error:
                raise SourceError(f"its {index} is no list of weights") from error
        if weights:
            break
    missing = {"config.json", *weights} - set(there)
    if missing or not weights:
        raise SourceError(f"it has no {sorted(missing)[0] if missing else ', '.join(SINGLE)}")
    return [*(name for name in _WANTED if name in there), *weights]


def _check(path: Path, said: Mapping[str, Any]) -> None:
    """Compares a file with what the hub says of it; for large files it gives their SHA-256."""
    size, digest = said.get("size"), (said.get("lfs") or {}).get("sha256")
    if size is not None and path.stat().st_size != size:
        raise SourceError(f"{path.name} has {path.stat().st_size} bytes, not {size}")
    if digest:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise SourceError(f"{path.name} is not the published file (its SHA-256 differs)")
