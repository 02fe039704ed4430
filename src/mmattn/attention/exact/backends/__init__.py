"""Ways to compute the same exact attention: on all pairs, on gathered blocks, by fused kernels."""
