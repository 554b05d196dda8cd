"""One notebook: known_truth."""
