"""The challenge's rules of a meta file, by edition."""

from common.run.marked_yaml import read_marked
from common.run.submission import rules as common
from common.run.submission.rules import Rule, is_count, is_number, is_text, is_words, or_null
from common.run.submission.violations import Violation, in_order
from task6_retrieval.submission.meta import EDITIONS, FORM, SYSTEMS

AT = "system.description"
WORDS = ("acoustic_features", "loss_function", "optimizer", "audio_augmentation", "text_augmentation")
DATA = tuple(f"training_data_{of}" for of in ("audio_encoder", "text_encoder", "retrieval"))
DESCRIPTION = (
    Rule(f"{AT}.input_sampling_rate", is_number, "Hz"),
    Rule(f"{AT}.input_sampling_rate", lambda value: value > 0, "{key} is {value}, expected more than 0", "meta-range"),
    *(Rule(f"{AT}.{name}", is_text, "text") for name in ("audio_modelling", "text_modelling")),
    *(Rule(f"{AT}.{name}", is_words, "null, text or a list of texts") for name in (*WORDS, *DATA)),
    *(Rule(f"{AT}.{name}", or_null(is_number), "a number, or null") for name in ("learning_rate", "weight_decay")),
    Rule(f"{AT}.gradient_clipping", or_null(is_number), "a number, or null"),
    Rule(f"{AT}.ensemble_size", is_count, "a whole number above 0"),
    Rule("system.complexity.total_parameters", is_count, "a whole number above 0"),
)


def label_problem(label: str, edition: int) -> str | None:
    """What is wrong with a system's label, or None."""
    return common.label_problem(label, EDITIONS[edition].task, SYSTEMS)


def check_meta(text: str, label: str, file: str, edition: int) -> list[Violation]:
    """All violations in the text of a meta file; label: the name of its folder, file: for the messages."""
    meta = read_marked(text, file)
    if meta.root is None:
        return meta.found
    keys = [("results", "development_testing", name) for name in EDITIONS[edition].results]
    outside = "{key} is {value:g}, expected a share, 0 to 1"
    results = [Rule(key, is_number, "a share, 0 to 1") for key in keys]
    results += [Rule(key, lambda value: 0 <= value <= 1, outside, "meta-range") for key in keys]
    shared = (*common.naming_rules(label), *common.author_rules(FORM), *common.dataset_rules(FORM))
    common.check_rules(meta, (*shared, *DESCRIPTION, *common.SOURCE_RULES, *results))
    common.check_corresponding(meta, FORM)
    return in_order(meta.found)
