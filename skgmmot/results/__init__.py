"""What functions and estimators hand back that answers questions itself."""
