"""What makes a trained model useful: each method continues one."""
