"""Jobs, files and ranks: what a batch framework needs, and no word of physics."""
