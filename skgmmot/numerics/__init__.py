"""What several rooms calculate with: threads, packing, linear systems."""
