"""Files that come from elsewhere: YAML, the hub, and the headers of files of weights."""
