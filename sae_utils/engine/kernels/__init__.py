"""Compiled kernels that correlate all features of two SAEs, rank them, and assign partners."""
