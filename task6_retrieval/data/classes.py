"""Fixed quantities of the data sets: retrieval has captions in place of classes."""

# Clips of a part (Clotho 2.1, AudioCaps 1.0, WavCaps as published).
OFFICIAL_CLIPS = {
    "clotho_development": 3839,
    "clotho_validation": 1045,
    "clotho_evaluation": 1045,
    "audiocaps_train": 49_838,
    "audiocaps_val": 495,
    "audiocaps_test": 975,
    "wavcaps_freesound": 262_300,
    "wavcaps_bbc": 31_201,
    "wavcaps_soundbible": 1_232,
    "wavcaps_audioset": 108_317,
}
# Files of WavCaps' AudioSet part that are broken as published.
BROKEN = frozenset(("Y06-g5jz-OGc", "Y3sSblRfEG2o", "YFli8wjBFV2M", "YVcu0pVF1npM", "YWudGD6ZHRoY", "YmW3S0u8bj58"))
