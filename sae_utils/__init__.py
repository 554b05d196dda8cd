"""What the notebooks of this paper import; `README.md` shows how data flow through its modules."""

from sae_utils.engine.core import cpu, startup

startup.need_temporary()
cpu.pin()  # before torch and numpy load
startup.keep_kernels()  # before numba loads
