"""A module of the HEAR benchmark's API for each model: `common.encoders.hear_api.beats`, `...hear_api.atst_f`.

Their names are those of the models with `_` for `-`; all have `load_model`, `get_scene_embeddings` and
`get_timestamp_embeddings` of `common.encoders.hear`. Importing one imports this package, which registers them all.
"""

import sys
from functools import partial, update_wrapper
from types import ModuleType

from common.encoders import hear, names


def _module(model: str) -> ModuleType:
    module = ModuleType(f"{__name__}.{model.replace('-', '_')}", f"The HEAR API of {model}.")
    load_model = update_wrapper(partial(hear.load_model, name=model), hear.load_model)
    functions = (hear.get_scene_embeddings, hear.get_timestamp_embeddings)
    vars(module).update(load_model=load_model, **{of.__name__: of for of in functions})
    return module


for _name in names():
    _made = _module(_name)
    sys.modules[_made.__name__] = _made
    globals()[_made.__name__.rpartition(".")[2]] = _made
