"""One person's session: model, plan, texts, and the address that restores them."""
