"""Pre-trained weights that a package of the index carries: found, verified, read. No code of such a package is run.

An address is `package:<distribution>==<version>/<file>`, the file as the package installs it.
"""

import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.run.errors import UserError
from common.run.files import sha256

SCHEME = "package:"
INSTALL = '`make setup`, or `pip install ".[ears]"` in the checkout'


def find(address: str, expected: str) -> Path:
    """The file of an address. Raises UserError where the package is absent or of another version, and for a file with
    another SHA-256 than `expected`."""
    package, _, name = address.removeprefix(SCHEME).partition("/")
    distribution, _, version = package.partition("==")
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        raise UserError(f"{Path(name).name}: needs the package {package}, which is not installed: {INSTALL}") from None
    if found.version != version:
        raise UserError(f"{name}: the package {distribution} is {found.version}, expected {version}: {INSTALL}")
    path = Path(str(found.locate_file(name)))
    if not path.is_file():
        raise UserError(f"{path}: missing, although {package} is installed: install it again")
    if (digest := sha256(path)) != expected:
        raise UserError(f"{path}: SHA-256 is {digest}, expected {expected}: install {package} again")
    return path


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The float weights of a zip with one ONNX model, by the names of its initialisers.

    Scales of QuantizeLinear and DequantizeLinear, which only simulate fewer bits, are left out. Raises UserError for
    what is no such file.
    """
    from onnx import numpy_helper

    graph = open_onnx(path).graph
    scales = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    arrays = {of.name: numpy_helper.to_array(of) for of in graph.initializer if of.name not in scales}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if array.dtype.kind == "f"}


def open_onnx(path: Path) -> Any:
    """The ONNX ModelProto in a zip, with the data that lies beside it. Raises UserError for what is no such file."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
            (model,) = Path(folder).rglob("*.onnx")
            return onnx.load(model)
        except Exception as error:  # protobuf's own ones too
            raise UserError(f"{path}: not a zip with one ONNX model ({error})") from None
