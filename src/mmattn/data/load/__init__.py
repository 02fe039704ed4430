"""Read clips and make batches of them."""
