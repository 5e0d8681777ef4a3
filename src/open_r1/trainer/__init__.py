"""TRL's GRPOTrainer for rows that are conversations with images. Importing this package loads torch and trl."""
