"""From verbs to runs: the command line, recipes, training, energy."""

from common.run.config import config_dict, dump, in_range, load_config
from common.run.verbs import Run, Task, main, open_run

__all__ = ["Run", "Task", "config_dict", "dump", "in_range", "load_config", "main", "open_run"]
