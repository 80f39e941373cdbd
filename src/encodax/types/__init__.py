"""Arrays that travel between the rooms: batches, outputs, inspections."""
