"""What tests/test_readme.py does with the commands of the zero-shot folder."""

DATA = "data/zeroshot/toy"
REAL_DATA = (r"data\.root=/path/to/[\w-]+", f"data.root={DATA}")

# pattern, how, why, changes
RULES = (
    (r"make zeroshot-train RECIPE=(audioset|esc50|openmic)_.*", "settings", "needs AudioSet", ()),
    (r"make zeroshot-\S+( .*)?", "run", "tiny data and network", (REAL_DATA,)),
    (r"python -m zeroshot benchmark", "run", "an instant a stage", ((r"$", " --seconds 0.02"),)),
    (r"python -m zeroshot \w+( .*)?", "run", "tiny data and network", (REAL_DATA,)),
)

TINY = f"extends: zeroshot/tests/tiny.yaml\ndata: {{root: {DATA}}}\n"
RECIPES = {
    "toy": TINY + "texts: {encoder: tfidf, dims: 16}\n",
    "toy_folds": TINY + "split: {protocol: random, files: [], folds: 2, validation: 2}\n",
    "esc10_dictionary": f"extends: zeroshot/tests/tiny.yaml\ndata: {{root: {DATA}, sample_rate: 16000}}\n"
    "split: {protocol: random, files: [], folds: 2}\nencoder: {name: dictionary, finetune: true}\n"
    "model: {compatibility: eszsl}\ncheckpoint: last\n",
}

EXPECTED = (
    *(f"toy/{name}" for name in ("run1/plots", "run1/near/predictions/test.csv", "comparison.png", "distance.png")),
)
