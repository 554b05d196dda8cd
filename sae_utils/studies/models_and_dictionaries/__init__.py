"""The analysis of notebook `models_and_dictionaries`: models and SAEs of a profile, and the positive control."""
