"""Correlation of two sets of features, and who is paired with whom. Arrays in, arrays out."""
