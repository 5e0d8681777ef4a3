"""The accuracy method `llm`: a model judges an answer."""
