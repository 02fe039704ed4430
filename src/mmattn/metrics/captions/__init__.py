"""Caption metrics: BLEU, ROUGE-L, CIDEr-D, METEOR and word accuracy."""
