"""What the audit is made of: statistics of clips, probes that score shortcuts, copies across splits, the verdict."""
