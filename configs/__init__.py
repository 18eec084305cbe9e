"""Training configurations, one YAML a shipped model."""
