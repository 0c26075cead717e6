"""What a person keeps: tables, scripts and notebooks, checkpoints with their cards, mergekit's files."""
