"""The tools of the kernel: what the model may look at and do, and the leave it needs."""
