"""One notebook: models_and_dictionaries."""
