"""Access: who may see and do what, by tokens and roles."""
