"""What the notebooks of this paper import; `README.md` shows how data flow through its modules."""

from sae_utils.engine.core import cpu, sources

sources.need_temporary()
cpu.pin()  # before torch and numpy load
sources.keep_kernels()  # before numba does
