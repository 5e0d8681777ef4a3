"""What a model makes of rows before it is trained on them: which teach, what they cost, whether they need eyes."""
