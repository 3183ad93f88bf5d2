"""The session picker: a widget, and the cell that it runs in."""
