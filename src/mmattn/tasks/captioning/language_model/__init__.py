"""A language model of transformers as the caption decoder (captions=hf)."""
