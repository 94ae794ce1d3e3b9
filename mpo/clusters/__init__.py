"""Running a recipe's stages on many machines: the same pieces of work, done by a cluster's workers."""
