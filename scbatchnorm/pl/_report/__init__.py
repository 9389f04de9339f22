"""What was found about an integration, as a page that can be handed on."""
