"""What a person types and sees in a notebook or a terminal."""
