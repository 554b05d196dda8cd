"""What the sections of a profile may hold."""
