"""Scripts beside the verbs: python -m task4_sed.tools.NAME."""
