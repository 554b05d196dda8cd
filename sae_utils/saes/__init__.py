"""Sparse autoencoders: trained here or released by others, how good they are, and what their features fire on."""
