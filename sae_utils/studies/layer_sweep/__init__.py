"""The analysis of notebook `layer_sweep`: similarity of all layer pairs of two models."""
