"""How the bundled model was made: tokenizer, data, training and evaluation."""
