"""Compare the features of sparse autoencoders of two language models; `README.md` shows how data flow through it."""

from sae_utils.engine.core import cpu, startup

startup.need_temporary()
cpu.pin()  # before torch and numpy load
startup.preload(cpu.COMPILED)  # in child processes, which may load torch before this package
startup.keep_kernels()  # before numba loads
