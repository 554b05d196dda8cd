"""One notebook: layer_sweep."""
