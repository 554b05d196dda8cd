"""Similarity scores under a null, and the result of a score against it (z, p, excess)."""
