"""What ``stretch doctor`` finds out: facts about the machine and the installation, and self-tests."""
