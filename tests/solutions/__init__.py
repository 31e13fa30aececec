"""Right solutions of the exercises."""
