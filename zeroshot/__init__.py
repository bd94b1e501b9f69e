"""Zero-shot audio tagging and classification by class descriptions (Primus & Widmer, EUSIPCO 2022)."""
