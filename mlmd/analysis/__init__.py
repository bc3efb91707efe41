"""What is measured on trajectories: errors (`compare`), conservation (`conservation`), figures (`plots`)."""
