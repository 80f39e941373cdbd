"""Pictures of arrays, and pages of HTML to show them on. It knows types, and nothing of models."""
