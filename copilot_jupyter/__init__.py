"""A notebook that keeps its conversation."""
