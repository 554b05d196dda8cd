"""One notebook: published_tables."""
