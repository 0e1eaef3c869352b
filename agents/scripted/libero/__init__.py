"""LIBERO's scripted expert: goals read as predicates, objects as collision geometry, motion through the normal actions."""
