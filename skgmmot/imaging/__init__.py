"""Images that descend energies of mixtures fitted to their features."""
