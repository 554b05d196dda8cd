"""What the notebooks ask, each study a few modules on top of all others."""
