"""The analysis of notebooks `06d`, `06e` and `06f`: dictionaries of activations whose features are known."""
