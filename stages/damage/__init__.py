"""What happens to recordings on their way: cut short, coded, drowned in noise. For the robustness stage."""
