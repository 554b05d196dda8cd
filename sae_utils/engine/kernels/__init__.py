"""Compiled kernels of correlation and assignment."""
