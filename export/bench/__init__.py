"""`vit-export bench`: how fast, against what else, and which of the paper's claims hold."""
