"""Who is signed in to GitHub, in and out, in the runtime's own words and files."""
