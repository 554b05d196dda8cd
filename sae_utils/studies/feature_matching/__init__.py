"""One notebook: feature_matching."""
