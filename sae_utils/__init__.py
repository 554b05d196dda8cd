"""Small shared package behind the notebooks; `README.md` shows how data flow through its modules."""

from sae_utils.sources import keep_kernels

keep_kernels()  # before numba is imported
