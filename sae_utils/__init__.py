"""What the notebooks of this paper import."""

from sae_utils import cpu

cpu.pin()  # before torch and numpy load
