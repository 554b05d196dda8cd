"""Files that come from elsewhere: YAML, archives, the hub."""
