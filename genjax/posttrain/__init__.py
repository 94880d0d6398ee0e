"""Post-training: methods that train a trained model further."""
