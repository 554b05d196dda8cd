"""One notebook: semantic_subspaces."""
