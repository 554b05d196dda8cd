"""Sparse autoencoders: trained here or released by others, what they fire on, and how good they are."""
