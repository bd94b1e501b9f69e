"""Pickles from anybody: text, numbers, lists, mappings and arrays of them; nothing that a file names is run."""

import pickle
from typing import IO, Any

from common.run.errors import UserError

KNOWN = {("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numpy", "ndarray"), ("numpy", "dtype")}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module.rpartition(".")[2], name) not in KNOWN or module.partition(".")[0] != "numpy":
            raise pickle.UnpicklingError(f"{module}.{name} is no array of text or numbers")
        return super().find_class(module, name)


def read_pickle(file: IO[bytes], at: object) -> Any:
    """The value in an open file. Raises UserError, beginning with `at`, for any other or a damaged file."""
    try:
        return _Plain(file).load()
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise UserError(f"{at}: not a readable pickle of plain values ({type(error).__name__}: {error})") from None
