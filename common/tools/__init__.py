"""Scripts for people who want to check claims: python -m common.tools.NAME."""
