"""Files: errors, whole-or-nothing writing, the journal of a run. Knows nothing of pictures."""
