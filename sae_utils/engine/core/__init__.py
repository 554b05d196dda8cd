"""What everything rests on: arrays, files, digests of code, records of a profile, the pinned CPU."""
