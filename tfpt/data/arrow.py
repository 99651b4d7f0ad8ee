"""`--data=arrow:PATH`: what `save_to_disk` of the datasets library of Hugging Face wrote; that library is not needed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.data._arrow_rows import ArrowRows, features_of, import_pyarrow
from tfpt.data._files import Files, raise_missing
from tfpt.data._split_choice import named_splits
from tfpt.data._table import TableFile
from tfpt.data._tagged_table import TaggedTableSource
from tfpt.data._utf8 import json_value
from tfpt.errors import UserError

if TYPE_CHECKING:
    import pyarrow

_LIST, _STATE = "dataset_dict.json", "state.json"


class Arrow(TaggedTableSource):
    """A folder that `save_to_disk` of the datasets library wrote, with one data set, or with train, validation and test."""

    name = "arrow"

    def find(self) -> Files:
        """Finds the data sets: each is a folder with a state.json; where there are several, dataset_dict.json lists them."""
        where, path = f"--data=arrow:{self.argument}", Path(self.argument).expanduser().absolute()
        if not self.argument:
            raise UserError("--data=arrow needs a path; write --data=arrow:PATH, a folder that save_to_disk wrote.")
        if not path.is_dir():
            if path.exists():
                raise UserError(f"{where} is a file; give the folder that save_to_disk wrote.")
            raise_missing(where, path)
        if (path / _STATE).is_file():
            return Files(files=((path, ""),))
        if not (path / _LIST).is_file():
            raise UserError(f"{where} holds neither {_LIST} nor {_STATE}; give a folder that save_to_disk wrote.")
        return named_splits(_listed(path / _LIST, "splits"), root=path, where=where)

    def open(self, path: Path) -> TableFile:
        """Opens one data set; all its .arrow files are one table."""
        import_pyarrow("arrow")
        import pyarrow

        if not (path / _STATE).is_file():
            raise UserError(f"{path} has no {_STATE}, though {path.parent / _LIST} lists it; copy the folder again.")
        shards = [path / str(file.get("filename")) for file in _listed(path / _STATE, "_data_files")]
        if json_value(path / _STATE).get("_indices_data_files"):
            raise UserError(f"{path} holds rows in another order than they are used; load it and save it again.")

        def batches(columns: Sequence[str]) -> "Iterator[pyarrow.RecordBatch]":
            for shard in shards:
                with pyarrow.memory_map(str(shard)) as file, pyarrow.ipc.open_stream(file) as reader:
                    for batch in reader:
                        yield batch.select(list(columns))

        try:
            with pyarrow.memory_map(str(shards[0])) as file, pyarrow.ipc.open_stream(file) as reader:
                schema = reader.schema
        except (OSError, pyarrow.ArrowException) as error:
            reason = str(error).rstrip(".").splitlines()[0]
            raise UserError(f"{shards[0]} cannot be read as Arrow: {reason}.") from error
        return ArrowRows(str(path), schema.names, batches, features_of(schema.metadata))


def _listed(path: Path, key: str) -> list[Any]:
    """Returns a list of a JSON file; at least one entry."""
    value = json_value(path)
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list) or not found:
        raise UserError(f"{path} lists no {key}; it is not as save_to_disk writes it.")
    return found
