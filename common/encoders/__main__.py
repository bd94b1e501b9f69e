"""`python -m common.encoders`: the table of models. `... benchmark [MODEL ...]`: their speed. `... fetch NAME ...`:
published checkpoints into the cache. `... tags FILE ...`: what is heard in recordings. `... evaluate FOLDER`: how often
that is right, on a folder as of ESC-50. `... embed FILE ... --out FILE`: their embeddings. `... export --out FOLDER`:
an encoder as a folder for others."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.encoders import find, is_folder
from common.run.errors import UserError, did_you_mean
from common.run.processes import on_device
from common.run.verbs import device as _device
from common.run.verbs import release

VERBS = ("table", "benchmark", "fetch", "tags", "evaluate", "embed", "export")
EXAMPLES = """examples:
  python -m common.encoders --json
  python -m common.encoders benchmark beats-tiny --seconds 0.5
  python -m common.encoders fetch ATST-F_strong_1
  python -m common.encoders tags recording.wav --encoder yamnet
  python -m common.encoders evaluate /path/to/ESC-10 --device cpu
  python -m common.encoders embed recording.wav --model yamnet --out embeddings.npz
  python -m common.encoders export --model yamnet --out my-yamnet"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 after a user's error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m common.encoders",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = f"{', '.join(VERBS)} (default: table)"
    parser.add_argument("verb", nargs="?", default="table", metavar="VERB", help=verbs)
    text = "models to measure (default: one of each family), checkpoints to fetch, audio files, or a folder"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each figure of the benchmark (default: 2)")
    text = "of tags, evaluate, embed, export: a model, or a folder that export wrote (default: yamnet)"
    parser.add_argument("--model", "--encoder", dest="encoder", default="yamnet", metavar="NAME", help=text)
    text = "of embed, export: weights by name, file or address (default: those that a package has, else random ones)"
    parser.add_argument("--checkpoint", help=text)
    text = "where embeddings (.npz or .h5) or the exported folder go"
    parser.add_argument("--out", type=Path, help=text)
    parser.add_argument("--frames", action="store_true", help="of embed: frames instead of one embedding of a file")
    parser.add_argument(
        "--licence", metavar="ID", help="of export: licence of the weights as the Hub spells it (cc-by-4.0)"
    )
    parser.add_argument("--push", metavar="OWNER/NAME", help="of export: upload to the Hugging Face Hub, too")
    parser.add_argument("--public", action="store_true", help="of export: with --push, where all may see it")
    text = "of evaluate: sentence encoder, by name or folder (default: all-MiniLM-L6-v2)"
    parser.add_argument("--text", default="all-MiniLM-L6-v2", help=text)
    parser.add_argument("--meta", type=Path, help="of evaluate: table of the recordings (default: FOLDER/meta.csv)")
    text = "of evaluate: table with category, tag, sentence (default: the ten classes of ESC-10)"
    parser.add_argument("--classes", type=Path, help=text)
    text = "where networks compute: cpu, cuda or cuda:N (default: a GPU where there is one)"
    parser.add_argument("--device", type=_device, metavar="DEVICE", help=text)
    parser.add_argument("--version", action="version", version=release())
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    options = parser.parse_intermixed_args(arguments)
    try:
        with on_device(options.device):
            result = _run(options)
        if options.json:
            print(json.dumps(result))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a missing permission: the machine's state, not a bug
        if error.errno is None:
            raise
        print(f"error: {os.fsdecode(error.filename or 'file system')}: {os.strerror(error.errno)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if options.verb == "embed":
            print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> Mapping[str, Any]:
    verb, chosen = options.verb, options.names
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}{did_you_mean(verb, VERBS)}")
    if verb == "table":
        from common.encoders.table import overview

        return overview()
    if verb == "fetch":
        return _fetch(chosen)
    if verb == "benchmark":
        chosen = [find(name) for name in chosen]
        from common.encoders.speed import benchmark

        return benchmark(chosen, options.seconds)
    if not is_folder(options.encoder):
        find(options.encoder)  # a misspelt word is told at once
    return {"embed": _embed, "export": _export}.get(verb, _listen)(options)


def _listen(options: argparse.Namespace) -> Mapping[str, Any]:
    from common.encoders import recordings

    if options.verb == "tags":
        return recordings.tags(options.encoder, options.names)
    if len(options.names) != 1:
        raise UserError(f"evaluate: {len(options.names)} folders are given, expected one")
    (folder,) = options.names
    return recordings.evaluate(options.encoder, Path(folder), options.meta, options.classes, options.text)


def _embed(options: argparse.Namespace) -> Mapping[str, Any]:
    from common.encoders.embeddings import check_out

    if not options.names:
        raise UserError("embed: no files are given")
    if options.out is None:
        raise UserError("embed: --out FILE.npz or FILE.h5 says where the embeddings go")
    check_out(options.out)
    from common.encoders.recordings import embed

    return embed(options.encoder, options.checkpoint, options.names, options.out, options.frames)


def _export(options: argparse.Namespace) -> Mapping[str, Any]:
    from common.run.export import check_export

    if options.names:
        raise UserError(f"export: unexpected argument {options.names[0]!r}; --model and --checkpoint say what")
    if options.out is None:
        raise UserError("export: --out FOLDER says where the folder goes")
    check_export(options.out, options.push, options.public)
    from common.encoders import create, export

    encoder = create(options.encoder, options.checkpoint)
    return export(encoder, options.out, licence=options.licence, push=options.push, public=options.public)


def _fetch(chosen: Sequence[str]) -> Mapping[str, Any]:
    """{checkpoint: where it lies and its SHA-256}."""
    from common.encoders import checkpoints

    by_name, found = {name.casefold(): entry for name, entry in checkpoints.catalogue().items()}, {}
    for name in chosen:
        if name.casefold() not in by_name:
            raise UserError(f"unknown checkpoint {name!r}{did_you_mean(name, checkpoints.catalogue())}")
        path, digest = checkpoints.have(by_name[name.casefold()])
        found[name] = {"file": str(path), "sha256": digest}
        print(f"{name}: {path}")
    return found


if __name__ == "__main__":
    sys.exit(main())
