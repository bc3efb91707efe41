"""What a user runs. The folder is the data flow: generate → train → rollout → report."""
