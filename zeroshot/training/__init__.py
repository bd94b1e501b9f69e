"""A recipe's network, trained on training classes only and chosen on validation classes."""
