"""Plans: what should run, as pure values. No torch, no transformers, no pandas."""
