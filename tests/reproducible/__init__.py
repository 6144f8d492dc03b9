"""Every package of `packages/` built twice, in circumstances that differ: the same bytes must come out."""
