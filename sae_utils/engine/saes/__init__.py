"""Sparse autoencoders: training, released formats, codes, quality, and stored correlations."""
