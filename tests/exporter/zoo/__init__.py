"""Recurrent graphs as others make them: recipes, what they are built into, and their answers."""
