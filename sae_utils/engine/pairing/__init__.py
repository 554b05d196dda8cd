"""What a matching is built from and what is made of one."""
