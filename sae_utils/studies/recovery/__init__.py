"""The analysis of notebook `06d`: SAEs trained on activations whose features are known."""
