"""What notebooks and users do not need to read: text, models, SAEs, kernels, geometry, the build."""
