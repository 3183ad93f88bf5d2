"""How answers and tables look: in a cell, in a saved file, at a terminal."""
