"""The analysis of notebook `published_tables`: the published procedure, and the effect of each correction."""
