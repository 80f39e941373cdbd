"""Model inspection: attention, attribution, and predictions of each layer."""
